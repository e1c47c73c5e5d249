"""Ways through free space: straight, slow enough, and over what stands in the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.demos.targets import bridge


@dataclass(frozen=True, kw_only=True, slots=True)
class Clearance:
    """What is a safe way for the TCP [m]."""

    height_m: float = 0.12
    """A TCP above this passes over everything that lies on the table."""
    beside_m: float = 0.09
    """A lower one that comes nearer than this to the middle of an object pushes it."""

    def carrying(self, hang_m: float) -> Clearance:
        """Return the clearance with something in the hand that reaches ``hang_m`` below the TCP."""
        return Clearance(height_m=self.height_m + hang_m, beside_m=self.beside_m + 0.03)


def is_blocked(way: Float[ndarray, "n 7"], obstacles_m: Float[ndarray, "k 3"], clearance: Clearance) -> bool:
    """Return whether a way passes low near the middle of an obstacle."""
    if not len(way) or not len(obstacles_m):
        return False
    beside = np.linalg.norm(way[:, None, :2] - obstacles_m[None, :, :2], axis=-1) < clearance.beside_m
    return bool((beside & (way[:, 2] < clearance.height_m)[:, None]).any())


def free_way(
    start: Float[ndarray, " 7"],
    end: Float[ndarray, " 7"],
    *,
    obstacles_m: Float[ndarray, "k 3"],
    step_m: float,
    clearance: Clearance,
) -> Float[ndarray, "n 7"]:
    """Return a way from ``start`` (not in it) to ``end`` (its last pose): straight, or up, across and down.

    ``obstacles_m``: middles of what must not be pushed. ``step_m``: longest step [m].
    """
    straight = bridge(start, end, step_m=step_m)
    if not is_blocked(straight, obstacles_m, clearance):
        return straight
    up, over = start.copy(), end.copy()
    up[2], over[2] = max(start[2], clearance.height_m), max(end[2], clearance.height_m)
    return np.concatenate([bridge(a, b, step_m=step_m) for a, b in ((start, up), (up, over), (over, end))])
