"""kill -9 and SIGTERM from outside: the run ends with the figures of one that was left alone."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from soak import figures, stage_two  # pyright: ignore[reportMissingImports]

from rlco.cli import OK, main
from rlco.train.checkpoints import newest
from rlco.train.log import read_metrics
from tests.train.samples import write_pair

ITERATIONS = 7


def disturbed(command: list[str], folder: Path, *, after: int, kill: Callable[[psutil.Popen], None]) -> int:
    """Run the command, kill once so many iterations were seen; return the exit code. Its messages go to ``log.txt``.

    One thread, as in this process: another number of them adds the same numbers in another order.
    """
    with (folder.parent / "log.txt").open("w") as log:
        process = psutil.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=log)
    while len(read_metrics(folder)) < after and process.poll() is None:
        time.sleep(0.02)
    kill(process)
    return process.wait(300)


@pytest.mark.sim
@pytest.mark.slow
def test_a_run_that_is_killed_ends_with_the_figures_of_one_that_was_not(tmp_path: Path) -> None:
    write_pair(tmp_path)
    straight, killed = (
        stage_two(tmp_path / name, real=tmp_path / "real", iterations=ITERATIONS) for name in ("straight", "killed")
    )
    assert main(straight[3:]) == OK
    folder = tmp_path / "killed"
    assert disturbed(killed, folder, after=1, kill=psutil.Popen.kill) == -9  # before its first checkpoint
    assert disturbed(killed, folder, after=3, kill=psutil.Popen.kill) == -9
    assert disturbed(killed, folder, after=4, kill=psutil.Popen.terminate) == OK
    *_, said, goes_on = (tmp_path / "log.txt").read_text().splitlines()
    assert said == "rlco: Stopped. The same command again goes on from what is on disk:"
    saved = newest(folder)
    assert saved is not None
    assert int(saved.name) >= 4
    assert disturbed(shlex.split(goes_on), folder, after=5, kill=lambda trainer: trainer.children()[0].kill()) == OK
    assert figures(folder) == figures(tmp_path / "straight")
    assert figures(folder)[-2]["step"] == ITERATIONS
