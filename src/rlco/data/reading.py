"""How a dataset of somebody else is to be understood."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rlco.core.errors import unknown_name
from rlco.data.features import renames
from rlco.data.forms import GRIPPER_FORMS, ROTATION_SIZE, GripperForm, RotationForm

Frame = Literal["base", "effector"]
Fit = Literal["crop", "pad"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StateReading:
    """Where things stand in the state vector, counted from 0, and in which form. The default is our own."""

    position: int = 0
    """First of the three numbers of the TCP position."""
    rotation: int = 3
    """First number of the TCP rotation."""
    rotation_form: RotationForm = "rotvec"
    """Its form: rpy (fixed axes), rotation vector, quaternion, or the first two columns of the matrix."""
    gripper: int | None = None
    """Number of the gripper; None: the one after the rotation."""
    gripper_form: GripperForm | Literal["none"] = "width"
    """none: the state does not say; the width is then that of the last command."""
    command: int | None = None
    """Number of the gripper command, in the form of the actions; None: the command of the step before."""

    def __post_init__(self) -> None:
        _require_known("StateReading.rotation_form", self.rotation_form, ROTATION_SIZE)
        _require_known("StateReading.gripper_form", self.gripper_form, [*GRIPPER_FORMS, "none"])
        for name in ("position", "rotation", "gripper", "command"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"StateReading.{name} must be 0 or more, got {value}.")

    @property
    def gripper_index(self) -> int:
        """Number of the gripper."""
        return self.rotation + ROTATION_SIZE[self.rotation_form] if self.gripper is None else self.gripper

    @property
    def least_size(self) -> int:
        """The smallest state vector that holds all of this."""
        ends = [self.position + 3, self.rotation + ROTATION_SIZE[self.rotation_form]]
        ends += [self.gripper_index + 1] if self.gripper_form != "none" else []
        return max([*ends, (self.command or 0) + 1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What the numbers and names of a dataset mean. The default is our own form, at any frame rate.

    An action is position (3), rotation (as many as its form has) and gripper (1), in this order.
    """

    rename: tuple[str, ...] = ()
    """Which features are ours, as THEIRS=OURS; ours are observation.images.front, observation.state and action (or, for
    short, image, state, action). Several renamed to the same one are joined."""
    instruction: str | None = None
    """Of every episode; None: as the dataset says."""
    actions: Literal["delta", "absolute"] = "delta"
    """delta: added to the commanded pose; absolute: the commanded pose itself."""
    rotation: RotationForm = "rpy"
    """Form of the rotation in an action: roll pitch yaw about fixed axes, rotation vector, quaternion, or the first two
    columns of the matrix."""
    rotation_frame: Frame = "effector"
    """Frame of a delta rotation: about the axes of the base, or of the commanded end effector."""
    translation_frame: Frame = "base"
    """Frame of a delta translation."""
    gripper: GripperForm = "signed-open"
    """Form of the gripper in an action. signed: -1..1, unit: 0..1, and which end is +1 or 1; width: opening; finger:
    travel of one of two fingers."""
    gripper_max_m: float = 0.08
    """Opening of the fully open gripper [m]."""
    length_unit: Literal["m", "mm"] = "m"
    """Of every length in states and actions."""
    angle_unit: Literal["rad", "deg"] = "rad"
    """Of every angle in states and actions."""
    action_scale: tuple[float, float] = (1.0, 1.0)
    """What a delta action of 1 means, in units of length and angle: for actions that are normalised."""
    tool_rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Fixed rotation from their tool frame to ours, roll pitch yaw [rad]: ours is aligned with the base when the
    fingers point down. A tool whose z axis points down needs 3.14159265 0 0."""
    state: StateReading = field(default_factory=StateReading)
    control_hz: int = 5
    """Control steps per second of the result [Hz]."""
    too_fast: Literal["error", "insert"] = "error"
    """What happens to a step that moves farther than the controller does in one: stop, or replace it by several."""
    image_size: int | None = None
    """Height and width of the resulting pictures [pixels]; None: as they are."""
    fit: Fit = "crop"
    """How a picture that is not square becomes so, with image_size: cut to its centre, or padded with black."""

    def __post_init__(self) -> None:
        renames(self.rename)
        _require_known("Reading.actions", self.actions, ["delta", "absolute"])
        _require_known("Reading.rotation", self.rotation, ROTATION_SIZE)
        _require_known("Reading.rotation_frame", self.rotation_frame, ["base", "effector"])
        _require_known("Reading.translation_frame", self.translation_frame, ["base", "effector"])
        _require_known("Reading.gripper", self.gripper, GRIPPER_FORMS)
        _require_known("Reading.length_unit", self.length_unit, ["m", "mm"])
        _require_known("Reading.angle_unit", self.angle_unit, ["rad", "deg"])
        _require_known("Reading.too_fast", self.too_fast, ["error", "insert"])
        _require_known("Reading.fit", self.fit, ["crop", "pad"])
        for name in ("gripper_max_m", "control_hz"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Reading.{name} must be above 0, got {getattr(self, name)}.")
        if self.image_size is not None and (self.image_size < 2 or self.image_size % 2):
            raise ValueError(f"Reading.image_size must be even and above 0, got {self.image_size}.")
        if self.actions == "absolute" and self.action_scale != (1.0, 1.0):
            raise ValueError(f"Reading.action_scale is for delta actions only, got {self.action_scale}.")

    @property
    def metres(self) -> float:
        """One unit of length."""
        return 1.0 if self.length_unit == "m" else 1e-3

    @property
    def radians(self) -> float:
        """One unit of an angle."""
        return 1.0 if self.angle_unit == "rad" else math.pi / 180

    @property
    def action_size(self) -> int:
        """Numbers in an action."""
        return 3 + ROTATION_SIZE[self.rotation] + 1

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def _require_known(field_name: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(f"{unknown_name(field_name, value, known)}")
