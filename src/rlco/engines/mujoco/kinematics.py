"""Inverse kinematics of the Panda's TCP by damped least squares."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's compiled modules carry no type stubs.

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.engines.mujoco import panda

MAX_ERROR_M = 0.005
"""A solution whose TCP is farther from the target than this is a failure."""
MAX_ERROR_RAD = 0.05


@dataclass(frozen=True, slots=True)
class Solution:
    """Joint angles for a target, and how far they miss it."""

    qpos: Float[ndarray, " 7"]
    error_m: float
    error_rad: float

    @property
    def failed(self) -> bool:
        """Whether the target was out of reach."""
        return self.error_m > MAX_ERROR_M or self.error_rad > MAX_ERROR_RAD


class Kinematics:
    """Forward and inverse kinematics on a scratch copy of the robot."""

    damping = 0.02
    """lambda; keeps steps finite near singularities."""
    posture_gain = 0.05
    """Pull toward the home posture in the null space, once a call."""
    tolerance = 3e-4
    """Norm of the 6-D error (metres and radians) at which to stop; it never adds up, the target is absolute."""
    max_iterations = 12
    max_step_rad = 0.5

    def __init__(self) -> None:
        self._model = panda.kinematic_model()
        self._data = mujoco.MjData(self._model)
        self._site = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_SITE, panda.TCP)
        self._qpos = self._data.qpos
        self._position = self._data.site_xpos[self._site]
        self._matrix = self._data.site_xmat[self._site]
        self._jacobian = np.zeros((6, self._model.nv))
        self._arm_jacobian = self._jacobian[:, : panda.ARM_JOINTS]
        self._error = np.zeros(6)
        self._quat, self._turn, self._solved = np.zeros(4), np.zeros(4), np.zeros(6)
        self._regular = self.damping**2 * np.eye(6)

    def tcp_pose(self, qpos: Float[ndarray, " 7"]) -> Float[ndarray, " 7"]:
        """Return xyz and quaternion of the TCP in the base frame."""
        self._forward(qpos)
        mujoco.mju_mat2Quat(self._quat, self._matrix)
        return np.concatenate([self._position, self._quat])

    def solve(
        self, target: Float[ndarray, " 7"], *, seed: Float[ndarray, " 7"], max_iterations: int | None = None
    ) -> Solution:
        """Return joint angles near ``seed`` that bring the TCP to ``target`` (xyz, quaternion).

        Each iteration steps by dq = p + J^T (J J^T + lambda^2 I)^-1 (e - J p): the posture step
        p = posture_gain (home - q) acts in the null space of the task, in the first iteration only.
        """
        qpos, jacobian = seed.copy(), self._arm_jacobian
        posture: Float[ndarray, " 7"] | None = self.posture_gain * (panda.HOME_QPOS - qpos)
        for _ in range(max_iterations or self.max_iterations):
            self._forward(qpos)
            self._measure(target)
            if self._error @ self._error < self.tolerance**2:
                break
            mujoco.mj_comPos(self._model, self._data)
            mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site)
            normal = jacobian @ jacobian.T + self._regular
            mujoco.mju_cholFactor(normal, 0.0)  # several times faster than numpy.linalg at this size
            if posture is None:
                mujoco.mju_cholSolve(self._solved, normal, self._error)
                step = jacobian.T @ self._solved
            else:
                mujoco.mju_cholSolve(self._solved, normal, self._error - jacobian @ posture)
                step, posture = posture + jacobian.T @ self._solved, None
            largest = max(step.max(), -step.min())
            qpos += step if largest < self.max_step_rad else step * (self.max_step_rad / largest)
            np.maximum(qpos, panda.JOINT_LOW, out=qpos)  # numpy.clip takes four times as long at this size
            np.minimum(qpos, panda.JOINT_HIGH, out=qpos)
        else:
            self._forward(qpos)
            self._measure(target)
        error = self._error
        return Solution(qpos, float(np.sqrt(error[:3] @ error[:3])), float(np.sqrt(error[3:] @ error[3:])))

    def _forward(self, qpos: Float[ndarray, " 7"]) -> None:
        self._qpos[: panda.ARM_JOINTS] = qpos
        mujoco.mj_kinematics(self._model, self._data)

    def _measure(self, target: Float[ndarray, " 7"]) -> None:
        """Write the 6-D error, base frame: position, then rotation vector from the present to the target."""
        np.subtract(target[:3], self._position, out=self._error[:3])
        mujoco.mju_mat2Quat(self._quat, self._matrix)
        mujoco.mju_negQuat(self._quat, self._quat)
        mujoco.mju_mulQuat(self._turn, target[3:], self._quat)
        mujoco.mju_quat2Vel(self._error[3:], self._turn, 1.0)
