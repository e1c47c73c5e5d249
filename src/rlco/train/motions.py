"""How a gripper moves to what a sentence names: a straight way, or through a funnel to a grasp or a release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.scene import ACTION_DIM
from rlco.core.shapes import LOWEST_TCP_M

CLOSE, OPEN = -1.0, 1.0
SPEED_M = (0.03, 0.045)
"""Metres per control step."""
FUNNEL_M = 0.08
"""How far above its goal the TCP stays while it is to the side of it."""
_STRAIGHT_DOWN_M = 0.01
_SLOPE = 2.0
"""Within this of the goal's vertical the way is straight down; beyond, so many times higher than farther aside."""
ARRIVED_M = 0.004


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """Where the TCP goes, and what the gripper does before and after it is there."""

    goal_m: Float[ndarray, " 3"]
    funnel_m: float = 0.0
    """0: straight to the goal."""
    before: float = CLOSE
    after: float = CLOSE


def motion(
    start_m: Float[ndarray, "B 3"], ways: Sequence[Way], *, horizon: int, rng: np.random.Generator
) -> Float[ndarray, "B H 7"]:
    """Return the actions of speed-limited motions that stop at their goals; each step depends on where the TCP is."""
    goal = np.stack([way.goal_m for way in ways])
    goal[:, 2] = np.maximum(goal[:, 2], LOWEST_TCP_M)
    funnel, before, after = np.array([(way.funnel_m, way.before, way.after) for way in ways]).T
    speed = rng.uniform(*SPEED_M, len(ways))
    action = np.zeros((len(ways), horizon, ACTION_DIM), np.float32)
    place = start_m.astype(np.float64)
    for h in range(horizon):
        step = _step(place, goal, funnel, speed)
        action[:, h, :3] = step
        action[:, h, 6] = np.where(np.linalg.norm(goal - place, axis=1) > ARRIVED_M, before, after)
        place += step
    return action


def _step(
    place: Float[ndarray, "B 3"], goal: Float[ndarray, "B 3"], funnel: Float[ndarray, " B"], speed: Float[ndarray, " B"]
) -> Float[ndarray, "B 3"]:
    aside = np.linalg.norm((goal - place)[:, :2], axis=1)
    aim = goal.copy()
    aim[:, 2] += np.minimum(funnel, _SLOPE * np.maximum(aside - _STRAIGHT_DOWN_M, 0.0))
    offset = aim - place
    distance = np.linalg.norm(offset, axis=1)
    return offset * np.minimum(1.0, speed / np.maximum(distance, 1e-9))[:, None]
