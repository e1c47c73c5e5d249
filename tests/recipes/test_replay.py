"""A run that ended at a NaN is replayed from its dump by one command."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from rlco.cli import FAILED, OK, main
from rlco.recipes import dump, stages
from rlco.recipes.stages import Demonstrations
from rlco.train.nan_guard import NonFiniteLossError, ReplayEndedError, replaying
from rlco.train.rl_config import RLConfig
from rlco.train.sft import SFTConfig, run_sft
from tests.train.samples import EVERY_KIND, mixture, small, write_pair

WILD = SFTConfig(steps=9, batch_size=4, lr=1e18, warmup_steps=0, clip_grad=1e9, save_every=1, log_every=1)
"""Steps so long that activations soon are beyond what a float holds."""


@pytest.fixture
def dumped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the dump of a stage of supervised training, whose arguments were relative paths."""
    monkeypatch.chdir(tmp_path)
    write_pair(tmp_path)
    with pytest.raises(NonFiniteLossError, match=r"After step \d: .*Replay it: rlco replay run/nan-step") as raised:
        stages.sft(
            Path("run"), start="untrained:pi05-tiny", demonstrations=Demonstrations(real=Path("real")), config=WILD
        )
    found = re.search(r"nan-step\d{6}", str(raised.value))
    assert found is not None
    return tmp_path / "run" / found.group()


def test_a_replay_names_the_first_layer_and_changes_nothing_of_the_run(
    dumped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = int(dumped.name[-6:])
    assert step > 0
    assert [path.name for path in (dumped / "checkpoints").iterdir()] == [f"{step:06d}"]
    shutil.rmtree(tmp_path / "run" / "checkpoints")  # what retention may have done long ago
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    assert main(["replay", str(dumped)]) == OK
    out = capsys.readouterr().out
    assert re.search(
        rf"After step {step}: The output of layer 'network\.\S+' \(\w+\) is the first that is not finite; "
        "its inputs are (not )?finite, its weights are (not )?finite",
        out,
    )
    after = {path: path.stat().st_mtime_ns for path in before}
    assert after == before
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.sim
def test_a_stage_of_reinforcement_learning_is_replayed_in_its_worlds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pair(tmp_path)
    config = RLConfig(
        iterations=9, num_envs=2, decisions=2, minibatch=2, sft_batch_size=2, lr=1e18, clip_grad=1e9, save_every=1
    )
    with pytest.raises(NonFiniteLossError, match=r"Replay it: rlco replay run/nan-step") as raised:
        stages.rl(Path("run"), start="untrained:pi05-tiny", real=Path("real"), task_name="push-cube", config=config)
    found = re.search(r"run/nan-step(\d{6})", str(raised.value))
    assert found is not None
    assert "real_action" in torch.load(tmp_path / found.group() / "batch.pt")
    capsys.readouterr()
    assert main(["replay", found.group()]) == OK
    assert re.search(
        rf"After step {int(found.group(1))}: The output of layer '\S+' .* not finite", capsys.readouterr().out
    )


def test_a_replay_that_finds_nothing_says_so(
    dumped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = dump.Call(stage=dump.partial(_calm), cwd=Path.cwd(), step=2)
    (dumped / dump.CALL).write_bytes(dump.pickle.dumps(call))
    capsys.readouterr()
    assert main(["replay", str(dumped)]) == FAILED
    assert "Every figure was finite this time" in capsys.readouterr().out


def _calm(_folder: Path) -> None:
    raise ReplayEndedError


def test_a_folder_that_is_no_dump_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(tmp_path)]) == FAILED
    assert "is not the dump of a training stage: it has no call.pickle" in capsys.readouterr().err


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_replay_blames_no_layer_of_a_healthy_policy_and_ends_after_its_step(tmp_path: Path, kind: str) -> None:
    policy = small(kind)
    healthy = mixture(write_pair(tmp_path), batch_size=2, horizon=policy.horizon)
    config = SFTConfig(steps=9, batch_size=2, log_every=1, trainable="all")
    done = []
    with replaying(1), pytest.raises(ReplayEndedError):
        run_sft(policy, healthy, config, folder=tmp_path / "run", inputs={}, progress=lambda step, _: done.append(step))
    assert done == [1, 2]
    assert not any(module._forward_hooks for module in policy.modules())


def test_the_dump_says_which_weights_are_not_finite_and_holds_the_batch(tmp_path: Path) -> None:
    policy = small("pi05-tiny")
    name, weight = next(iter(policy.named_parameters()))

    def poison(step: int, _: int) -> None:
        if step == 1:
            with torch.no_grad():
                weight.fill_(torch.nan)

    data = mixture(write_pair(tmp_path), batch_size=2)
    config = SFTConfig(steps=3, batch_size=2, log_every=1)
    with pytest.raises(NonFiniteLossError, match=rf"After step 1: The loss is nan; .* weights {name}\."):
        run_sft(policy, data, config, folder=tmp_path / "run", inputs={}, progress=poison)
    batch = torch.load(tmp_path / "run" / "nan-step000001" / "batch.pt")
    assert batch["action"].shape == (2, 8, 7)
    assert not (tmp_path / "run" / "nan-step000001" / "checkpoints").exists()  # there was none yet
