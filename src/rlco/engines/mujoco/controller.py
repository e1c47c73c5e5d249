"""Target-pose end-effector controller: from a delta action to joint commands.

The controller integrates a *target* pose: actions add to the last target, not to the measured pose, so a tracking
error never eats a command and the sum of the actions is where the arm goes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.poses import quat_multiply, rpy_to_quat
from rlco.core.scene import MAX_ROTATION_RAD, MAX_TRANSLATION_M, WORKSPACE_HIGH_M, WORKSPACE_LOW_M
from rlco.engines.mujoco import panda
from rlco.engines.mujoco.kinematics import Kinematics

CLOSING_M, SQUEEZING_M = -0.0005, -0.04
"""Finger targets of a gripper that closes after it was open: first to where the fingers meet, then, from the second
control period on, far beyond it, so that they press with a force. A gripper that never opened just stays closed."""
MEMORY_SIZE = 32


@dataclass(slots=True)
class Memory:
    """What the controller of one environment remembers, in one array so that it is saved and restored exactly."""

    array: Float[ndarray, " 32"] = field(default_factory=lambda: np.zeros(MEMORY_SIZE))

    @property
    def target(self) -> Float[ndarray, " 7"]:
        """Commanded TCP pose."""
        return self.array[:7]

    @property
    def knots(self) -> Float[ndarray, "3 7"]:
        """Joint commands at the ends of the last three control periods, oldest first [rad]."""
        return self.array[7:28].reshape(3, panda.ARM_JOINTS)

    @property
    def gripper(self) -> Float[ndarray, " 2"]:
        """Previous and present gripper command, each -1 (close) or +1 (open)."""
        return self.array[28:30]

    @property
    def fingers(self) -> Float[ndarray, " 2"]:
        """Previous and present target of each finger [m]; below 0 it presses."""
        return self.array[30:32]


class Controller:
    """Turns actions into joint commands. One object serves every environment; what differs is in ``Memory``."""

    def __init__(self, *, period_s: float, latency_s: float, pieces: int) -> None:
        self.kinematics = Kinematics()
        # where along the new command each piece of the period ends; negative: still on the old command
        phases = np.array([(i + 1) / pieces - latency_s / period_s for i in range(pieces)])
        self._on_new = (phases > 0).astype(int)
        along = np.where(phases > 0, phases, 1 + phases)
        self._weights = np.zeros((pieces, 3))
        self._weights[np.arange(pieces), self._on_new] = 1 - along
        self._weights[np.arange(pieces), self._on_new + 1] = along
        self._commands = np.empty((pieces, panda.ARM_JOINTS + 2))

    def start(
        self, memory: Memory, tcp_offset_m: tuple[float, float, float], tcp_yaw_rad: float = 0.0
    ) -> Float[ndarray, " 7"]:
        """Reset ``memory`` to home plus the offset, gripper closed; return the joint angles to start from."""
        memory.target[:] = panda.HOME_POSE
        memory.target[:3] += tcp_offset_m
        if tcp_yaw_rad:
            memory.target[3:] = quat_multiply(rpy_to_quat(np.array([0.0, 0.0, tcp_yaw_rad])), panda.HOME_POSE[3:])
        solution = self.kinematics.solve(memory.target, seed=panda.HOME_QPOS, max_iterations=100)
        if solution.failed:
            raise ValueError(f"The robot cannot start at {memory.target[:3]}: {solution.error_m:.3f} m out of reach.")
        memory.knots[:] = solution.qpos
        memory.gripper[:], memory.fingers[:] = -1.0, 0.0
        return solution.qpos

    def accept(self, memory: Memory, action: Float[ndarray, " 7"]) -> bool:
        """Take one action into ``memory``; return whether inverse kinematics reached the target.

        If it did not, the joints go as near as they get and the target becomes that pose: it does not run away.
        """
        target, knots = memory.target, memory.knots
        target[:3] += np.minimum(np.maximum(action[:3], -MAX_TRANSLATION_M), MAX_TRANSLATION_M)
        np.minimum(np.maximum(target[:3], WORKSPACE_LOW_M), WORKSPACE_HIGH_M, out=target[:3])
        if action[3] or action[4] or action[5]:
            target[3:] = _turned(target[3:], np.minimum(np.maximum(action[3:6], -MAX_ROTATION_RAD), MAX_ROTATION_RAD))
            target[3:] /= np.linalg.norm(target[3:])
        solution = self.kinematics.solve(target, seed=knots[2])
        knots[:2] = knots[1:]
        knots[2] = solution.qpos
        memory.gripper[0] = memory.gripper[1]
        memory.gripper[1] = 1.0 if action[6] > 0 else -1.0
        memory.fingers[0] = memory.fingers[1]
        memory.fingers[1] = _finger_target(memory.fingers[0], opened=bool(action[6] > 0))
        if solution.failed:
            target[:] = self.kinematics.tcp_pose(solution.qpos)
        return not solution.failed

    def commands(self, memory: Memory) -> Float[ndarray, "pieces 9"]:
        """Return the actuator command of each piece of the control period: arm angles, finger positions.

        Overwritten by the next call.
        """
        np.matmul(self._weights, memory.knots, out=self._commands[:, : panda.ARM_JOINTS])
        self._commands[:, panda.ARM_JOINTS :] = memory.fingers[self._on_new][:, None]
        return self._commands


def _turned(quat: Float[ndarray, " 4"], rpy: Float[ndarray, " 3"]) -> list[float]:
    """Return ``quat_multiply(quat, rpy_to_quat(rpy))``, the same bits in a tenth of the time: numbers, not arrays."""
    half = 0.5 * rpy.astype(np.float64)
    (cr, cp, cy), (sr, sp, sy) = np.cos(half).tolist(), np.sin(half).tolist()
    aw, ax, ay, az = quat.tolist()
    bw, bx = cr * cp * cy + sr * sp * sy, sr * cp * cy - cr * sp * sy
    by, bz = cr * sp * cy + sr * cp * sy, cr * cp * sy - sr * sp * cy
    return [
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    ]


def _finger_target(before: float, *, opened: bool) -> float:
    if opened:
        return panda.FINGER_TRAVEL_M
    if before == 0.0:
        return 0.0
    return CLOSING_M if before > 0 else SQUEEZING_M
