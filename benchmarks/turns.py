"""Two things that take turns in one run, so that their ratio is of one moment of the machine."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch
from comparison import add_options

from rlco.core.policy import Observation

Work = Callable[[], object]


def ratios_of(pairs: Mapping[str, tuple[Work, Work]], *, rounds: int) -> dict[str, Any]:
    """Return milliseconds and ratios of every pair, each the median of the rounds; the first two warm up."""
    seconds = {name: _turns(*pair, rounds=rounds) for name, pair in pairs.items()}
    return {
        "milliseconds": {
            n: [round(1e3 * median(column), 2) for column in zip(*r, strict=True)] for n, r in seconds.items()
        },
        "ratios": {name: round(median(a / b for a, b in rows), 3) for name, rows in seconds.items()},
        "ratio_rounds": {n: [round(a / b, 3) for a, b in rows] for n, rows in seconds.items()},
    }


def paired_options(page: str | None) -> argparse.Namespace:
    """Return the rounds, the batch size, the threads and where to save and compare; ``page`` is what help shows."""
    parser = argparse.ArgumentParser(description=page, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add_options(parser)
    return parser.parse_args()


def random_observation(batch: int, *, size: int, instructions: tuple[str, ...]) -> Observation:
    """Return ``batch`` observations with random pictures and the instructions in turn."""
    generator = torch.Generator().manual_seed(0)
    return Observation(
        image=torch.randint(0, 256, (batch, size, size, 3), generator=generator, dtype=torch.uint8),
        state=0.4 * torch.rand(batch, 8, generator=generator),
        instruction=tuple(instructions[i % len(instructions)] for i in range(batch)),
    )


def _turns(mine: Work, bound: Work, *, rounds: int) -> list[tuple[float, float]]:
    return [(_seconds(mine), _seconds(bound)) for _ in range(rounds + 2)][2:]


def _seconds(work: Work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
