"""How far an episode has come at one moment: what a failure is sorted by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from rlco.core.scene import Facts

NEAR_M = 0.05
"""A TCP this close to where the work begins is there: below the way-points from which experts descend (6 to 8 cm)."""
MOVED_M = 0.01
"""A thing this far from its start has been moved: above the settling of the first steps, below any useful push."""


class Progress(IntEnum):
    """How far the robot is, at this moment, with the thing that the instruction names. Each includes those before."""

    AWAY = 0
    """Not there."""
    REACHED = 1
    """The hand is where the work begins, or touches the thing, or has moved it."""
    GRASPED = 2
    """The thing is between the fingers; no task that only pushes has this."""
    UNDER_WAY = 3
    """The thing is on its way to the goal and in the robot's power."""


def furthest(
    *, reached: Bool[ndarray, " E"], grasped: Bool[ndarray, " E"] | None = None, under_way: Bool[ndarray, " E"]
) -> Int[ndarray, " E"]:
    """Return the furthest ``Progress`` that is so; ``grasped``: None where the task only pushes."""
    held = np.zeros_like(reached) if grasped is None else grasped
    return np.select([under_way, held, reached], [Progress.UNDER_WAY, Progress.GRASPED, Progress.REACHED], 0)


def near(facts: Facts, point_m: Float[ndarray, "E 3"]) -> Bool[ndarray, " E"]:
    """Return where the TCP is at ``point_m``, to within ``NEAR_M``."""
    return np.linalg.norm(facts.tcp_pose[:, :3] - point_m, axis=-1) <= NEAR_M


def flags(contacts: Mapping[str, Bool[ndarray, " E"]], names: Sequence[str]) -> Bool[ndarray, " E"]:
    """Return the row of each environment's own thing in ``Facts.touching`` or ``grasped``; False if nobody looked."""
    return np.array([name in contacts and contacts[name][e] for e, name in enumerate(names)], dtype=bool)


def displacement_m(facts: Facts, e: int, name: str) -> Float[ndarray, " 2"]:
    """Return how far (x, y) the robot has moved a thing: where the start's own nudge puts it does not count.

    NaN if it is not on the table.
    """
    start = facts.initial[e]
    if name not in start.object_pose:
        return np.full(2, np.nan)
    offsets = [facts.object_pose[name][e, :2] - np.array(start.object_pose[name][:2])]
    if start.nudge is not None and start.nudge.object == name:
        offsets.append(offsets[0] - np.array(start.nudge.offset_m))
    return min(offsets, key=lambda offset: float(np.linalg.norm(offset)))


def is_moved(facts: Facts, e: int, name: str) -> bool:
    """Return whether the robot has moved a thing by ``MOVED_M``."""
    return bool(np.linalg.norm(displacement_m(facts, e, name)) >= MOVED_M)


def moved(facts: Facts, names: Sequence[str]) -> Bool[ndarray, " E"]:
    """Return where the robot has moved each environment's own thing."""
    return np.array([is_moved(facts, e, name) for e, name in enumerate(names)], dtype=bool)
