"""Rotations and grippers as other people write them, to unit quaternions and opened shares."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.poses import rotvec_to_quat, rpy_to_quat

RotationForm = Literal["rpy", "rotvec", "quat-wxyz", "quat-xyzw", "6d"]
"""Roll, pitch, yaw about fixed axes; axis times angle; quaternions; the first two columns of the matrix."""
ROTATION_SIZE = {"rpy": 3, "rotvec": 3, "quat-wxyz": 4, "quat-xyzw": 4, "6d": 6}
"""Numbers of each form."""

GripperForm = Literal["signed-open", "signed-close", "unit-open", "unit-close", "width", "finger"]
"""-1..1 with open or closed = +1; 0..1 with open or closed = 1; opening in lengths; travel of one of two fingers."""
GRIPPER_FORMS = ("signed-open", "signed-close", "unit-open", "unit-close", "width", "finger")

_NORM_SLACK = 0.05
_RANGE_SLACK = 0.1
"""Share of a gripper's range that a reading may lie outside of it: sensors do. It is clipped."""


def rotation_to_quat(values: Float[ndarray, "T n"], form: RotationForm, *, radians: float) -> Float[ndarray, "T 4"]:
    """Return unit quaternions (w, x, y, z). ``radians``: one unit of an angle.

    Raises ``ValueError`` that names the first row which is no rotation in that form.
    """
    if form == "rpy":
        return rpy_to_quat(values * radians)
    if form == "rotvec":
        return rotvec_to_quat(values * radians)
    if form == "6d":
        return _columns_to_quat(values)
    norm = np.linalg.norm(values, axis=1)
    _require(np.abs(norm - 1) <= _NORM_SLACK, values, form, "a unit quaternion")
    quat = values / norm[:, None]
    return quat if form == "quat-wxyz" else np.roll(quat, 1, axis=1)


def matrix_to_quat(m: Float[ndarray, "T 3 3"]) -> Float[ndarray, "T 4"]:
    """Return unit quaternions (w, x, y, z) of rotation matrices."""
    xx, yy, zz = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    wx, wy, wz = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    xy, xz, yz = m[:, 1, 0] + m[:, 0, 1], m[:, 0, 2] + m[:, 2, 0], m[:, 2, 1] + m[:, 1, 2]
    # four times the outer product q q^T; the row of the largest component is free of cancellation
    outer = np.stack(
        [
            np.stack([1 + xx + yy + zz, wx, wy, wz], axis=1),
            np.stack([wx, 1 + xx - yy - zz, xy, xz], axis=1),
            np.stack([wy, xy, 1 - xx + yy - zz, yz], axis=1),
            np.stack([wz, xz, yz, 1 - xx - yy + zz], axis=1),
        ],
        axis=1,
    )
    row = np.einsum("tii->ti", outer).argmax(axis=1)
    quat = outer[np.arange(len(m)), row]
    return quat / np.linalg.norm(quat, axis=1, keepdims=True)


def opening(values: Float[ndarray, " T"], form: GripperForm, *, metres: float, widest_m: float) -> Float[ndarray, " T"]:
    """Return how far the gripper is opened, 0 to 1. ``metres``: one unit of a length; ``widest_m``: full opening.

    Raises ``ValueError`` that names the first row outside of the form's range.
    """
    share = {
        "signed-open": (values + 1) / 2,
        "signed-close": (1 - values) / 2,
        "unit-open": values,
        "unit-close": 1 - values,
        "width": values * metres / widest_m,
        "finger": 2 * np.abs(values) * metres / widest_m,
    }[form]
    inside = (share >= -_RANGE_SLACK) & (share <= 1 + _RANGE_SLACK)
    _require(inside, values[:, None], form, "within the range of that gripper form")
    return np.clip(share, 0.0, 1.0)


def _columns_to_quat(values: Float[ndarray, "T 6"]) -> Float[ndarray, "T 4"]:
    first, second = values[:, :3], values[:, 3:]
    x = first / np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-9)
    rest = second - (x * second).sum(axis=1, keepdims=True) * x
    norm = np.linalg.norm(rest, axis=1)
    _require((np.linalg.norm(first, axis=1) > 1e-3) & (norm > 1e-3), values, "6d", "two columns of a rotation")
    y = rest / norm[:, None]
    return matrix_to_quat(np.stack([x, y, np.cross(x, y)], axis=2))


def _require(fits: ndarray, values: ndarray, form: str, what: str) -> None:
    if not fits.all():
        row = int(fits.argmin())
        found = ", ".join(f"{v:.4g}" for v in values[row])
        raise ValueError(f"frame {row}: [{found}] read as '{form}' is not {what}.")
