"""Rotations and rigid poses on NumPy arrays.

Quaternions are (w, x, y, z), unit length. Positions are metres, angles radians. Every function broadcasts over
leading axes. A pose is a (..., 7) array: xyz then quaternion.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

IDENTITY_POSE = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])


def quat_multiply(a: Float[ndarray, "*b 4"], b: Float[ndarray, "*b 4"]) -> Float[ndarray, "*b 4"]:
    """Return the Hamilton product: rotate by ``b`` first, then by ``a``."""
    aw, ax, ay, az = np.moveaxis(a, -1, 0)
    bw, bx, by, bz = np.moveaxis(b, -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def quat_conjugate(q: Float[ndarray, "*b 4"]) -> Float[ndarray, "*b 4"]:
    """Return the inverse of a unit quaternion."""
    return q * np.array([1.0, -1.0, -1.0, -1.0])


def quat_rotate(q: Float[ndarray, "*b 4"], v: Float[ndarray, "*b 3"]) -> Float[ndarray, "*b 3"]:
    """Rotate ``v`` by ``q``."""
    w, u = q[..., :1], q[..., 1:]
    t = 2.0 * np.cross(u, v)
    return v + w * t + np.cross(u, t)


def rotvec_to_quat(r: Float[ndarray, "*b 3"]) -> Float[ndarray, "*b 4"]:
    """Exponential map. ``r`` is axis times angle [rad]."""
    angle = np.linalg.norm(r, axis=-1, keepdims=True)
    # sin(a/2)/a, whose limit at 0 is 1/2; np.sinc is sin(pi x)/(pi x)
    return np.concatenate([np.cos(angle / 2), 0.5 * np.sinc(angle / (2 * np.pi)) * r], axis=-1)


def quat_to_rotvec(q: Float[ndarray, "*b 4"]) -> Float[ndarray, "*b 3"]:
    """Logarithmic map, angle in [0, pi]."""
    q = np.where(q[..., :1] < 0, -q, q)
    norm = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(norm, q[..., :1])
    scale = np.where(norm < 1e-9, 2.0, angle / np.maximum(norm, 1e-9))
    return q[..., 1:] * scale


def rpy_to_quat(rpy: Float[ndarray, "*b 3"]) -> Float[ndarray, "*b 4"]:
    """Fixed-axis roll, pitch, yaw [rad]: q = q_yaw q_pitch q_roll."""
    half = 0.5 * rpy
    cr, cp, cy = np.moveaxis(np.cos(half), -1, 0)
    sr, sp, sy = np.moveaxis(np.sin(half), -1, 0)
    return np.stack(
        [
            cr * cp * cy + sr * sp * sy,
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
        ],
        axis=-1,
    )


def quat_to_rpy(q: Float[ndarray, "*b 4"]) -> Float[ndarray, "*b 3"]:
    """Inverse of ``rpy_to_quat`` for pitch in (-pi/2, pi/2)."""
    w, x, y, z = np.moveaxis(q, -1, 0)
    roll = np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = np.arcsin(np.clip(2 * (w * y - z * x), -1.0, 1.0))
    return np.stack([roll, pitch, quat_to_yaw(q)], axis=-1)


def quat_to_yaw(q: Float[ndarray, "*b 4"]) -> Float[ndarray, "*b"]:
    """Return the turn about the vertical [rad], the last of ``quat_to_rpy``."""
    w, x, y, z = np.moveaxis(q, -1, 0)
    return np.asarray(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))


def yaw_to_quat(yaw_rad: float) -> tuple[float, float, float, float]:
    """Return a turn about the vertical as plain numbers, as an initial state holds it."""
    return float(np.cos(yaw_rad / 2)), 0.0, 0.0, float(np.sin(yaw_rad / 2))


def pose_multiply(a: Float[ndarray, "*b 7"], b: Float[ndarray, "*b 7"]) -> Float[ndarray, "*b 7"]:
    """Compose rigid transforms: ``b`` expressed in the frame ``a``."""
    return np.concatenate(
        [a[..., :3] + quat_rotate(a[..., 3:], b[..., :3]), quat_multiply(a[..., 3:], b[..., 3:])], axis=-1
    )


def pose_inverse(p: Float[ndarray, "*b 7"]) -> Float[ndarray, "*b 7"]:
    """Return the transform that undoes ``p``."""
    inverse = quat_conjugate(p[..., 3:])
    return np.concatenate([-quat_rotate(inverse, p[..., :3]), inverse], axis=-1)
