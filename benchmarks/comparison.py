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
"""A figure of which more is better must reach this share of the baseline's; of which less is, the other way round."""
NOTHING: Mapping[str, float] = {}


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
    high: Mapping[str, float] = NOTHING,
    low: Mapping[str, float] = NOTHING,
) -> int:
    """Print, save and compare; return the exit code.

    ``same``: settings among ``figures`` that a baseline must share. ``high`` and ``low``: what is compared, by name;
    of the first more is better (rates, shares of a bound), of the second less is (times, memory, overheads).
    """
    figures = {**figures, "compared": {"high": dict(high), "low": dict(low)}}
    print(json.dumps(figures, indent=2))
    if options.save:
        options.save.parent.mkdir(parents=True, exist_ok=True)
        options.save.write_text(json.dumps(figures, indent=2) + "\n")
    worse = compare(figures, json.loads(options.compare.read_text()), same=same) if options.compare else []
    for line in worse:
        print(line, file=sys.stderr)
    return 0 if is_met and not worse else 1


def compare(figures: Mapping[str, Any], baseline: Mapping[str, Any], *, same: Sequence[str]) -> list[str]:
    """Return a line for each figure that is more than a tenth worse than the baseline's.

    What only the baseline has was not asked for in this run; what it lacks it cannot vouch for, which is a line too.
    """
    differing = [name for name in ("machine", *same) if figures[name] != baseline.get(name)]
    if differing:
        return [f"The baseline was measured with another {', '.join(differing)}: nothing to compare."]
    (high, low), then = figures["compared"].values(), baseline.get("compared", {"high": {}, "low": {}})
    known_high, known_low = then["high"], then["low"]
    worse = [name for name, now in high.items() if now < LEAST_OF_BASELINE * known_high.get(name, now)]
    worse += [name for name, now in low.items() if known_low.get(name, now) < LEAST_OF_BASELINE * now]
    ours, theirs = {**high, **low}, {**known_high, **known_low}
    lines = [f"{name}: {ours[name]}, the baseline has {theirs[name]}: more than a tenth worse" for name in worse]
    lacking = [name for name in ours if name not in theirs]
    return lines + [f"The baseline has none of these figures: {', '.join(lacking)}. Save it again."] * bool(lacking)
