"""Jobs of a study side by side, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlco.core.progress import clock

LOG = "log.txt"
"""In a job's folder: what a job said that ran beside others."""
GRACE_S = 27.0
"""How long jobs that are told to stop may take to save: schedulers kill after 30 s."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Child:
    """A job that runs in a process of its own."""

    name: str
    process: subprocess.Popen[bytes]
    began: float


def run_beside(
    commands: Mapping[str, list[str]], root: Path, *, parallel: int, is_done: Callable[[str], bool]
) -> list[str]:
    """Run one command a job, ``parallel`` at once; return the jobs that are not done.

    What they say is in their folders. Whoever stops this stops them: each is told once, and waited for while it saves.
    """
    waiting, running, failed = list(commands), list[Child](), list[str]()
    threads = max(1, len(os.sched_getaffinity(0)) // parallel)
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                name = waiting.pop(0)
                running.append(_start(name, commands[name], root, threads=threads))
            time.sleep(0.5)
            for child in [c for c in running if c.process.poll() is not None]:
                running.remove(child)
                failed += [] if _told(child, root, is_done=is_done(child.name)) else [child.name]
    finally:
        _stop(running)
    return failed


def _start(name: str, command: list[str], root: Path, *, threads: int) -> Child:
    folder = root / "jobs" / name
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with (folder / LOG).open("ab") as log:
        # a session of its own: a signal to this group would reach the job, and a second one from here ends its saving
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    print(f"{name}: started, it writes to {folder / LOG}", file=sys.stderr)
    return Child(name=name, process=process, began=time.monotonic())


def _stop(children: Sequence[Child]) -> None:
    for child in children:
        child.process.terminate()
    end = time.monotonic() + GRACE_S
    for child in children:
        try:
            child.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"{child.name}: still saving", file=sys.stderr)


def _told(child: Child, root: Path, *, is_done: bool) -> bool:
    """Say how a job ended; return whether it is done. One that was stopped says 0 and is not."""
    took = clock(time.monotonic() - child.began)
    if child.process.returncode == 0 and is_done:
        print(f"{child.name}: finished in {took}", file=sys.stderr)
        return True
    said = (root / "jobs" / child.name / LOG).read_text(errors="replace").strip().splitlines() or ["nothing"]
    how = "stopped" if child.process.returncode == 0 else "failed"
    print(f"{child.name}: {how} after {took}: {said[-1]}", file=sys.stderr)
    return False
