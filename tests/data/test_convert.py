"""A foreign dataset is written in our form, complete and exact, or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlco.cli import BAD_USAGE, FAILED, OK, main
from rlco.core.progress import Silent
from rlco.data import layout
from rlco.data.convert import READING_PATH, convert
from rlco.data.reader import Dataset
from rlco.data.reading import Reading, StateReading
from tests.data.breaking import edit_json, good, good_episodes
from tests.data.foreign import Foreign, Recorded, frame_numbers, grey, write_v21, write_v30

READING = Reading(state=StateReading(rotation_form="rpy", gripper_form="unit-open"), rename=("image=image",))
WORDS = "--state.rotation-form rpy --state.gripper-form unit-open --rename image=image"


def demonstrations(lengths: Sequence[int] = (10, 7), *, size: tuple[int, int] = (16, 16)) -> Foreign:
    """State 7, actions 7, two cameras, 10 Hz."""
    rng = np.random.default_rng(0)
    episodes = []
    for n in lengths:
        state = np.concatenate([rng.uniform(0.2, 0.5, (n, 3)), rng.uniform(-1, 1, (n, 3)), np.ones((n, 1))], axis=1)
        action = np.concatenate([rng.uniform(-0.02, 0.02, (n, 6)), np.ones((n, 1))], axis=1)
        action[n // 2 :, 6] = -1
        vectors = {"state": state, "actions": action}
        episodes.append(Recorded(vectors=vectors, pictures={c: grey(n, size=size) for c in ("image", "wrist")}))
    return Foreign(episodes=episodes, fps=10)


@pytest.mark.parametrize("write", [write_v21, write_v30])
def test_the_written_dataset_is_the_one_in_memory(tmp_path: Path, write) -> None:  # noqa: ANN001
    write(tmp_path / "theirs", demonstrations())
    report = convert(tmp_path / "theirs", tmp_path / "ours", READING)
    # the source is as it was: no cache in it
    assert not (tmp_path / "theirs/.cache").exists()
    memory, written = Dataset.open(tmp_path / "theirs", reading=READING), Dataset.open(tmp_path / "ours", control_hz=5)
    assert np.array_equal(written.action, memory.action)
    assert np.array_equal(written.state, memory.state)
    assert [(s.task, s.start, s.stop) for s in written.episodes] == [(s.task, s.start, s.stop) for s in memory.episodes]
    assert frame_numbers(written.frames) == frame_numbers(memory.frames) == [0, 2, 4, 6, 8, 0, 2, 4, 6]
    assert report == memory.tables.report
    assert (report.frames, report.steps) == (17, 9)
    info = json.loads((tmp_path / "ours" / layout.INFO_PATH).read_text())
    assert (info["codebase_version"], info["fps"], info["robot_type"]) == ("v3.0", 5, "panda")
    note = json.loads((tmp_path / "ours" / READING_PATH).read_text())
    assert note["reading"]["state"]["rotation_form"] == "rpy"
    assert note["report"]["steps"] == 9


def test_the_statistics_are_exact_over_every_frame(tmp_path: Path) -> None:
    # episodes of very different length: a mean of their quantiles is another number
    write_v21(tmp_path / "theirs", demonstrations((40, 3, 6)))
    convert(tmp_path / "theirs", tmp_path / "ours", READING)
    stats = json.loads((tmp_path / "ours" / layout.STATS_PATH).read_text())
    written = Dataset.open(tmp_path / "ours")
    for name, values in ((layout.ACTION_KEY, written.action), (layout.STATE_KEY, written.state)):
        exact = values.astype(np.float64)
        for key, q in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
            np.testing.assert_allclose(stats[name][key], np.quantile(exact, q, axis=0), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(stats[name]["mean"], exact.mean(0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(stats[name]["std"], exact.std(0), rtol=1e-9, atol=1e-12)
        assert stats[name]["count"] == [len(written)]


def test_converting_what_is_ours_changes_no_number(tmp_path: Path) -> None:
    write_v21(tmp_path / "theirs", demonstrations())
    convert(tmp_path / "theirs", tmp_path / "ours", READING)
    convert(tmp_path / "ours", tmp_path / "again", Reading(state=StateReading(command=7)))
    ours, again = Dataset.open(tmp_path / "ours"), Dataset.open(tmp_path / "again")
    np.testing.assert_allclose(again.action, ours.action, atol=1e-7)
    np.testing.assert_allclose(again.state, ours.state, atol=1e-6)


def test_the_initial_states_come_along(tmp_path: Path) -> None:
    good(tmp_path / "theirs")
    edit_json(tmp_path / "theirs", layout.INITIAL_STATES_PATH, lambda value: value["episodes"].__setitem__(1, None))
    convert(tmp_path / "theirs", tmp_path / "ours", Reading(state=StateReading(command=7)))
    found = Dataset.open(tmp_path / "ours").initial_states
    wanted = [e.initial_state for e in good_episodes()]
    assert list(found) == [wanted[0], None, wanted[2]]
    write_v21(tmp_path / "without", demonstrations())
    convert(tmp_path / "without", tmp_path / "none", READING)
    assert not (tmp_path / "none" / layout.INITIAL_STATES_PATH).exists()


def test_a_dataset_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    write_v21(tmp_path / "theirs", demonstrations())

    class Late(Silent):
        def advance(self, count: int = 1, *, note: str = "") -> None:
            (tmp_path / "ours").mkdir(exist_ok=True)
            (tmp_path / "ours/mine.txt").write_text("mine")

    with pytest.raises(ValueError, match="ours' exists already"):
        convert(tmp_path / "theirs", tmp_path / "ours", READING, reporter=Late())
    assert (tmp_path / "ours/mine.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ours", "theirs"]


@pytest.mark.parametrize(
    ("changes", "size", "match"),
    [
        ({"rotation": "quat-xyzw"}, (16, 16), "episode 0: an action has 7 numbers"),
        ({"control_hz": 1}, (16, 16), "--too-fast insert"),
        ({}, (15, 17), r"15 x 17 pixels; a video needs an even height and width. Give image_size"),
    ],
)
def test_nothing_is_written_on_an_error(tmp_path: Path, changes: dict, size: tuple[int, int], match: str) -> None:
    foreign = replace(demonstrations(size=size), as_images=True)
    foreign.episodes[0].vectors["actions"][:, 0] = 0.02
    write_v21(tmp_path / "theirs", foreign)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=match):
        convert(tmp_path / "theirs", tmp_path / "ours", replace(READING, **changes))
    assert sorted(tmp_path.rglob("*")) == before


def test_an_existing_folder_is_not_replaced(tmp_path: Path) -> None:
    write_v21(tmp_path / "theirs", demonstrations())
    with pytest.raises(ValueError, match="theirs' exists already"):
        convert(tmp_path / "theirs", tmp_path / "theirs", READING)


def test_a_broken_picture_leaves_no_dataset(tmp_path: Path) -> None:
    foreign = replace(demonstrations(), as_images=True)
    foreign.episodes[1].pictures["image"] = grey(7, size=(8, 8))
    write_v21(tmp_path / "theirs", foreign)
    with pytest.raises(ValueError, match=r"episode_000001.parquet' has frames of shape \(8, 8, 3\)"):
        convert(tmp_path / "theirs", tmp_path / "ours", READING)
    assert [p.name for p in tmp_path.iterdir()] == ["theirs"]


def run(capsys: pytest.CaptureFixture[str], words: str) -> tuple[int, str, str]:
    code = main(words.split())
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command_converts_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_v21(tmp_path / "theirs", demonstrations())
    line = f"data convert {tmp_path}/theirs {tmp_path}/ours {WORDS} --control-hz 5 --image-size 8 --json"
    code, out, _ = run(capsys, line)
    assert code == OK
    assert json.loads(out)["steps"] == 9
    assert Dataset.open(tmp_path / "ours", control_hz=5).frames.shape == (9, 8, 8, 3)
    code, _, err = run(capsys, line)
    assert code == FAILED
    assert "exists already" in err


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        ("--control-hz 0", BAD_USAGE, ["Reading.control_hz must be above 0, got 0"]),
        ("--rename image", BAD_USAGE, ["THEIRS=OURS"]),
        ("--rotation quat", BAD_USAGE, ["quat-xyzw"]),
        ("", FAILED, ["it has: image, wrist", "rename"]),
        ("--rename image=image", FAILED, ["episode 0: state, gripper, frame 0"]),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, code: int, parts: list[str]
) -> None:
    write_v21(tmp_path / "theirs", demonstrations())
    found, _, err = run(capsys, f"data convert {tmp_path}/theirs {tmp_path}/ours {words}")
    assert found == code
    assert err.count("\n") == 1
    assert all(part in err for part in parts), err
    assert not (tmp_path / "ours").exists()


def test_info_tells_what_a_foreign_dataset_holds_and_how_to_convert_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_v21(tmp_path / "theirs", demonstrations())
    code, out, _ = run(capsys, f"data info {tmp_path}/theirs --json")
    told = json.loads(out)
    assert code == OK
    assert (told["format"], told["in our form"], told["control rate [Hz]"]) == ("LeRobot v2.1", "no", 10)
    assert told["cameras"] == {"image": "16 x 16", "wrist": "16 x 16"}
    assert told["features"]["actions"] == "float32 [7]"
    assert told["instructions"] == {"push the pink cube": 2}
    assert "Choose one with rename" in told["why not"]


def test_info_of_a_dataset_of_ours_names_its_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_v21(tmp_path / "theirs", demonstrations())
    convert(tmp_path / "theirs", tmp_path / "ours", READING)
    told = json.loads(run(capsys, f"data info {tmp_path}/ours --json")[1])
    assert told["fingerprint"] == Dataset.open(tmp_path / "ours").fingerprint
    assert (told["in our form"], told["state"], told["action"], told["frames"]) == ("yes", 8, 7, 9)
    assert "fingerprint: " in run(capsys, f"data info {tmp_path}/ours")[1]
