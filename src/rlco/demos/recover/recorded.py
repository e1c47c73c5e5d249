"""What a recording says about the robot: its motion, and where it started."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from numpy import ndarray

from rlco.core.poses import quat_conjugate, quat_multiply, quat_rotate, rotvec_to_quat
from rlco.core.scene import WORKSPACE_HIGH_M, WORKSPACE_LOW_M, InitialState, Triple
from rlco.data.reader import Dataset
from rlco.demos.replay import Replayed
from rlco.tasks import Task
from rlco.tasks.motion import Motion, UnreadableMotionError

_AT_HOME_M, _AT_HOME_RAD = 0.002, 0.01
"""A start nearer than this to home is home: the arm sags and the measurement is noisy."""
_BEYOND_M = 0.02
"""A start farther than this outside the workspace is out of reach."""
_TILT_RAD = 0.1
"""The twin starts with the fingers straight down."""
_DOWN = np.array([0.0, 0.0, -1.0])


@dataclass(frozen=True, kw_only=True, slots=True)
class RobotStart:
    """Where the robot starts, relative to home."""

    tcp_offset_m: Triple
    tcp_yaw_rad: float

    def put(self, state: InitialState, *, name: str) -> InitialState:
        """Return ``state`` with this start and a name of its own."""
        return replace(state, name=name, tcp_offset_m=self.tcp_offset_m, tcp_yaw_rad=self.tcp_yaw_rad)


def recorded_motion(dataset: Dataset, number: int) -> Motion:
    """Return the robot's part of one episode."""
    span = dataset.episodes[number]
    state, action = dataset.state[span.start : span.stop], dataset.action[span.start : span.stop]
    return Motion(
        tcp_pose=tcp_poses(state),
        gripper_width_m=state[:, 6].astype(np.float64),
        opens=action[:, 6] > 0,
    )


def replayed_motion(recorded: Motion, replayed: Replayed) -> Motion:
    """Return the motion with the poses that the twin's robot reached; the fingers stay those of the recording.

    Where the replay ended early the recorded poses stand.
    """
    steps = min(len(recorded), len(replayed.trace.tcp_pose))
    pose = recorded.tcp_pose.copy()
    pose[:steps] = replayed.trace.tcp_pose[:steps]
    return replace(recorded, tcp_pose=pose)


def tcp_poses(state: Float32[ndarray, "T 8"]) -> Float[ndarray, "T 7"]:
    """Return the TCP poses of recorded states."""
    state = state.astype(np.float64)
    return np.concatenate([state[:, :3], rotvec_to_quat(state[:, 3:6])], axis=1)


_MOST_YAW_RAD, _MOST_REACH_M = 2.8, 0.80
"""Beyond these the twin's arm has no joint angles for a start."""


def robot_start(tcp_pose: Float[ndarray, " 7"], *, home: Float[ndarray, " 7"]) -> RobotStart:
    """Return the start of a robot whose first pose is ``tcp_pose``.

    Raises ``UnreadableMotionError`` if the twin cannot start there.
    """
    place = tcp_pose[:3]
    if (place < np.array(WORKSPACE_LOW_M) - _BEYOND_M).any() or (place > np.array(WORKSPACE_HIGH_M) + _BEYOND_M).any():
        raise UnreadableMotionError(f"out of reach: the start {np.round(place, 3).tolist()} is outside the workspace")
    if float(np.hypot(place[0], place[1])) > _MOST_REACH_M:
        raise UnreadableMotionError(f"out of reach: the start {np.round(place, 3).tolist()} is too far from the base")
    turn = quat_multiply(tcp_pose[3:], quat_conjugate(home[3:]))
    tilt = float(np.arccos(np.clip(quat_rotate(turn, _DOWN) @ _DOWN, -1.0, 1.0)))
    if tilt > _TILT_RAD:
        raise UnreadableMotionError(f"out of reach: at the start the gripper is tilted by {np.rad2deg(tilt):.0f} deg")
    offset, yaw = place - home[:3], 2 * float(np.arctan2(turn[3], turn[0]))
    yaw = (yaw + np.pi) % (2 * np.pi) - np.pi
    if abs(yaw) > _MOST_YAW_RAD:
        raise UnreadableMotionError(f"out of reach: at the start the gripper is turned by {np.rad2deg(yaw):.0f} deg")
    x, y, z = (offset if np.linalg.norm(offset) > _AT_HOME_M else np.zeros(3)).tolist()
    return RobotStart(tcp_offset_m=(x, y, z), tcp_yaw_rad=yaw if abs(yaw) > _AT_HOME_RAD else 0.0)


def home_pose(world: Any, task: Task) -> Float[ndarray, " 7"]:  # noqa: ANN401
    """Return where the robot of ``world`` starts unless an initial state says otherwise."""
    anything = task.fixed_states(1, seed=0, prefix="home")[0]
    world.reset(initial_states=[anything] * world.num_envs)
    return world.facts().tcp_pose[0]
