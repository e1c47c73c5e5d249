"""What a tabletop scene is, independent of any engine. Base frame: x forward, y left, z up; the table top is z = 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
WORKSPACE_LOW_M = (0.28, -0.36, 0.012)
"""The commanded TCP stays above this; 0.012 keeps the fingertips, 9 mm below the TCP, off the table."""
WORKSPACE_HIGH_M = (0.78, 0.36, 0.45)

RGB = tuple[float, float, float]
Triple = tuple[float, float, float]
Shape = Literal["box", "cylinder", "sphere", "ellipsoid", "capsule"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A convex piece of an object, placed in the object's frame."""

    shape: Shape = "box"
    half_size_m: Triple
    """Half extents; (radius, radius, half height, caps included) for round shapes."""
    position_m: Triple = (0.0, 0.0, 0.0)
    rpy_rad: Triple = (0.0, 0.0, 0.0)
    rgb: RGB | None = None
    """None: the object's colour, which belongs to the initial state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectSpec:
    """A free rigid object, made of one or more parts. Its frame's origin is where its first part is, unless said."""

    name: str
    parts: tuple[Part, ...]
    mass_kg: float
    """Shared among the parts by their bounding volume."""
    friction: float = 0.6
    rolling_n_m_s: float = 0.0
    """Viscous resistance to rolling and turning; without it a ball never rests."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError(f"The object '{self.name}' has no parts.")


@dataclass(frozen=True, kw_only=True, slots=True)
class FixtureSpec:
    """A thing fixed to the table with one part that slides, such as a drawer.

    Its pose is the pose of the sliding part. At opening 0 the fixed parts share that frame; an opening of q metres
    moves the sliding parts by q along the frame's -x.
    """

    name: str
    fixed: tuple[Part, ...]
    sliding: tuple[Part, ...]
    travel_m: float
    """Largest opening."""
    mass_kg: float
    """Of the sliding part."""
    friction_n: float
    """Force below which it does not slide."""
    damping_n_s_m: float


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
    """Everything that may be on the table, engine-neutral; an initial state says which of it is there."""

    objects: tuple[ObjectSpec, ...]
    fixtures: tuple[FixtureSpec, ...] = ()
    markers: tuple[MarkerSpec, ...] = ()
    camera: CameraSpec
    is_grasped: bool = False
    """Whether something is held between the fingers: friction is then solved stiffly, or held things creep out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """How one episode looks different from its world: lamp and camera."""

    brightness: float = 1.0
    """Multiplies all light."""
    tint: RGB = (1.0, 1.0, 1.0)
    """Multiplies the light's colour."""
    camera_offset_m: Triple = (0.0, 0.0, 0.0)
    """Moves the camera in its own axes: right, up, back."""
    camera_offset_rad: Triple = (0.0, 0.0, 0.0)
    """Turns the camera about its own axes: pitch, yaw, roll."""


AS_IT_IS = Look()


@dataclass(frozen=True, kw_only=True, slots=True)
class Nudge:
    """An object that is moved once, in the middle of the episode, as soon as the robot does not touch it."""

    object: str
    step: int
    """Control steps after the start, at the earliest."""
    offset_m: tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class InitialState:
    """A named start of an episode. The same name is the same scene in every world, engine and worker."""

    name: str
    task: str
    instruction: str
    object_pose: Mapping[str, tuple[float, ...]]
    """name -> xyz [m] + quaternion (w, x, y, z), base frame. What is not named is not on the table."""
    object_rgb: Mapping[str, RGB]
    joint_value: Mapping[str, float] = field(default_factory=dict)
    """Fixture -> its opening [m]."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What the task needs to read success, for example the name of the target object; and what tables group by."""
    tcp_offset_m: Triple = (0.0, 0.0, 0.0)
    """Start of the TCP relative to the home pose."""
    tcp_yaw_rad: float = 0.0
    """The gripper starts turned by this about the vertical."""
    look: Look = AS_IT_IS
    nudge: Nudge | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; what is as it is by default is left out."""
        value = asdict(self)
        for name, usual in (("joint_value", {}), ("tcp_yaw_rad", 0.0), ("look", asdict(AS_IT_IS)), ("nudge", None)):
            if value[name] == usual:
                del value[name]
        return value

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> InitialState:
        """Inverse of ``to_json``. Raises ``ValueError`` on a missing or unknown field."""
        try:
            look, nudge = value.get("look"), value.get("nudge")
            return InitialState(
                **{
                    **value,
                    "object_pose": {k: tuple(v) for k, v in value["object_pose"].items()},
                    "object_rgb": {k: tuple(v) for k, v in value["object_rgb"].items()},
                    "tcp_offset_m": tuple(value["tcp_offset_m"]),
                    "look": AS_IT_IS if look is None else Look(**_tuples(look)),
                    "nudge": None if nudge is None else Nudge(**_tuples(nudge)),
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
    """NaN where the object is not on the table."""
    initial: tuple[InitialState, ...]
    joint_value: Mapping[str, Float[ndarray, " E"]] = field(default_factory=dict)
    """Fixture -> its opening [m]."""
    object_speed: Mapping[str, Float[ndarray, " E"]] = field(default_factory=dict)
    """Of the object's frame [m/s]; NaN where it is not on the table."""
    touching: Mapping[str, Bool[ndarray, " E"]] = field(default_factory=dict)
    """name -> the robot touches that object."""
    grasped: Mapping[str, Bool[ndarray, " E"]] = field(default_factory=dict)
    """name -> both fingers touch that object."""

    def select(self, envs: Sequence[int]) -> Facts:
        """Return the facts of these environments, in this order."""
        index = list(envs)

        def chosen(values: Mapping[str, Any]) -> dict[str, Any]:
            return {name: array[index] for name, array in values.items()}

        return Facts(
            tcp_pose=self.tcp_pose[index],
            gripper_width_m=self.gripper_width_m[index],
            object_pose=chosen(self.object_pose),
            initial=tuple(self.initial[e] for e in index),
            joint_value=chosen(self.joint_value),
            object_speed=chosen(self.object_speed),
            touching=chosen(self.touching),
            grasped=chosen(self.grasped),
        )

    @staticmethod
    def concatenate(parts: Sequence[Facts]) -> Facts:
        """Put the environments of several processes one after the other."""

        def joined(field_name: str) -> dict[str, Any]:
            names = dict.fromkeys(name for part in parts for name in getattr(part, field_name))
            return {
                name: np.concatenate([_rows_of(getattr(part, field_name), name, len(part.initial)) for part in parts])
                for name in names
            }

        return Facts(
            tcp_pose=np.concatenate([part.tcp_pose for part in parts]),
            gripper_width_m=np.concatenate([part.gripper_width_m for part in parts]),
            initial=tuple(state for part in parts for state in part.initial),
            **{name: joined(name) for name in ("object_pose", "joint_value", "object_speed", "touching", "grasped")},
        )


def rows(facts: Facts, names: list[str]) -> Float[ndarray, "E 7"]:
    """Return for each environment the pose of the object named in ``names``."""
    return np.stack([facts.object_pose[name][e] for e, name in enumerate(names)])


def _tuples(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in value.items()}


def _rows_of(values: Mapping[str, ndarray], name: str, count: int) -> ndarray:
    """Return the rows of one object; where a process has none of it, rows that say so."""
    if name in values:
        return values[name]
    like = next(iter(values.values()), np.zeros((count, 7)))
    return np.full_like(like, np.nan if like.dtype.kind == "f" else False)
