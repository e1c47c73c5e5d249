"""What the benchmarks on an accelerator measure by: seconds, peak memory, and the rate of a large matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

MATMUL = {"cuda": 8192, "cpu": 512}
"""Device -> side of the matrices."""


def matmul_rate(device: str, *, rounds: int) -> float:
    """Return operations per second of a large bfloat16 matrix product."""
    n = MATMUL[device]
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * n**3 / median_seconds(lambda: a @ b, device, rounds=rounds)


def median_seconds(work: Callable[[], object], device: str, *, rounds: int) -> float:
    """Return how long ``work`` takes, all of it done; the first three rounds warm up."""
    seconds = []
    for _ in range(rounds + 3):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return median(seconds[3:])


def forget_peak(device: str) -> None:
    """Begin to look for a peak of memory."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gb(device: str) -> float | None:
    """Return the most memory that was allocated since; None where it is not known."""
    return round(torch.cuda.max_memory_allocated() / 1e9, 2) if device == "cuda" else None


def card(device: str) -> str:
    """Return the device's name."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
