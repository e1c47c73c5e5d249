"""From commanded poses at one rate to control steps at another: no motion is dropped, no gripper change is lost.

Time is counted in frames of the recording: action k is carried out from k to k + 1, and pose k is the commanded pose
before action k. Control step j lasts from ``bounds[j]`` to ``bounds[j + 1]``. Bounds are fractions, so that a whole
ratio meets the recorded poses exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int64
from numpy import ndarray

from rlco.core.poses import quat_conjugate, quat_multiply, quat_to_rotvec, quat_to_rpy, rotvec_to_quat
from rlco.core.scene import MAX_ROTATION_RAD, MAX_TRANSLATION_M

_SLACK = 1e-6
"""Metres and radians by which a step may pass the limit: the rounding of float32 numbers."""
_MOST_PARTS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Steps:
    """One episode as J control steps."""

    action: Float[ndarray, "J 7"]
    """Ours: metres in the base frame, roll pitch yaw in the commanded frame, gripper."""
    frame: Int64[ndarray, " J"]
    """The recorded frame nearest to the beginning of each step."""
    too_fast: int
    """Steps that moved farther than the controller does in one, before any were inserted."""
    inserted: int
    """Steps added so that none does, and for gripper changes that lay in one step."""
    worst_m: float
    """Largest motion of a step along an axis, before any were inserted."""
    worst_rad: float


def resample(
    pose: Float[ndarray, "K 7"], gripper: Float[ndarray, " T"], *, ratio: Fraction, insert: bool = False
) -> Steps:
    """Return the steps that lead along ``pose``; ``ratio``: recorded frames in one control step.

    ``pose`` are the K = T + 1 commanded poses, ``gripper`` the command of each action in [-1, 1].
    ``insert``: replace a step that moves too far by several. Raises ``ValueError`` if the gripper opens and closes
    faster than one change a step.
    """
    frames = len(gripper)
    bounds = [min(j * ratio, Fraction(frames)) for j in range(math.ceil(frames / ratio) + 1)]
    motion = _motion(pose, bounds)
    fast = _is_too_fast(motion)
    worst_m, worst_rad = np.abs(motion[:, :3]).max(), np.abs(motion[:, 3:]).max()
    planned = len(motion)
    if insert and fast.any():
        bounds = _refined(pose, bounds, fast)
    command, extra = _gripper(gripper, bounds)
    bounds += [bounds[-1]] * extra
    # of two frames equally near the earlier one: the later has not been seen yet
    nearest = [min(math.ceil(b - Fraction(1, 2)), frames - 1) for b in bounds[:-1]]
    return Steps(
        action=np.concatenate([_motion(pose, bounds), command[:, None]], axis=1),
        frame=np.array(nearest, dtype=np.int64),
        too_fast=int(fast.sum()),
        inserted=len(bounds) - 1 - planned,
        worst_m=float(worst_m),
        worst_rad=float(worst_rad),
    )


def pose_at(pose: Float[ndarray, "K 7"], time: Float[ndarray, " J"]) -> Float[ndarray, "J 7"]:
    """Return the pose at these times, in frames: on the straight line and the shortest turn between two of ``pose``."""
    index = np.minimum(np.floor(time).astype(int), len(pose) - 2)
    share = (time - index)[:, None]
    before, after = pose[index], pose[index + 1]
    turn = quat_to_rotvec(quat_multiply(quat_conjugate(before[:, 3:]), after[:, 3:]))
    position = before[:, :3] + share * (after[:, :3] - before[:, :3])
    return np.concatenate([position, quat_multiply(before[:, 3:], rotvec_to_quat(share * turn))], axis=1)


def _motion(pose: Float[ndarray, "K 7"], bounds: list[Fraction]) -> Float[ndarray, "J 6"]:
    at = pose_at(pose, np.array([float(b) for b in bounds]))
    turn = quat_multiply(quat_conjugate(at[:-1, 3:]), at[1:, 3:])
    return np.concatenate([np.diff(at[:, :3], axis=0), quat_to_rpy(turn)], axis=1)


def _is_too_fast(motion: Float[ndarray, "J 6"]) -> Bool[ndarray, " J"]:
    moved, turned = np.abs(motion[:, :3]).max(axis=1), np.abs(motion[:, 3:]).max(axis=1)
    return (moved > MAX_TRANSLATION_M + _SLACK) | (turned > MAX_ROTATION_RAD + _SLACK)


def _refined(pose: Float[ndarray, "K 7"], bounds: list[Fraction], fast: Bool[ndarray, " J"]) -> list[Fraction]:
    out = [bounds[0]]
    for j, (begin, end) in enumerate(pairwise(bounds)):
        out += _parts(pose, begin, end)[1:] if fast[j] else [end]
    return out


def _parts(pose: Float[ndarray, "K 7"], begin: Fraction, end: Fraction) -> list[Fraction]:
    """Return the bounds of the fewest equal parts that are each slow enough."""
    for count in range(2, _MOST_PARTS):
        bounds = [begin + (end - begin) * i / count for i in range(count + 1)]
        if not _is_too_fast(_motion(pose, bounds)).any():
            return bounds
    raise ValueError(
        f"frame {int(begin)}: the commanded pose jumps by more than {_MOST_PARTS} control steps can follow. "
        "Are the units and the form of the actions right?"
    )


def _gripper(gripper: Float[ndarray, " T"], bounds: list[Fraction]) -> tuple[Float[ndarray, " J"], int]:
    """Return the command of each step, and how many steps more than there were it takes.

    A step has the command of its last frame. Where the gripper changes twice within a step, the second change comes
    with the next step.
    """
    is_open = gripper > 0
    begins = np.flatnonzero(np.concatenate([[True], is_open[1:] != is_open[:-1]]))
    ends = np.append(begins[1:], len(gripper)) - 1
    edges = np.array([float(b) for b in bounds])
    # a bound is exact in the fraction; its float may fall short of the whole number by a rounding error
    natural = np.searchsorted(edges, begins + 1e-9, side="right") - 1
    steps = natural.copy()
    for i in range(1, len(steps)):
        steps[i] = max(natural[i], steps[i - 1] + 1)
        if steps[i] > natural[i] + 1:
            raise ValueError(
                f"frame {begins[i]}: the gripper changes more often than once a control step. "
                "Use a higher control rate, or clean the recording."
            )
    extra = max(int(steps[-1]) - (len(bounds) - 2), 0)
    owner = np.searchsorted(steps, np.arange(len(bounds) - 1 + extra), side="right") - 1
    last = [math.ceil(b) - 1 for b in bounds[1:]] + [len(gripper) - 1] * extra
    return gripper[np.clip(last, begins[owner], ends[owner])].astype(np.float64), extra
