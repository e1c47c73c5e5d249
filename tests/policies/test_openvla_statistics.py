"""``norm_stats``, by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlco.data.normalise import Codec, Normaliser
from rlco.policies.openvla.statistics import GRIPPERS, find_codec, norm_stats
from tests.policies.openvla_folders import ACTION, MASK, Q01, Q99, released_codec, write_statistics

STATE = Normaliser(low=(-1.0,) * 8, high=(1.0,) * 8)


def test_quantiles_follow_openvlas_formula_and_the_mask_leaves_the_gripper(tmp_path: Path) -> None:
    codec = released_codec(tmp_path).action
    raw = np.array([[0.01, 0.0, -0.05, 0.05, 0.3, 0.0, 1.0], [-0.02, 0.02, 0.04, 0.2, 0.3, 0.0, 0.0]])
    low, high = np.array(Q01), np.array(Q99)
    wanted = np.where(MASK, 2 * (raw - low) / (high - low + 1e-8) - 1, raw)
    wanted[:, 4:6] = 0  # minimum and maximum are the same
    ours = raw.copy()
    ours[:, 6] = 2 * raw[:, 6] - 1  # 1 is open here and there, closed is 0 there
    found = codec.do(torch.from_numpy(ours).float())
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-6)
    assert found[:, 4:6].tolist() == [[0.0, 0.0]] * 2
    np.testing.assert_allclose(codec.undo(found).numpy(), ours, atol=1e-7)


def test_a_constant_dimension_says_its_value_whatever_the_token(tmp_path: Path) -> None:
    codec = released_codec(tmp_path).action
    any_token = torch.linspace(-1, 1, 5)[:, None].expand(-1, 7)
    torch.testing.assert_close(codec.undo(any_token)[:, 4], torch.full((5,), 0.3))


def test_the_state_is_not_read_and_stays_in_si_units(tmp_path: Path) -> None:
    state = torch.rand(3, 8)
    assert torch.equal(released_codec(tmp_path).read(state), state)


@pytest.mark.parametrize(("name", "opened", "closed"), [(n, o, c) for n, (o, c) in GRIPPERS.items()])
def test_a_gripper_means_what_its_convention_says(tmp_path: Path, name: str, opened: float, closed: float) -> None:
    action = find_codec(write_statistics(tmp_path), key=None, gripper=name).codec.action
    ours = torch.zeros(2, 7)
    ours[:, 6] = torch.tensor([1.0, -1.0])
    assert action.do(ours)[:, 6].tolist() == [opened, closed]
    assert action.undo(action.do(ours))[:, 6].tolist() == [1.0, -1.0]


@pytest.mark.parametrize(("name", "opened", "closed"), [(n, o, c) for n, (o, c) in GRIPPERS.items()])
def test_a_gripper_that_is_normalised_is_so_in_its_own_units(
    tmp_path: Path, name: str, opened: float, closed: float
) -> None:
    low, high = min(opened, closed) - 0.1, max(opened, closed) + 0.3
    entry = {"action": {**ACTION, "mask": [True] * 7, "q01": [*Q01[:6], low], "q99": [*Q99[:6], high]}}
    action = find_codec(write_statistics(tmp_path, key=entry), key=None, gripper=name).codec.action
    ours = torch.zeros(2, 7)
    ours[:, 6] = torch.tensor([1.0, -1.0])
    wanted = [2 * (raw - low) / (high - low) - 1 for raw in (opened, closed)]
    assert action.do(ours)[:, 6].tolist() == pytest.approx(wanted, abs=1e-6)


def same_map(first: Codec, second: Codec) -> None:
    x = torch.rand(50, 7) * 4 - 2
    torch.testing.assert_close(first.action.undo(x), second.action.undo(x), rtol=1e-6, atol=1e-7)
    assert first.action.flipped == second.action.flipped


@pytest.mark.parametrize("name", GRIPPERS)
def test_written_statistics_read_back_as_the_same_codec(tmp_path: Path, name: str) -> None:
    codec = find_codec(write_statistics(tmp_path), key=None, gripper=name).codec
    path = tmp_path / "back.json"
    path.write_text(json.dumps(norm_stats(codec, key="rlco")))
    back = find_codec(path, key="rlco", gripper=None)
    same_map(back.codec, codec)
    assert back.gripper == name
    figures = json.loads(path.read_text())["rlco"]["action"]
    assert figures["mask"] == MASK
    assert figures["q01"][:4] == pytest.approx(Q01[:4])
    assert figures["min"][4] == figures["max"][4] == pytest.approx(0.3)


@pytest.mark.parametrize("flipped", [(), (6,)])
def test_units_of_ours_are_written_as_statistics_too(tmp_path: Path, flipped: tuple[int, ...]) -> None:
    for low, high in ((-1.0, 1.0), (-1.5, 1.25)):
        own = Normaliser(low=(-0.05,) * 6 + (low,), high=(0.05,) * 6 + (high,), flipped=flipped)
        codec = Codec(state=STATE, action=own)
        path = tmp_path / "back.json"
        path.write_text(json.dumps(norm_stats(codec, key="k")))
        same_map(find_codec(path, key=None, gripper=None).codec, codec)
        assert json.loads(path.read_text())["k"]["action"]["mask"][6] == (low != -1.0)


def test_the_key_is_taken_where_there_is_one_and_asked_for_where_there_are_several(tmp_path: Path) -> None:
    found = find_codec(write_statistics(tmp_path), key=None, gripper=None)
    assert (found.key, found.gripper) == ("some_robot", "open1-closed0")
    several = write_statistics(tmp_path, bridge_orig={"action": ACTION}, fractal={"action": ACTION})
    with pytest.raises(ValueError, match="has 2 sets of statistics, say which: --unnorm-key bridge_orig, fractal"):
        find_codec(several, key=None, gripper=None)
    with pytest.raises(
        LookupError, match=r"No unnorm_key named 'bridge_org'. Did you mean.*Known: bridge_orig, fractal"
    ):
        find_codec(several, key="bridge_org", gripper=None)
    assert find_codec(several, key="fractal", gripper=None).key == "fractal"


def test_a_fine_tunes_statistics_count_before_the_pretrainings(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"norm_stats": {"bridge_orig": {"action": ACTION}}}))
    assert find_codec(tmp_path, key=None, gripper=None).key == "bridge_orig"
    write_statistics(tmp_path)
    assert find_codec(tmp_path, key=None, gripper=None).key == "some_robot"


def test_without_a_mask_everything_is_normalised(tmp_path: Path) -> None:
    entry = {"action": {k: v for k, v in ACTION.items() if k in ("q01", "q99")}}
    action = find_codec(write_statistics(tmp_path, key=entry), key=None, gripper="open1-closed0").codec.action
    assert (action.low[6], action.high[6]) == pytest.approx((-1.0, 1.0))


@pytest.mark.parametrize(
    ("entry", "gripper", "message"),
    [
        (
            {"action": {k: v for k, v in ACTION.items() if k != "q99"}},
            None,
            "has no q99 of the action.*it has q01, min",
        ),
        ({"action": {**ACTION, "q01": Q01[:6]}}, None, r"has 6 dimensions of the action \(q01\), ours has 7"),
        ({"action": {**ACTION, "mask": [True] * 14}}, None, r"has 14 dimensions of the action \(mask\)"),
        ({"action": {**ACTION, "q01": [0.1, *Q01[1:]]}}, None, "q01 above q99 in dimension 0"),
        ({"action": ACTION}, "open", "No gripper convention named 'open'.*Known: .*open1-closed0"),
        ({"action": ACTION, "gripper": "open0-closed1"}, "open1-closed0", "its gripper is open0-closed1, not open1-cl"),
        ({"state": {}}, None, "has no norm_stats of actions: give OpenVLA's"),
        (
            {"action": {**ACTION, "q01": [*Q01[:6], -1.0]}},
            None,
            "a gripper that goes down to -1, not from 0 to 1 as released: .*--gripper open1-closed-1, open-1-closed1",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, entry: object, gripper: str | None, message: str) -> None:
    with pytest.raises((ValueError, LookupError), match=message):
        find_codec(write_statistics(tmp_path, key=entry), key=None, gripper=gripper)


def test_a_place_without_statistics_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has neither dataset_statistics\.json nor config\.json"):
        find_codec(tmp_path, key=None, gripper=None)
    with pytest.raises(ValueError, match=r"no statistics at '.*none\.json': the file does not exist"):
        find_codec(tmp_path / "none.json", key=None, gripper=None)
    (tmp_path / "config.json").write_text('{"text_config": {"a": 1}}')
    with pytest.raises(ValueError, match="has no norm_stats of actions"):
        find_codec(tmp_path, key=None, gripper=None)


def test_a_flipped_dimension_survives_json_and_must_be_there() -> None:
    found = Normaliser(low=(0.0, -1.0), high=(2.0, 1.0), flipped=(1,))
    assert Normaliser.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert "flipped" not in replace(found, flipped=()).to_json()
    x = torch.tensor([[0.5, 0.25]])
    assert found.do(x).tolist() == [[-0.5, -0.25]]
    assert torch.equal(found.undo(found.do(x)), x)
    with pytest.raises(ValueError, match=r"Normaliser\.flipped must name some of 2 dimensions, got \(2,\)"):
        replace(found, flipped=(2,))
