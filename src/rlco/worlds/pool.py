"""The worker processes of one world: start them, talk to them, notice that one died or hangs, replace it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from numpy import ndarray

from rlco.worlds import shared
from rlco.worlds.spec import Assignment, WorldSpec

SILENCE_S = 10.0
"""A worker that makes no progress for this long is replaced."""
START_S = 60.0
"""Longest time to start a process and compile the scene."""
_POLL_S = 0.5


class WorkerLostError(Exception):
    """A worker died or hung; it has been replaced, its environments are gone."""

    def __init__(self, workers: list[int]) -> None:
        super().__init__(f"Workers {workers} were lost and replaced.")
        self.workers = workers


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection


class WorkerPool:
    """Processes that each run a contiguous part of the environments. Answers come back in order of workers."""

    def __init__(self, spec: WorldSpec, *, num_workers: int) -> None:
        self._layout = spec.layout(num_workers)
        self._memory = shared.create(self._layout)
        self.arrays: Mapping[str, ndarray] = shared.attach(self._memory, self._layout)
        bounds = [int(part[0]) for part in np.array_split(np.arange(spec.num_envs), num_workers)] + [spec.num_envs]
        self._assignments = [
            Assignment(spec=spec, worker=w, num_workers=num_workers, first=bounds[w], last=bounds[w + 1])
            for w in range(num_workers)
        ]
        self._workers: list[_Worker] = []
        self.replaced = 0
        """Workers that were lost so far."""
        try:
            self._workers = [self._start(assignment) for assignment in self._assignments]
            for w in range(num_workers):
                self._await_start(w)
        except BaseException:
            self.close()
            raise

    @property
    def process_ids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid for worker in self._workers]

    def envs(self, worker: int) -> range:
        """Return the environments that a worker runs."""
        return range(self._assignments[worker].first, self._assignments[worker].last)

    def call(self, command: str, arguments: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        """Send ``command`` to each worker with its arguments (None: leave it out); return the answers.

        Raises ``WorkerLostError``, after the other workers have answered and the lost ones are replaced.
        """
        asked = [w for w, its in enumerate(arguments) if its is not None]
        lost = [w for w in asked if not self._send(w, (command, arguments[w]))]
        try:
            answers, silent = self._collect([w for w in asked if w not in lost])
        except BaseException:
            self.close()  # answers that nobody read would be taken for the next command's
            raise
        lost += silent
        for w in lost:
            self._replace(w)
        if lost:
            raise WorkerLostError(sorted(lost))
        return [answers.get(w) for w in range(len(arguments))]

    def close(self) -> None:
        """End all processes. May be called twice."""
        for w, _ in enumerate(self._workers):
            self._send(w, ("close", ()))
        for worker in self._workers:
            _end(worker)
        self._workers = []
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    def _start(self, assignment: Assignment) -> _Worker:
        ours, theirs = Pipe()
        passed = (theirs.fileno(), self._memory)
        with _deaf_to_stopping():
            process = subprocess.Popen(
                [sys.executable, "-m", "rlco.worlds.worker", *map(str, passed)],
                pass_fds=passed,
                env=_environment(),
                stdin=subprocess.DEVNULL,
            )
        theirs.close()
        ours.send(assignment)
        return _Worker(process, ours)

    def _await_start(self, w: int) -> None:
        worker = self._workers[w]
        try:
            kind, text = worker.connection.recv() if worker.connection.poll(START_S) else ("error", "no answer")
        except (EOFError, ConnectionResetError):
            kind, text = "error", f"it ended with exit code {worker.process.wait(5)}"
        if kind == "error":
            raise RuntimeError(f"A worker process of the world could not start: {text}.")

    def _send(self, w: int, message: tuple[Any, ...]) -> bool:
        try:
            self._workers[w].connection.send(message)
        except (BrokenPipeError, ConnectionResetError, OSError):
            return False
        return True

    def _collect(self, asked: list[int]) -> tuple[dict[int, Any], list[int]]:
        """Return the answers by worker, and the workers that died or made no progress for ``SILENCE_S``."""
        answers: dict[int, Any] = {}
        lost: list[int] = []
        waiting = {self._workers[w].connection: w for w in asked}
        beats, since = self.arrays["heartbeat"].copy(), dict.fromkeys(asked, time.monotonic())
        while waiting:
            ready = wait(list(waiting), timeout=_POLL_S)
            now = time.monotonic()
            for connection, w in list(waiting.items()):
                if connection in ready:
                    del waiting[connection]
                    try:
                        answers[w] = _answer(connection.recv())
                    except (EOFError, ConnectionResetError):
                        lost.append(w)
                elif self.arrays["heartbeat"][w] != beats[w]:
                    beats[w], since[w] = self.arrays["heartbeat"][w], now
                elif now - since[w] > SILENCE_S:
                    lost.append(waiting.pop(connection))
        return answers, lost

    def _replace(self, w: int) -> None:
        self.replaced += 1
        _end(self._workers[w], patience_s=0.0)
        self._workers[w] = self._start(self._assignments[w])
        self._await_start(w)


def _answer(message: tuple[str, Any]) -> Any:  # noqa: ANN401  (whatever the worker answers)
    kind, value = message
    if kind == "error":
        kind, _, text = value.partition(": ")
        if kind == "ValueError":  # of what the user gave, such as a start out of reach
            raise ValueError(text)
        raise RuntimeError(f"A worker process of the world failed: {value}")
    return value


def _end(worker: _Worker, *, patience_s: float = 5.0) -> None:
    worker.connection.close()
    try:
        worker.process.wait(patience_s)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        worker.process.wait()


@contextmanager
def _deaf_to_stopping() -> Iterator[None]:
    """Processes started inside never see SIGTERM or Ctrl-C, from their first moment on.

    A terminal and many schedulers send them to every process of a group. The one that started a worker answers for it:
    it goes on with it to the end of a step, and when it is gone its worker ends by itself.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment() -> dict[str, str]:
    """One thread a worker, since the workers are the parallelism (0: Mesa rasterises in it too); no screen needed."""
    chosen = dict(os.environ)
    if sys.platform == "linux":
        chosen.setdefault("MUJOCO_GL", "egl")
    chosen |= {"LP_NUM_THREADS": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    chosen["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return chosen
