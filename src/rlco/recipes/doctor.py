"""Is this machine fit to run? Each check says what was found and what to do about it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"
"""Beside the sources; an installed wheel does not have it."""
MIN_MEMORY_GIB, MIN_DISK_GIB = 6.0, 5.0
GIB = 2**30
RENDERING_TIMEOUT_S = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One answer."""

    name: str
    is_ok: bool
    found: str
    remedy: str = ""
    """What to do if it is not ok."""


def checks() -> Iterator[Check]:
    """Run every check; the slow ones come last."""
    yield python()
    yield packages()
    yield cores()
    yield memory()
    yield disk()
    yield rendering()


def python() -> Check:
    """The interpreter."""
    is_ok = sys.version_info >= (3, 11)
    return Check(name="python", is_ok=is_ok, found=platform.python_version(), remedy="Install Python 3.11 or newer.")


def packages() -> Check:
    """Installed against pinned versions, or against the declared bounds where nothing is pinned."""
    wanted = pinned(CONSTRAINTS.read_text()) if CONSTRAINTS.exists() else declared()
    wrong = [problem for name, is_fit in wanted.items() if (problem := package_problem(name, is_fit))]
    return Check(
        name="packages",
        is_ok=not wrong,
        found="; ".join(wrong) or f"{len(wanted)} as {'pinned' if CONSTRAINTS.exists() else 'declared'}",
        remedy="Run make setup, or pip install -c constraints.txt -e .",
    )


def pinned(text: str) -> dict[str, Callable[[str], bool]]:
    """Return package -> test of its version, for the packages of a constraints file that we depend on."""
    needed = declared()
    pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", text, flags=re.MULTILINE))
    canonical = {name.lower().replace("_", "-"): pin for name, pin in pins.items()}
    return {name: is_version(canonical[name]) for name in needed if name in canonical}


def is_version(pin: str) -> Callable[[str], bool]:
    """Return a test that ignores a build's local tag, such as +cpu."""
    return lambda found: found.split("+")[0] == pin


def declared() -> dict[str, Callable[[str], bool]]:
    """Return package -> test of its version, from the package's own metadata."""
    found = [Requirement(text) for text in requires("rlco") or []]
    return {r.name.lower(): r.specifier.contains for r in found if r.marker is None or r.marker.evaluate({"extra": ""})}


def package_problem(name: str, is_fit: Callable[[str], bool]) -> str:
    """Return what is wrong with a package, or nothing."""
    try:
        found = version(name)
    except PackageNotFoundError:
        return f"{name} is missing"
    return "" if is_fit(found) else f"{name} {found} is another version"


def cores() -> Check:
    """CPU cores that this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check(name="cores", is_ok=count >= 1, found=f"{count} (the figures in the documentation are for 2)")


def memory() -> Check:
    """Memory that is free now."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return Check(name="memory", is_ok=True, found="unknown on this system")
    available = re.search(r"MemAvailable:\s+(\d+) kB", path.read_text())
    gib = int(available.group(1)) * 1024 / GIB if available else 0.0
    return Check(
        name="memory", is_ok=gib >= MIN_MEMORY_GIB, found=f"{gib:.1f} GiB free", remedy=f"Free {MIN_MEMORY_GIB:g} GiB."
    )


def disk() -> Check:
    """Space in the working folder."""
    gib = shutil.disk_usage(Path.cwd()).free / GIB
    return Check(
        name="disk", is_ok=gib >= MIN_DISK_GIB, found=f"{gib:.1f} GiB free", remedy=f"Free {MIN_DISK_GIB:g} GiB here."
    )


def rendering() -> Check:
    """A picture from the simulator, drawn in another process: a broken driver may end it."""
    backend = os.environ.get("MUJOCO_GL", "egl")
    command = [sys.executable, "-m", "rlco.engines.rendering_check"]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "MUJOCO_GL": backend},
            capture_output=True,
            text=True,
            timeout=RENDERING_TIMEOUT_S,
            check=False,
        )
        lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        is_ok, found = done.returncode == 0, lines[-1] if lines else f"exit code {done.returncode}"
    except subprocess.TimeoutExpired:
        is_ok, found = False, f"no picture within {RENDERING_TIMEOUT_S} s"
    return Check(
        name="rendering",
        is_ok=is_ok,
        found=found,
        remedy="Install libegl1, libgl1-mesa-dri and libopengl0 (Debian, Ubuntu), or set MUJOCO_GL.",
    )
