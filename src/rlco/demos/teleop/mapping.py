"""From the hand's motion in a control period to the action of a control step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.poses import quat_conjugate, quat_rotate, quat_to_rpy, rotvec_to_quat
from rlco.core.scene import MAX_ROTATION_RAD, MAX_TRANSLATION_M

Seat = Literal["behind", "front"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MappingConfig:
    """How fast the arm follows, and which way is away from the person."""

    translation_scale: float = 0.5
    """Full deflection, as a share of the largest translation of a control step (0.05 m)."""
    rotation_scale: float = 0.4
    """Full deflection, as a share of the largest rotation of a control step (0.25 rad); 0 locks the rotation."""
    seat: Seat = "behind"
    """``behind`` the robot, looking along its +x axis; or in ``front`` of it, as a camera that faces it shows it."""

    def __post_init__(self) -> None:
        if not 0.0 < self.translation_scale <= 1.0:
            raise ValueError(f"MappingConfig.translation_scale must be in (0, 1], got {self.translation_scale}.")
        if not 0.0 <= self.rotation_scale <= 1.0:
            raise ValueError(f"MappingConfig.rotation_scale must be in [0, 1], got {self.rotation_scale}.")
        if self.seat not in ("behind", "front"):
            raise ValueError(f"MappingConfig.seat must be behind or front, got '{self.seat}'.")


def action(
    share: Float[ndarray, " 6"], *, state: Float[ndarray, " 8"], gripper: float, config: MappingConfig
) -> Float[ndarray, " 7"]:
    """Return the action, float32, within the limits of a control step.

    ``share``: the hand's mean velocity in the period, as a share of the full speed; what is beyond [-1, 1], after a
    late step, is not made up for. ``state``: the observed one; the person turns the hand about the base frame's axes,
    the action about the hand's own, so the TCP's measured orientation is needed.
    """
    turned = np.clip(share, -1.0, 1.0) * (1.0 if config.seat == "behind" else _HALF_TURN)
    way_m = MAX_TRANSLATION_M * config.translation_scale * turned[:3]
    turn_rad = MAX_ROTATION_RAD * config.rotation_scale * turned[3:]
    tool = rotvec_to_quat(state[3:6].astype(np.float64))
    rpy = quat_to_rpy(rotvec_to_quat(quat_rotate(quat_conjugate(tool), turn_rad)))
    # about a diagonal axis one component may be beyond its limit: slower, not about another axis
    rpy *= min(1.0, MAX_ROTATION_RAD / max(float(np.abs(rpy).max()), 1e-9))
    return np.concatenate([way_m, rpy, [gripper]]).astype(np.float32)


_HALF_TURN = np.array([-1.0, -1.0, 1.0, -1.0, -1.0, 1.0])
"""About the vertical: x and y, and the rotations about them, change their sign."""
