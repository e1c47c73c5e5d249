"""How far parts reach, against points on their surfaces."""

from __future__ import annotations

import numpy as np
import pytest

from rlco.core.poses import quat_rotate, rpy_to_quat
from rlco.core.scene import Part, Shape
from rlco.core.shapes import extent_m, half_extent_m

HALF = (0.02, 0.02, 0.05)
SHAPES: tuple[Shape, ...] = ("box", "cylinder", "sphere", "ellipsoid", "capsule")


def surface(shape: Shape, count: int = 20_000) -> np.ndarray:
    """Return points of a shape, among them its outermost, in its own axes."""
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radius, _, height = HALF
    if shape == "box":
        return np.sign(direction) * HALF
    if shape == "ellipsoid":
        return direction * HALF
    if shape == "sphere":
        return direction * radius
    if shape == "capsule":
        return direction * radius + np.sign(direction) * [0.0, 0.0, height - radius]
    around = direction[:, :2] / np.linalg.norm(direction[:, :2], axis=1, keepdims=True)
    return np.concatenate([around * radius, np.sign(direction[:, 2:]) * height], axis=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_turned_part_reaches_as_far_as_its_outermost_point(shape: Shape) -> None:
    rng = np.random.default_rng(1)
    for rpy in rng.uniform(-3, 3, (5, 3)):
        part = Part(shape=shape, half_size_m=HALF, rpy_rad=(float(rpy[0]), float(rpy[1]), float(rpy[2])))
        points = surface(shape)
        turned = quat_rotate(np.broadcast_to(rpy_to_quat(rpy), (len(points), 4)), points)
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        assert half_extent_m(part, direction) == pytest.approx(float((turned @ direction).max()), rel=5e-3)


def test_things_of_parts_reach_as_far_as_the_farthest_part() -> None:
    near = Part(half_size_m=(0.01, 0.01, 0.01))
    far = Part(half_size_m=(0.02, 0.01, 0.01), position_m=(0.05, 0.0, 0.0))
    x = np.array([1.0, 0.0, 0.0])
    assert extent_m((near, far), x) == pytest.approx(0.07)
    assert extent_m((near, far), -x) == pytest.approx(0.01)
