"""The drawer of ``open-drawer`` and ``close-drawer``: its shape, where it stands, its handle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from rlco.core.poses import quat_rotate, yaw_to_quat
from rlco.core.scene import RGB, Facts, FixtureSpec, InitialState, Part, SceneSpec, Triple
from rlco.tasks import shifts
from rlco.tasks.progress import near
from rlco.tasks.push_cube import FRONT_CAMERA

DRAWER = "drawer"
DRAWER_RGB: RGB = (0.70, 0.10, 0.12)
TRAVEL_M = 0.12
DEPTH_M = 0.16
HANDLE_X_M, _TIP_X_M = -0.030, -0.046
"""Middle and outermost point of the handle."""
_HANDLE_RGB: RGB = (0.95, 0.95, 0.95)
_BOARD_M = 0.004
"""Half the thickness of a board."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cabinet:
    """A low cabinet with one drawer. Lengths in metres; points in the drawer's frame.

    That is the middle of the front panel's foot, x into the cabinet.
    """

    width_m: float
    height_m: float = 0.09

    @property
    def handle_m(self) -> Triple:
        """Where the TCP grasps the handle."""
        return HANDLE_X_M, 0.0, self.height_m * 2 / 3

    @property
    def handle_tip_m(self) -> Triple:
        """The handle's outermost point, which a hand pushes."""
        return _TIP_X_M, 0.0, self.height_m * 2 / 3

    @property
    def scene(self) -> SceneSpec:
        """The cabinet alone on the table."""
        return SceneSpec(objects=shifts.distractors(), fixtures=(_fixture(self),), camera=FRONT_CAMERA, is_grasped=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a drawer stands."""

    closed_m: tuple[float, float]
    """(x, y) of its front edge, closed."""
    yaw_rad: float
    label: str
    """The part of the region, for example ``near left``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """Where the front edge of the closed drawer may be. Lengths in metres."""

    x_m: tuple[float, float] = (0.54, 0.60)
    y_m: tuple[float, float] = (-0.10, 0.10)
    yaw_rad: float = float(np.deg2rad(15.0))
    """Turned by up to this much."""

    def draw(self, rng: np.random.Generator, cell: tuple[int, int]) -> Place:
        """Draw a place in one of the 2 x 3 cells (x, y)."""
        (low_x, high_x), (low_y, high_y) = self.x_m, self.y_m
        x = low_x + (high_x - low_x) * (cell[0] + float(rng.uniform())) / 2
        y = low_y + (high_y - low_y) * (cell[1] + float(rng.uniform())) / 3
        return Place(closed_m=(x, y), yaw_rad=float(rng.uniform(-self.yaw_rad, self.yaw_rad)), label=_label(*cell))

    def place(self, closed_m: Float[ndarray, " 2"], yaw_rad: float) -> Place:
        """Return a given place, labelled by the cell that it is in or nearest to."""
        low_y, high_y = self.y_m
        x, y = closed_m.tolist()
        label = _label(int(x > np.mean(self.x_m)), int(np.clip((y - low_y) / (high_y - low_y) * 3, 0, 2)))
        return Place(closed_m=(x, y), yaw_rad=yaw_rad, label=label)


def drawer_state(place: Place, *, task: str, name: str, instruction: str, opening_m: float) -> InitialState:
    """Return a drawer that is open by ``opening_m``."""
    turn = np.array(yaw_to_quat(place.yaw_rad))
    position = np.array([*place.closed_m, 0.0]) - quat_rotate(turn, np.array([opening_m, 0.0, 0.0]))
    return InitialState(
        name=name,
        task=task,
        instruction=instruction,
        object_pose={DRAWER: (*position.tolist(), *turn.tolist())},
        object_rgb={DRAWER: DRAWER_RGB},
        joint_value={DRAWER: opening_m},
        labels={"target": DRAWER, "place": place.label},
    )


def heading(way_m: Float[ndarray, " 2"]) -> float:
    """Return the turn about the vertical of a drawer that slides shut along ``way_m``."""
    return float(np.arctan2(way_m[1], way_m[0]))


def check_state(state: InitialState, *, task: str) -> None:
    """Raise ``ValueError`` if ``state`` is not a start with a drawer."""
    opening = state.joint_value.get(DRAWER, -1.0)
    is_complete = DRAWER in state.object_pose and set(state.object_pose) == set(state.object_rgb)
    if state.task != task or not is_complete or not 0.0 <= opening <= TRAVEL_M:
        raise ValueError(f"'{state.name}' is not an initial state of '{task}'.")


def open_fraction(facts: Facts) -> Float[ndarray, " E"]:
    """Return the opening between the joint's limits, 0 to 1."""
    return facts.joint_value[DRAWER] / TRAVEL_M


def slid_m(facts: Facts) -> Float[ndarray, " E"]:
    """Return by how much the drawer is farther open than at the start, negative where it is less."""
    return facts.joint_value[DRAWER] - np.array([state.joint_value.get(DRAWER, 0.0) for state in facts.initial])


def at_handle(facts: Facts, handle_m: Triple) -> Bool[ndarray, " E"]:
    """Return where the hand is at a point of the handle, given in the drawer's frame.

    Contacts do not tell: those with the cabinet count as the drawer's.
    """
    return near(facts, point(facts.object_pose[DRAWER], handle_m))


def point(pose: Float[ndarray, "*b 7"], offset_m: Triple) -> Float[ndarray, "*b 3"]:
    """Return a point of the drawer's frame in the base frame."""
    return pose[..., :3] + quat_rotate(pose[..., 3:], np.broadcast_to(np.array(offset_m), pose[..., :3].shape))


def _board(half: Triple, at: Triple, rgb: RGB | None = None) -> Part:
    return Part(half_size_m=half, position_m=at, rgb=rgb)


def _fixture(cabinet: Cabinet) -> FixtureSpec:
    """A box, open to the front, and a drawer whose panel covers the opening."""
    t, half_w, half_d, high = _BOARD_M, cabinet.width_m / 2, DEPTH_M / 2, cabinet.height_m
    fixed = (
        _board((half_d, half_w, t), (half_d, 0.0, high - t)),
        _board((half_d, t, high / 2), (half_d, half_w - t, high / 2)),
        _board((half_d, t, high / 2), (half_d, t - half_w, high / 2)),
        _board((t, half_w, high / 2), (DEPTH_M - t, 0.0, high / 2)),
    )
    inner_w, depth, height = half_w - 3 * t, 0.064, (high - 0.038) / 2
    panel = _board((t, half_w - 0.002, high / 2 - 0.003), (-t, 0.0, high / 2))
    sliding = (
        panel,
        _board((0.018, 0.006, 0.013), (-0.028, 0.0, cabinet.handle_m[2] + 0.004), _HANDLE_RGB),
        _board((depth, inner_w, 0.002), (depth, 0.0, 0.012)),
        _board((depth, 0.002, height), (depth, inner_w, 0.012 + height)),
        _board((depth, 0.002, height), (depth, -inner_w, 0.012 + height)),
        _board((0.002, inner_w, height), (2 * depth, 0.0, 0.012 + height)),
    )
    return FixtureSpec(
        name=DRAWER,
        fixed=fixed,
        sliding=sliding,
        travel_m=TRAVEL_M,
        mass_kg=0.3,
        friction_n=1.0,
        damping_n_s_m=4.0,
    )


def _label(depth: int, side: int) -> str:
    return f"{('near', 'far')[depth]} {('right', 'middle', 'left')[side]}"


def no_objects(task: str, objects: Sequence[str] | None) -> None:
    """Raise ``ValueError`` if objects were chosen: there is one drawer."""
    if objects is not None:
        raise ValueError(f"'{task}' has one drawer and no objects to choose, got {', '.join(objects)}.")


def triple(point_m: Float[ndarray, " 3"]) -> Triple:
    """Return a point as plain numbers."""
    x, y, z = point_m.tolist()
    return x, y, z
