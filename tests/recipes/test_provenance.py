"""What was run is noted, work that failed too, and a page sums up what is its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rlco.recipes import provenance
from rlco.recipes.provenance import Made, commit, noted, read_made
from rlco.recipes.studies import study
from rlco.recipes.studies.run import parts
from rlco.recipes.studies.run import provenance as of_study


def made(folder: Path, *stages: str, commit: str = "abc", machine: str = "here") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "commit", lambda: commit)
        patch.setattr(provenance.platform, "machine", lambda: machine)
        for stage in stages:
            with noted(folder, stage):
                pass


def test_each_time_a_stage_is_worked_on_is_a_line_and_failures_are_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/rlco", "study", "table1"])
    assert read_made(tmp_path) == []
    with noted(tmp_path, "rl"):
        pass
    with pytest.raises(RuntimeError), noted(tmp_path, "rl"):
        raise RuntimeError
    lines = read_made(tmp_path)
    assert [(line.stage, line.command) for line in lines] == [("rl", "rlco study table1")] * 2
    assert all(isinstance(line, Made) and 0 <= line.seconds < 5 for line in lines)
    assert lines[0].machine.endswith(" CPUs")


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x", *words], cwd=folder, check=True, stdout=-3)


def test_a_commit_says_whether_files_are_others_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "src" / "rlco" / "recipes"
    source.mkdir(parents=True)
    monkeypatch.setattr(provenance, "_SOURCE", source)
    assert commit() == "unknown"
    (source / "a.py").write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "x")
    clean = commit()
    assert len(clean) == 12
    (tmp_path / "README.md").write_text("beside the source")
    assert commit() == clean
    (source / "a.py").write_text("2")
    assert commit() == f"{clean} and changes"


def test_a_page_sums_up_the_stages_that_it_shows_and_no_others(tmp_path: Path) -> None:
    table = study("table1", policy="openvla-nano", budget=0.5)
    one, two, *_ = table.jobs()
    assert {"record", "generate", "sft-real", "rl", "sft-control", "eval/rl-standin", "eval/rl-twin"} <= parts(
        table, one
    )
    made(tmp_path / "jobs" / one, "record", "rl", commit="abc")
    made(tmp_path / "jobs" / two, "eval/rl-standin", commit="def", machine="there")
    made(tmp_path / "jobs" / two, "rl-after-sim", "videos/fig6", commit="of another study")
    made(tmp_path / "jobs" / "of another table", "rl", commit="of another study")
    found = of_study(table, tmp_path)
    assert found["command"] == "rlco study table1 --policy openvla-nano --budget 0.5"
    assert found["commits"] == "abc, def"
    here, there = found["machines"].split("; ")
    assert here.startswith("here, ")
    assert there.startswith("there, ")
