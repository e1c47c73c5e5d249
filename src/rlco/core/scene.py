"""What a tabletop scene is, independent of any engine. Base frame: x forward, y left, z up; the table top is z = 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

ACTION_DIM = 7
"""dx dy dz [m, base frame], droll dpitch dyaw [rad, commanded frame], gripper sign (open +1, close -1)."""
STATE_DIM = 8
"""TCP xyz [m], TCP rotation vector [rad], gripper width [m], gripper command."""
MAX_TRANSLATION_M = 0.05
"""Largest commanded translation of one control step, per axis."""
MAX_ROTATION_RAD = 0.25
"""Largest commanded rotation of one control step, per axis."""

RGB = tuple[float, float, float]
Shape = Literal["box", "cylinder", "sphere", "ellipsoid", "capsule"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectSpec:
    """A free rigid object. Its colour belongs to the initial state."""

    name: str
    shape: Shape = "box"
    half_size_m: tuple[float, float, float]
    """Half extents; (radius, radius, half height) for round shapes."""
    mass_kg: float
    friction: float = 0.6


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkerSpec:
    """A flat painted rectangle on the table: seen, never touched."""

    name: str
    centre_m: tuple[float, float]
    half_size_m: tuple[float, float]
    rgb: RGB


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraSpec:
    """A fixed camera. ``position_m`` and ``target_m`` are in the base frame."""

    name: str = "front"
    position_m: tuple[float, float, float]
    target_m: tuple[float, float, float]
    fovy_deg: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneSpec:
    """Everything on the table, engine-neutral."""

    objects: tuple[ObjectSpec, ...]
    markers: tuple[MarkerSpec, ...] = ()
    camera: CameraSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class InitialState:
    """A named start of an episode. The same name is the same scene in every world, engine and worker."""

    name: str
    task: str
    instruction: str
    object_pose: Mapping[str, tuple[float, ...]]
    """name -> xyz [m] + quaternion (w, x, y, z), base frame."""
    object_rgb: Mapping[str, RGB]
    labels: Mapping[str, str] = field(default_factory=dict)
    """What the task needs to read success, for example the name of the target object; and its colour name."""
    tcp_offset_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Start of the TCP relative to the home pose."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> InitialState:
        """Inverse of ``to_json``. Raises ``ValueError`` on a missing or unknown field."""
        try:
            return InitialState(
                **{
                    **value,
                    "object_pose": {k: tuple(v) for k, v in value["object_pose"].items()},
                    "object_rgb": {k: tuple(v) for k, v in value["object_rgb"].items()},
                    "tcp_offset_m": tuple(value["tcp_offset_m"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"Not an initial state: {error}.") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a task reads to judge E environments; every engine can give it."""

    tcp_pose: Float[ndarray, "E 7"]
    gripper_width_m: Float[ndarray, " E"]
    object_pose: Mapping[str, Float[ndarray, "E 7"]]
    initial: tuple[InitialState, ...]
    touching: Mapping[str, Bool[ndarray, " E"]] = field(default_factory=dict)
    """name -> the robot touches that object."""


def rows(facts: Facts, names: list[str]) -> Float[ndarray, "E 7"]:
    """Return for each environment the pose of the object named in ``names``."""
    return np.stack([facts.object_pose[name][e] for e, name in enumerate(names)])
