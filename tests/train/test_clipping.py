"""What lies outside a policy's tokens is counted, and said before either stage starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlco.data.normalise import Codec
from rlco.recipes import stages
from rlco.recipes.stages import Demonstrations
from rlco.train.clipping import clipped_line, clipped_shares
from rlco.train.pretrain import BASE_CODEC
from rlco.train.rl_config import RLConfig
from rlco.train.sft import SFTConfig
from tests.train.samples import CODEC, small, write_pair


def actions(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def test_a_number_is_clipped_where_it_is_outside_the_range_and_not_at_its_end() -> None:
    policy = small("openvla-tiny")  # the range is [-0.05, 0.05]
    given = actions([0.05, -0.05, 0.0, 0.0501, -0.0501, 0.0, 1.0])
    assert policy.clipped(torch.from_numpy(given)).tolist() == [[False] * 3 + [True, True, False, True]]


def test_a_flow_clips_nothing() -> None:
    assert not clipped_shares(small("pi05-tiny"), [actions([9.0] * 7)], [1.0]).any()


def test_the_share_is_that_of_what_is_drawn() -> None:
    inside, half = actions([0.0] * 7), actions([0.1] + [0.0] * 6, [0.0] * 7)
    shares = clipped_shares(small("openvla-oft-tiny"), [inside, half], [0.25, 0.75])
    np.testing.assert_allclose(shares, [0.75 * 0.5] + [0.0] * 6)


def test_the_line_names_the_dimensions_and_there_is_none_where_nothing_is_clipped() -> None:
    said = clipped_line(np.array([0.07, 0.0, 0.0, 0.0, 0.0, 0.0, 0.35]))
    assert said is not None
    assert said.startswith("actions: 6.0% of the numbers are outside")
    assert said.endswith(": dx 7.0%, gripper 35.0%")
    assert clipped_line(np.zeros(7)) is None


@pytest.mark.parametrize("kind", ["openvla-tiny", "pi05-tiny"])
def test_the_stage_says_it_before_it_starts_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    _, real = write_pair(tmp_path)
    figures = stages.sft(
        tmp_path / "sft",
        start=f"untrained:{kind}",
        demonstrations=Demonstrations(real=real.folder),
        config=SFTConfig(steps=1, batch_size=2),
    )
    codec: Codec = BASE_CODEC
    outside = float((codec.action.do(torch.as_tensor(real.action)).abs() > 1).float().mean())
    assert codec != CODEC
    assert outside > 0
    said = "actions: " in capsys.readouterr().err
    assert said == (kind == "openvla-tiny")
    assert figures["sft/clipped"] == pytest.approx(outside * said)


@pytest.mark.sim
def test_stage_two_says_it_of_the_real_demonstrations_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, real = write_pair(tmp_path)
    little = RLConfig(iterations=1, num_envs=2, decisions=2, minibatch=4, sft_batch_size=2)
    for beta in (1.0, 0.0):
        figures = stages.rl(
            tmp_path / f"rl{beta}",
            start="untrained:openvla-tiny",
            real=real.folder if beta else None,
            task_name="push-cube",
            config=replace(little, beta=beta),
        )
        outside = float((BASE_CODEC.action.do(torch.as_tensor(real.action)).abs() > 1).float().mean())
        assert outside > 0
        assert ("actions: " in capsys.readouterr().err) == bool(beta)
        assert figures.get("rl/clipped") == (pytest.approx(outside) if beta else None)
