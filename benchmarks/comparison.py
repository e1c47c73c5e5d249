"""What every benchmark does with its figures: print, save, and compare with a baseline of the same machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LEAST_OF_BASELINE = 0.9
"""A figure of which more is better must reach this share of the baseline's."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--save`` and ``--compare``."""
    parser.add_argument("--save", type=Path, help="write the figures here")
    parser.add_argument("--compare", type=Path, help="fail if a figure is a tenth worse than in this file")


def setting(*, threads: int | None = None) -> dict[str, str]:
    """Return the command and the machine, the first figures of every benchmark."""
    machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPUs"
    machine += "" if threads is None else f", {threads} torch threads"
    return {"command": " ".join(["python", *sys.argv]), "machine": machine}


def conclude(
    figures: Mapping[str, Any],
    options: argparse.Namespace,
    *,
    same: Sequence[str],
    is_met: bool,
    is_overhead: bool = False,
) -> int:
    """Print, save and compare ``figures``; return the exit code. ``same``: settings that a baseline must share.

    Compared are ``ratio`` (a share of a bound, or an overhead, of which less is better) and the rates.
    """
    print(json.dumps(figures, indent=2))
    if options.save:
        options.save.parent.mkdir(parents=True, exist_ok=True)
        options.save.write_text(json.dumps(figures, indent=2) + "\n")
    worse = []
    if options.compare:
        worse = compare(figures, json.loads(options.compare.read_text()), same=same, is_overhead=is_overhead)
    for line in worse:
        print(line, file=sys.stderr)
    return 0 if is_met and not worse else 1


def compare(
    figures: Mapping[str, Any], baseline: Mapping[str, Any], *, same: Sequence[str], is_overhead: bool
) -> list[str]:
    """Return a line for each figure that is more than a tenth worse than the baseline's."""
    differing = [name for name in ("machine", *same) if figures[name] != baseline[name]]
    if differing:
        return [f"The baseline was measured with another {', '.join(differing)}: nothing to compare."]
    pairs = {"ratio": (baseline["ratio"], figures["ratio"]) if is_overhead else (figures["ratio"], baseline["ratio"])}
    for group in ("steps_per_s", "samples_per_s"):
        now, then = figures.get(group, {}), baseline.get(group, {})
        pairs |= {name: (now[name], rate) for name, rate in then.items() if name != "bound" and name in now}
    return [
        f"{name}: {figures['ratio'] if name == 'ratio' else a}, the baseline has "
        f"{baseline['ratio'] if name == 'ratio' else b}: more than a tenth worse"
        for name, (a, b) in pairs.items()
        if a < LEAST_OF_BASELINE * b
    ]
