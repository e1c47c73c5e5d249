"""Actions and commanded target poses: two views of one motion, because the controller integrates its target."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.poses import (
    pose_inverse,
    pose_multiply,
    quat_conjugate,
    quat_multiply,
    quat_to_rotvec,
    quat_to_rpy,
    rotvec_to_quat,
    rpy_to_quat,
)
from rlco.core.scene import MAX_ROTATION_RAD, MAX_TRANSLATION_M, WORKSPACE_HIGH_M, WORKSPACE_LOW_M


def clip_action(action: Float[ndarray, "*b 7"]) -> Float[ndarray, "*b 7"]:
    """Return what the controller really takes of an action."""
    limit = np.array([MAX_TRANSLATION_M] * 3 + [MAX_ROTATION_RAD] * 3 + [1.0])
    return np.clip(action, -limit, limit)


def moved(target: Float[ndarray, " 7"], action: Float[ndarray, " 7"]) -> Float[ndarray, " 7"]:
    """Return the commanded pose after ``action``, given the one before: the controller's own rule."""
    clipped = clip_action(action.astype(np.float64))
    turn = quat_multiply(target[3:], rpy_to_quat(clipped[3:6]))
    return np.concatenate([target[:3] + clipped[:3], turn / np.linalg.norm(turn)])


def commanded(target: Float[ndarray, " 7"], action: Float[ndarray, " 7"]) -> Float[ndarray, " 7"]:
    """Return the commanded pose after ``action`` as the controller keeps it: inside its workspace."""
    after = moved(target, action)
    after[:3] = np.clip(after[:3], WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
    return after


def commanded_targets(start: Float[ndarray, " 7"], actions: Float[ndarray, "T 7"]) -> Float[ndarray, "T 7"]:
    """Return the commanded pose after each action; ``start`` is the one before the first."""
    targets = np.empty((len(actions), 7))
    for t, action in enumerate(actions):
        start = targets[t] = commanded(start, action)
    return targets


def action_between(
    current: Float[ndarray, " 7"], wanted: Float[ndarray, " 7"], *, gripper: float
) -> Float[ndarray, " 7"]:
    """Return the action that moves the commanded pose from ``current`` to ``wanted``, as far as one step goes."""
    turn = quat_multiply(quat_conjugate(current[3:]), wanted[3:])
    turn = np.where(turn[:1] < 0, -turn, turn)
    return clip_action(np.concatenate([wanted[:3] - current[:3], quat_to_rpy(turn), [gripper]]))


def transformed(
    targets: Float[ndarray, "T 7"], *, source: Float[ndarray, " 7"], now: Float[ndarray, " 7"]
) -> Float[ndarray, "T 7"]:
    """Return T_now inv(T_source) T_target: the same motion relative to where the object is now."""
    change = pose_multiply(now, pose_inverse(source))
    return pose_multiply(np.broadcast_to(change, targets.shape), targets)


def bridge(
    start: Float[ndarray, " 7"], end: Float[ndarray, " 7"], *, step_m: float, step_rad: float = 0.1
) -> Float[ndarray, "n 7"]:
    """Return a straight path from ``start`` (not in it) to ``end`` (its last pose).

    Its length follows the distance: no step is longer than ``step_m`` or turns more than ``step_rad``.
    """
    turn = quat_to_rotvec(quat_multiply(quat_conjugate(start[3:]), end[3:]))
    way = end[:3] - start[:3]
    needed = max(np.linalg.norm(way) / step_m, np.linalg.norm(turn) / step_rad)
    # a way of exactly n steps must not need n + 1 by a rounding error
    count = int(np.ceil(needed - 1e-9))
    share = (np.arange(1, count + 1) / max(count, 1))[:, None]
    rotation = quat_multiply(np.broadcast_to(start[3:], (count, 4)), rotvec_to_quat(share * turn))
    return np.concatenate([start[:3] + share * way, rotation], axis=1)
