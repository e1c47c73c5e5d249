"""How well a replay in the twin agrees with the recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.demos.replay import Replayed
from rlco.tasks.motion import Motion

_ARM_M = 0.1
"""A turn by an angle counts as the way of a point this far off."""
_STEP_M = 0.0005
"""What a control step between the ends counts; recordings usually end when the goal is met."""
_MOST_STEPS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Differences between a recording and its replay, root mean square over the control steps they share."""

    tcp_m: float
    """Of the TCP, its turn included."""
    width_m: float
    """Of the gripper's width: what is held, when, and whether it is lost."""
    late_steps: int
    """Control steps by which the replay ends after the recording; negative: before."""

    @property
    def total_m(self) -> float:
        """Return one number, the smaller the better."""
        return self.tcp_m + self.width_m + _STEP_M * min(abs(self.late_steps), _MOST_STEPS)


def agreement(recorded: Motion, replayed: Replayed) -> Agreement:
    """Compare a replay with its recording."""
    trace = replayed.trace
    steps = min(len(recorded), len(trace.tcp_pose))
    ours, theirs = trace.tcp_pose[:steps], recorded.tcp_pose[:steps]
    place, turn = distance_m(ours, theirs), angle_rad(ours, theirs)
    width = trace.gripper_width_m[:steps] - recorded.gripper_width_m[:steps]
    return Agreement(
        tcp_m=_rms(np.hypot(place, _ARM_M * turn)), width_m=_rms(width), late_steps=len(trace) - len(recorded)
    )


def distance_m(a: Float[ndarray, "T 7"], b: Float[ndarray, "T 7"]) -> Float[ndarray, " T"]:
    """Return how far apart poses are."""
    return np.linalg.norm(a[:, :3] - b[:, :3], axis=1)


def angle_rad(a: Float[ndarray, "T 7"], b: Float[ndarray, "T 7"]) -> Float[ndarray, " T"]:
    """Return the angle between the orientations of poses."""
    same = np.abs((a[:, 3:] * b[:, 3:]).sum(axis=1))
    return 2 * np.arccos(np.clip(same, 0.0, 1.0))


def _rms(values: Float[ndarray, " T"]) -> float:
    return float(np.sqrt(np.mean(values**2)))
