"""The robot: kinematics against published numbers, inverse kinematics against forward kinematics."""

from __future__ import annotations

import numpy as np
import pytest

from rlco.core.poses import quat_multiply, quat_to_rotvec, rotvec_to_quat
from rlco.engines.mujoco import panda
from rlco.engines.mujoco.kinematics import Kinematics


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics()


def _transform(a: float, d: float, alpha: float, theta: float) -> np.ndarray:
    """Craig's convention: Rot_x(alpha) Trans_x(a) Rot_z(theta) Trans_z(d)."""
    ca, sa, ct, st = np.cos(alpha), np.sin(alpha), np.cos(theta), np.sin(theta)
    return np.array([[ct, -st, 0, a], [st * ca, ct * ca, -sa, -sa * d], [st * sa, ct * sa, ca, ca * d], [0, 0, 0, 1]])


def test_forward_kinematics_equal_the_published_denavit_hartenberg_table(kinematics: Kinematics) -> None:
    half = np.pi / 2
    # a, d, alpha of joints 1 to 7 and the flange, from Franka's documentation
    table = [
        (0, 0.333, 0), (0, 0, -half), (0, 0.316, half), (0.0825, 0, half),
        (-0.0825, 0.384, -half), (0, 0, half), (0.088, 0, half), (0, 0.107, 0),
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    for _ in range(20):
        qpos = rng.uniform(panda.JOINT_LOW, panda.JOINT_HIGH)
        frame = np.eye(4)
        for (a, d, alpha), theta in zip(table, [*qpos, 0.0], strict=True):
            frame = frame @ _transform(a, d, alpha, theta)
        tip = frame @ np.array([0, 0, panda.TCP_FROM_HAND_M, 1.0])
        np.testing.assert_allclose(kinematics.tcp_pose(qpos)[:3], tip[:3], atol=1e-6)


def test_the_tcp_frame_is_the_base_frame_at_home(kinematics: Kinematics) -> None:
    pose = kinematics.tcp_pose(panda.HOME_QPOS)
    np.testing.assert_allclose(pose[:3], panda.HOME_POSE[:3], atol=2e-5)
    np.testing.assert_allclose(quat_to_rotvec(pose[3:]), 0.0, atol=1e-4)


def test_inverse_kinematics_reaches_what_forward_kinematics_says(kinematics: Kinematics) -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        turn = rotvec_to_quat(rng.uniform(-0.4, 0.4, 3))
        place = rng.uniform([0.35, -0.3, 0.03], [0.7, 0.3, 0.3])
        target = np.concatenate([place, quat_multiply(turn, panda.HOME_POSE[3:])])
        solution = kinematics.solve(target, seed=panda.HOME_QPOS, max_iterations=100)
        assert not solution.failed
        reached = kinematics.tcp_pose(solution.qpos)
        np.testing.assert_allclose(reached[:3], target[:3], atol=1e-3)
        assert abs(reached[3:] @ target[3:]) > 1 - 1e-4


def test_an_unreachable_target_is_reported_as_a_failure(kinematics: Kinematics) -> None:
    far = panda.HOME_POSE.copy()
    far[0] = 1.5
    assert kinematics.solve(far, seed=panda.HOME_QPOS).failed
