"""Parts that things are composed of, how far the composed reach, and how high above a table a hand grasps them.

Long sides lie along x, the fingers close along y. Half sizes and places in metres.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.poses import quat_conjugate, quat_rotate, rpy_to_quat
from rlco.core.scene import RGB, Part, Triple

FINGER_ABOVE_TOP_M = 0.034
"""The TCP is at most this far below a grasped thing's top: the hand is 3.7 cm above the TCP."""
LOWEST_TCP_M = 0.015
"""The fingertips are 9 mm below the TCP."""


def half_extent_m(part: Part, direction: Float[ndarray, " 3"]) -> float:
    """Return how far a turned part reaches from its own centre along a unit ``direction`` of the object's frame."""
    half = np.array(part.half_size_m)
    own = quat_rotate(quat_conjugate(rpy_to_quat(np.array(part.rpy_rad))), direction)
    radius = half[0]
    extents = {
        "box": np.abs(own) @ half,
        "ellipsoid": np.linalg.norm(own * half),
        "sphere": radius,
        "capsule": radius + abs(own[2]) * (half[2] - radius),
        "cylinder": abs(own[2]) * half[2] + np.hypot(own[0], own[1]) * radius,
    }
    return float(extents[part.shape])


def extent_m(parts: Iterable[Part], direction: Float[ndarray, " 3"]) -> float:
    """Return how far ``parts`` together reach from the frame's origin along a unit ``direction``."""
    return max(float(np.array(part.position_m) @ direction) + half_extent_m(part, direction) for part in parts)


def grasp_height_m(middle_m: float, top_m: float) -> float:
    """Return the height of the TCP that grasps a thing: its middle, unless the hand would meet the top."""
    return max(middle_m, top_m - FINGER_ABOVE_TOP_M, LOWEST_TCP_M)


def egg(x: float, y: float, z: float, *, at: Triple = (0.0, 0.0, 0.0), rgb: RGB | None = None) -> Part:
    """Return an ellipsoid of half axes ``x``, ``y``, ``z``."""
    return Part(shape="ellipsoid", half_size_m=(x, y, z), position_m=at, rgb=rgb)


def box(x: float, y: float, z: float, *, at: Triple = (0.0, 0.0, 0.0), rgb: RGB | None = None) -> Part:
    """Return a box of half sides ``x``, ``y``, ``z``."""
    return Part(half_size_m=(x, y, z), position_m=at, rgb=rgb)


def rod(
    radius: float, half_length: float, *, at: Triple = (0.0, 0.0, 0.0), yaw: float = 0.0, rgb: RGB | None = None
) -> Part:
    """Return a capsule that lies on its side, ``half_length`` with its caps."""
    return Part(
        shape="capsule",
        half_size_m=(radius, radius, half_length),
        position_m=at,
        rpy_rad=(0.0, np.pi / 2, yaw),
        rgb=rgb,
    )
