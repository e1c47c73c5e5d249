"""What is kept of a study in ``results/``."""

from __future__ import annotations

import gzip
import json
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "publish_study.py"
publish = runpy.run_path(str(SCRIPT))["publish"]


def page(folder: Path, *, commits: str) -> Path:
    folder.mkdir()
    (folder / "fig0.json").write_text(json.dumps({"provenance": {"commits": commits}}))
    (folder / "fig0.md").write_text("# Figure 0\n\n| a |\n\n## Films\n\n- [film](../jobs/a.mp4)\n")
    (folder / "fig0.html").write_text("<html>")
    (folder / "fig0-push.svg").write_text("<svg>")
    (folder / "fig0-episodes.jsonl").write_text('{"state": 1}\n')
    return folder


def test_page_figures_and_every_episode_are_kept_and_the_films_are_not(tmp_path: Path) -> None:
    source = page(tmp_path / "fig0", commits="0123abc, 89ef")
    out = publish(source, tmp_path / "results")
    assert {path.name for path in out.iterdir()} == {
        "fig0.json",
        "fig0.md",
        "fig0-push.svg",
        "fig0-episodes.jsonl.gz",
    }
    assert (out / "fig0.md").read_text() == "# Figure 0\n\n| a |\n"
    packed = (out / "fig0-episodes.jsonl.gz").read_bytes()
    assert gzip.decompress(packed) == b'{"state": 1}\n'
    publish(source, tmp_path / "results")
    assert (out / "fig0-episodes.jsonl.gz").read_bytes() == packed


@pytest.mark.parametrize("commits", ["", "unknown", "0123abc, 89ef and changes"])
def test_what_no_commit_holds_is_refused(tmp_path: Path, commits: str) -> None:
    with pytest.raises(ValueError, match="Made from source that no commit holds"):
        publish(page(tmp_path / "fig0", commits=commits), tmp_path / "results")
    assert not (tmp_path / "results").exists()
