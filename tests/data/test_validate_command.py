"""The command tells what it found, by its lines, its JSON and its exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy import ndarray

from rlco.cli import BAD_USAGE, FAILED, OK, main
from rlco.data import layout
from rlco.data.writer import write_dataset
from tests.data.breaking import STARTS, VIDEO, copy, edit_column, good, good_episodes, truncate


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return good(tmp_path_factory.mktemp("healthy") / "set")


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    return copy(source, tmp_path / "set")


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["data", "validate", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_exit_code_tells_errors_from_warnings(
    capsys: pytest.CaptureFixture[str], source: Path, folder: Path
) -> None:
    assert run(capsys, source)[:2] == (OK, f"{source}: 3 episodes, 46 frames (LeRobot v3.0): nothing wrong.\n")
    (folder / layout.STATS_PATH).unlink()
    assert run(capsys, folder)[0] == OK
    truncate(folder / VIDEO)
    code, out, _ = run(capsys, folder)
    assert code == FAILED
    assert "error   video" in out


def test_bad_usage_is_one_line(capsys: pytest.CaptureFixture[str], source: Path, tmp_path: Path) -> None:
    for words, part in (
        ((tmp_path / "none",), "No dataset at"),
        ((source, "--idle-s", "0"), "idle_s must be above 0"),
        ((source, "--units", "mm"), "--units belongs to --repair"),
        ((source, "--units", "inch"), "inch"),
        ((source, "--repair", source), "another folder"),
        ((source, "--repair", source / "new"), "another folder"),
        ((source, "--repair", tmp_path / "new", "--fps", "0"), "fps must be 1 or more"),
    ):
        code, out, err = run(capsys, *words)
        assert (code, out) == (BAD_USAGE, "")
        assert part in err
        assert err.count("\n") == 1


def test_a_replay_that_fails_is_a_line_of_the_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_dataset(folder, [replace(e, fps=10) for e in good_episodes()], fps=10, robot_type="twin")
    code, out, err = run(capsys, folder, "--replay", "push-cube", "--json")
    found = json.loads(out)
    assert (code, err, found["errors"]) == (OK, "", 0)
    assert "has 10 Hz, 'push-cube' 5 Hz" in found["replay"]["not replayed"]
    truncate(folder / VIDEO)
    code, out, _ = run(capsys, folder, "--replay", "push-cube")
    assert code == FAILED
    assert "error   video" in out
    assert '"not replayed": "the dataset has errors' in out


def test_after_a_repair_the_repaired_dataset_is_replayed(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def replayed(folder: Path, task: str, out_png: Path | None = None) -> dict[str, object]:
        seen.append(folder)
        return {"task": task, "plot": str(out_png)}

    monkeypatch.setattr("rlco.cli.recovery.replay_check", replayed)

    def shift(values: ndarray) -> None:
        values += 0.07

    edit_column(folder, "timestamp", shift)
    code, out, _ = run(capsys, folder, "--repair", tmp_path / "new", "--replay", "push-cube", "--json")
    assert (code, seen) == (OK, [tmp_path / "new"])
    assert json.loads(out)["replay"] == {"task": "push-cube", "plot": "None"}


def test_json_has_every_finding_and_the_counts(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    def edit(values: ndarray) -> None:
        values[STARTS[1] + 5, 2] = np.nan

    edit_column(folder, "action", edit)
    code, out, _ = run(capsys, folder, "--json")
    found = json.loads(out)
    assert code == FAILED
    assert found["errors"] == 1
    assert found["counts"]["not-finite"] == 1
    finding = next(f for f in found["findings"] if f["code"] == "not-finite")
    wanted = {"episode": 1, "frame": 5, "stop": 6, "fixable": True, "severity": "error"}
    assert {k: finding[k] for k in wanted} == wanted
