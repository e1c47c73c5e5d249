"""Recover the initial states of a dataset, and write them beside a copy of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.files import MANIFEST, replace_folder, write_json, write_manifest
from rlco.core.progress import Reporter, Silent
from rlco.core.scene import InitialState
from rlco.data import layout
from rlco.data.reader import Dataset
from rlco.demos.keep import finished_report
from rlco.demos.recover.recorded import home_pose, recorded_motion, robot_start
from rlco.demos.recover.report import Recovered, RecoveryReport
from rlco.demos.recover.search import Demonstration, SearchConfig, search
from rlco.demos.replay import steps_for
from rlco.tasks import Task
from rlco.tasks import task as task_of
from rlco.tasks.motion import Recoverable, UnreadableMotionError
from rlco.worlds.make import make_world

_VIDEO = ".mp4"


def recover_dataset(
    dataset: Dataset,
    folder: Path,
    task_name: str,
    *,
    config: SearchConfig | None = None,
    num_envs: int = 16,
    reporter: Reporter | None = None,
) -> RecoveryReport:
    """Write to ``folder`` a copy of ``dataset`` with the recovered initial states; a finished one is kept.

    Raises ``ValueError`` in one line, before anything is replayed, if ``folder`` holds something else.
    """
    config = config or SearchConfig()
    _readable_task(dataset, task_name)
    inputs = {"dataset": dataset.fingerprint, "task": task_name, "search": asdict(config)}
    if folder.resolve() == dataset.folder.resolve():
        raise ValueError(f"'{folder}' is the recording itself, which is never changed: name another folder.")
    done = finished_report(folder, inputs=inputs)
    if done is not None:
        return RecoveryReport.from_json(done)
    report = recover_initial_states(dataset, task_name, config=config, num_envs=num_envs, reporter=reporter)
    write_recovered(dataset, folder, report, lambda root: write_manifest(root, inputs=inputs, outputs=report.to_json()))
    return report


def recover_initial_states(
    dataset: Dataset,
    task_name: str,
    *,
    config: SearchConfig | None = None,
    num_envs: int = 16,
    reporter: Reporter | None = None,
) -> RecoveryReport:
    """Return for each demonstration the start from which its actions succeed in the twin, or why there is none.

    A sidecar of ``dataset`` is not read. The result depends on the dataset, the task and ``config`` alone. Raises
    ``ValueError`` if the task cannot tell what the key events of a motion mean, or has another control rate.
    """
    config, reporter, task = config or SearchConfig(), reporter or Silent(), _readable_task(dataset, task_name)
    lengths = [len(span) for span in dataset.episodes]
    clock = steps_for(lengths, least=task.max_steps)
    with make_world(task, num_envs=num_envs, render="none", max_steps=clock) as world:
        read = _Reader(dataset, task, home=home_pose(world, task))
        demonstrations = [its for its in map(read, range(len(dataset.episodes))) if its is not None]
        reporter.reach(len(read.unreadable), len(dataset.episodes))
        search(world, task, demonstrations, config, reporter=reporter)
    found = {its.number: _recovered(its) for its in demonstrations} | read.unreadable
    return RecoveryReport(task=task_name, demonstrations=tuple(found[n] for n in range(len(dataset.episodes))))


def write_recovered(
    dataset: Dataset, folder: Path, report: RecoveryReport, finish: Callable[[Path], object] | None = None
) -> None:
    """Write to ``folder`` a copy of ``dataset`` with the recovered initial states, null where there is none.

    Videos are hard links where the file system has them. ``finish`` may add files before the folder appears.
    """

    def write(root: Path) -> None:
        for path in sorted(dataset.folder.rglob("*")):
            relative = path.relative_to(dataset.folder)
            if path.is_file() and not relative.parts[0].startswith(".") and relative.name != MANIFEST:
                _copy(path, root / relative)
        states = [None if its.state is None else its.state.to_json() for its in report.demonstrations]
        write_json(root / layout.INITIAL_STATES_PATH, {"episodes": states})
        if finish is not None:
            finish(root)

    replace_folder(folder, write)


def _readable_task(dataset: Dataset, task_name: str) -> Task:
    """Return the task, or raise: a recording of another rate, or a task that reads no motions."""
    task = task_of(task_name)
    if not isinstance(task, Recoverable):
        raise ValueError(f"The task '{task_name}' has no guesses(motion, instruction): it cannot recover poses.")
    if dataset.fps != round(task.control_hz):
        raise ValueError(
            f"'{dataset.folder}' has {dataset.fps} Hz, '{task_name}' {task.control_hz:g} Hz. "
            f"Resample it with rlco data convert --control-hz {task.control_hz:g}."
        )
    return task


class _Reader:
    """Reads the demonstrations; those that say nothing are put aside with the reason."""

    def __init__(self, dataset: Dataset, task: Task, *, home: Float[ndarray, " 7"]) -> None:
        self._dataset, self._task, self._home = dataset, task, home
        self.unreadable: dict[int, Recovered] = {}

    def __call__(self, number: int) -> Demonstration | None:
        assert isinstance(self._task, Recoverable)
        span, motion = self._dataset.episodes[number], recorded_motion(self._dataset, number)
        try:
            start = robot_start(motion.tcp_pose[0], home=self._home)
            guesses = self._task.guesses(motion, span.task)
            if not guesses:
                raise UnreadableMotionError("the motion gives no guess")
        except UnreadableMotionError as error:
            self.unreadable[number] = Recovered(
                number=number, instruction=span.task, state=None, by="", tried=0, agreement=None, reason=str(error)
            )
            return None
        return Demonstration(
            number=number,
            motion=motion,
            action=np.asarray(self._dataset.action[span.start : span.stop], dtype=np.float64),
            instruction=span.task,
            put=partial(start.put, name=f"{self._task.name}/recovered/{self._dataset.fingerprint}/{number:04d}"),
            guesses=guesses,
        )


def _recovered(its: Demonstration) -> Recovered:
    best = its.best
    state: InitialState | None = best.candidate.state if best.succeeded else None
    return Recovered(
        number=its.number,
        instruction=its.instruction,
        state=state,
        by=best.candidate.by if best.succeeded else "",
        tried=len(its.tried),
        agreement=best.agreement,
        reason=best.reason,
    )


def _copy(source: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == _VIDEO:
        try:
            os.link(source, destination)
        except OSError:
            shutil.copy2(source, destination)
        return
    shutil.copy2(source, destination)
