"""What was run, of which source, where, and for how long: a line for each time that a stage of a run was worked on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from rlco.core.files import MANIFEST

MADE = "made.jsonl"
"""In a run folder."""
_SOURCE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """One stage was worked on once."""

    stage: str
    command: str
    commit: str
    """Of the source; ``unknown`` outside of a repository, and marked where files had changed since."""
    machine: str
    seconds: float


@contextmanager
def noted(folder: Path, stage: str, *, device: str = "cpu") -> Iterator[None]:
    """Add a line to ``folder`` when the work inside is over, finished or not.

    None where the stage was finished before: what is kept is not made again.
    """
    if (folder / stage / MANIFEST).exists():
        yield
        return
    began = time.monotonic()
    try:
        yield
    finally:
        line = Made(
            stage=stage,
            command=" ".join(["rlco", *sys.argv[1:]]),
            commit=commit(),
            machine=machine(device),
            seconds=round(time.monotonic() - began, 1),
        )
        with (folder / MADE).open("a") as file:
            file.write(json.dumps(asdict(line)) + "\n")


def read_made(folder: Path) -> list[Made]:
    """Return the lines of a run folder, oldest first; none where there is no such file."""
    path = folder / MADE
    return [Made(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def machine(device: str) -> str:
    """Return what kind of machine this is, with the accelerator that ``device`` names."""
    accelerator = "" if torch.device(device).type == "cpu" else f", {torch.cuda.get_device_name(device)}"
    return f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPUs{accelerator}"


def versions() -> dict[str, str]:
    """Return what a run is made with."""
    packages = ("rlco", "torch", "mujoco", "numpy", "gymnasium")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def commit() -> str:
    """Return the commit of the source, with `` and changes`` where its files are others; ``unknown`` outside of one."""
    head = _git("rev-parse", "HEAD")
    if not head:
        return "unknown"
    return f"{head[:12]} and changes" if _git("status", "--porcelain", "--", str(_SOURCE.parent)) else head[:12]


def _git(*words: str) -> str:
    try:
        found = subprocess.run(["git", "-C", str(_SOURCE), *words], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return found.stdout.strip()
