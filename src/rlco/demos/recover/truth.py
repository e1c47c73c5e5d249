"""How far recovered starts are from known ones, for recordings whose recorder knew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.poses import quat_rotate, quat_to_yaw
from rlco.core.scene import InitialState
from rlco.demos.recover.candidates import about
from rlco.demos.recover.report import RecoveryReport
from rlco.tasks import task


@dataclass(frozen=True, kw_only=True, slots=True)
class PoseError:
    """Of one thing that a task is about, in one demonstration."""

    number: int
    thing: str
    position_m: float
    """On the table; of a fixture, closed."""
    yaw_rad: float
    """0 to pi/2: a gripper is the same after half a turn. Says nothing about round things."""
    opening_m: float
    """Of a fixture; 0 for others."""


def pose_errors(report: RecoveryReport, truth: Sequence[InitialState | None]) -> list[PoseError]:
    """Compare recovered starts with those of ``truth``, one or None per episode.

    A thing that is not in both is left out: the instruction was misread.
    """
    the_task, found = task(report.task), []
    for its in report.demonstrations:
        known = truth[its.number]
        if its.state is None or known is None:
            continue
        for name in about(the_task, known):
            if name in its.state.object_pose:
                ours, theirs = _closed(its.state, name), _closed(known, name)
                turn = (float(quat_to_yaw(ours[3:]) - quat_to_yaw(theirs[3:])) + np.pi / 2) % np.pi - np.pi / 2
                opening = its.state.joint_value.get(name, 0.0) - known.joint_value.get(name, 0.0)
                found.append(
                    PoseError(
                        number=its.number,
                        thing=name,
                        position_m=float(np.linalg.norm(ours[:2] - theirs[:2])),
                        yaw_rad=abs(float(turn)),
                        opening_m=abs(opening),
                    )
                )
    return found


def _closed(state: InitialState, name: str) -> Float[ndarray, " 7"]:
    """Return a thing's pose; of a fixture, the one in which it is closed."""
    pose = np.array(state.object_pose[name])
    pose[:3] += quat_rotate(pose[3:], np.array([state.joint_value.get(name, 0.0), 0.0, 0.0]))
    return pose
