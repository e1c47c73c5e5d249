"""What a model's only camera sees of points and of things."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's compiled modules carry no type stubs.

from __future__ import annotations

import mujoco
import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from rlco.core.poses import quat_conjugate, quat_rotate, yaw_to_quat

_DRAWN = np.array([1, 1, 1, 0, 0, 0], np.uint8)
"""Groups of geoms that are rendered."""
_PROBES = 0.6 * np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
"""Where a thing is looked at, in its half extents."""
_SEEN_PROBES = 2


def project(model: mujoco.MjModel, points_m: Float[ndarray, "P 3"]) -> Float[ndarray, "P 2"]:
    """Return where points of the base frame are in the picture: (down, right), each in [-1, 1] inside the frame."""
    # the camera looks along its -z, its y is up
    inverse = quat_conjugate(model.cam_quat[0])
    right, up, back = quat_rotate(np.broadcast_to(inverse, (len(points_m), 4)), points_m - model.cam_pos[0]).T
    focal = 1.0 / np.tan(np.radians(model.cam_fovy[0]) / 2)
    return np.stack([focal * up / back, -focal * right / back], axis=1)


def is_seen(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    geoms: Bool[ndarray, " G"],
    *,
    middle_m: Float[ndarray, " 3"],
    half_m: Float[ndarray, " 3"],
    yaw_rad: float,
) -> bool:
    """Return whether the thing made of ``geoms`` has its middle in the frame and is not covered by another.

    Two of five rays from the camera, to its middle and to places around it, must meet it first.
    """
    if not (np.abs(project(model, middle_m[None])) < 1).all():
        return False
    turn = np.broadcast_to(np.array(yaw_to_quat(yaw_rad)), (len(_PROBES), 4))
    eye, hit = data.cam_xpos[0].copy(), np.zeros(1, np.int32)
    seen = 0
    for point in middle_m + quat_rotate(turn, _PROBES * half_m):
        mujoco.mj_ray(model, data, eye, point - eye, _DRAWN, 1, -1, hit)
        seen += bool(hit[0] >= 0 and geoms[hit[0]])
    return seen >= _SEEN_PROBES
