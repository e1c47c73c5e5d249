"""Jobs in processes of their own: how they end, and that stopping them waits until they have saved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from rlco.recipes.studies.beside import LOG, run_beside

SAVES_SLOWLY = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def stop(number, frame):
    (folder / "told").open("a").write("x")
    time.sleep(1.0)
    (folder / "saved").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
(folder / "began").touch()
time.sleep(60)
"""


def python(program: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", program, *map(str, arguments)]


def test_a_job_is_done_that_ends_well_and_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = {
        "good": python("print('all')"),
        "stopped": python("print('Go on with: rlco study')"),
        "broken": python("import sys; print('no such dataset'); sys.exit(3)"),
        "silent": python("import sys; sys.exit(1)"),
    }
    failed = run_beside(commands, tmp_path, parallel=3, is_done=lambda name: name == "good")
    assert sorted(failed) == ["broken", "silent", "stopped"]
    said = capsys.readouterr().err
    assert "good: finished in" in said
    assert "Go on with: rlco study" in next(line for line in said.splitlines() if line.startswith("stopped: stopped"))
    assert "no such dataset" in next(line for line in said.splitlines() if line.startswith("broken: failed"))
    assert "nothing" in next(line for line in said.splitlines() if line.startswith("silent: failed"))
    assert (tmp_path / "jobs" / "good" / LOG).read_text() == "all\n"


def test_jobs_share_the_cores_and_no_more_run_than_asked(tmp_path: Path) -> None:
    program = "import os, time; print(os.environ['OMP_NUM_THREADS'], time.monotonic()); time.sleep(0.3); "
    commands = {name: python(program + "print(time.monotonic())") for name in "abc"}
    assert run_beside(commands, tmp_path, parallel=1, is_done=lambda _: True) == []
    spans = [(tmp_path / "jobs" / name / LOG).read_text().split() for name in "abc"]
    assert len({threads for threads, _, _ in spans}) == 1
    assert all(float(end) < float(begin) for (_, _, end), (_, begin, _) in pairwise(spans))


PARENT = """
import pathlib, sys
from rlco.core.stopping import heeding_signals
from rlco.recipes.studies.beside import run_beside
root, program = pathlib.Path(sys.argv[1]), sys.argv[2]
with heeding_signals():
    run_beside({"one": [sys.executable, "-c", program, str(root / "jobs" / "one")]}, root, parallel=1, is_done=bool)
"""


def test_whoever_stops_it_waits_until_the_jobs_have_saved(tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "one"
    parent = subprocess.Popen(python(PARENT, tmp_path, SAVES_SLOWLY), start_new_session=True, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (folder / "began").exists() and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(parent.pid, signal.SIGTERM)  # as a terminal or a scheduler does: to everything in the group
    parent.wait(30)
    assert (folder / "saved").exists()
    assert (folder / "told").read_text() == "x"
