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
DRAWER_RGB: RGB = (0.70, 0.52, 0.34)
TRAVEL_M = 0.12
WIDTH_M, DEPTH_M, HEIGHT_M = 0.22, 0.16, 0.09
HANDLE_M: Triple = (-0.030, 0.0, 0.060)
"""Where the TCP grasps the handle, in the drawer's frame: the middle of the front panel's foot, x into the cabinet."""
HANDLE_TIP_M: Triple = (-0.046, 0.0, 0.060)
"""The handle's outermost point, which a hand pushes."""
_PANEL_RGB: RGB = (0.86, 0.80, 0.70)
_HANDLE_RGB: RGB = (0.20, 0.20, 0.24)
_BOARD_M = 0.004
"""Half the thickness of a board."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """Where the front edge of the closed drawer may be. Lengths in metres."""

    x_m: tuple[float, float] = (0.54, 0.60)
    y_m: tuple[float, float] = (-0.10, 0.10)
    yaw_rad: float = float(np.deg2rad(15.0))
    """Turned by up to this much."""


REGION = Region()


def drawer_scene() -> SceneSpec:
    """Return the cabinet with its drawer, alone on the table."""
    return SceneSpec(objects=shifts.distractors(), fixtures=(_fixture(),), camera=FRONT_CAMERA, is_grasped=True)


def drawer_state(
    rng: np.random.Generator, *, task: str, name: str, instruction: str, opening_m: float, cell: tuple[int, int]
) -> InitialState:
    """Return a drawer in one of the 2 x 3 cells (x, y) of the region, open by ``opening_m``."""
    low_x, high_x = REGION.x_m
    low_y, high_y = REGION.y_m
    x = low_x + (high_x - low_x) * (cell[0] + float(rng.uniform())) / 2
    y = low_y + (high_y - low_y) * (cell[1] + float(rng.uniform())) / 3
    turn = np.array(yaw_to_quat(float(rng.uniform(-REGION.yaw_rad, REGION.yaw_rad))))
    place = np.array([x, y, 0.0]) - quat_rotate(turn, np.array([opening_m, 0.0, 0.0]))
    return InitialState(
        name=name,
        task=task,
        instruction=instruction,
        object_pose={DRAWER: (*(float(v) for v in place), *(float(v) for v in turn))},
        object_rgb={DRAWER: DRAWER_RGB},
        joint_value={DRAWER: opening_m},
        labels={"target": DRAWER, "place": f"{('near', 'far')[cell[0]]} {('right', 'middle', 'left')[cell[1]]}"},
    )


def guessed_state(
    closed_m: Float[ndarray, " 2"], yaw_rad: float, *, task: str, instruction: str, opening_m: float
) -> InitialState:
    """Return a drawer whose front edge, closed, is at ``closed_m``, open by ``opening_m``."""
    turn = np.array(yaw_to_quat(yaw_rad))
    place = np.array([*closed_m, 0.0]) - quat_rotate(turn, np.array([opening_m, 0.0, 0.0]))
    depth = ("near", "far")[int(closed_m[0] > np.mean(REGION.x_m))]
    low_y, high_y = REGION.y_m
    side = ("right", "middle", "left")[int(np.clip((closed_m[1] - low_y) / (high_y - low_y) * 3, 0, 2))]
    return InitialState(
        name=f"{task}/guessed",
        task=task,
        instruction=instruction,
        object_pose={DRAWER: (*place.tolist(), *turn.tolist())},
        object_rgb={DRAWER: DRAWER_RGB},
        joint_value={DRAWER: opening_m},
        labels={"target": DRAWER, "place": f"{depth} {side}"},
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


def _fixture() -> FixtureSpec:
    """A low cabinet, open to the front, and a drawer whose panel covers the opening."""
    t, half_w, half_d = _BOARD_M, WIDTH_M / 2, DEPTH_M / 2
    fixed = (
        _board((half_d, half_w, t), (half_d, 0.0, HEIGHT_M - t)),
        _board((half_d, t, HEIGHT_M / 2), (half_d, half_w - t, HEIGHT_M / 2)),
        _board((half_d, t, HEIGHT_M / 2), (half_d, t - half_w, HEIGHT_M / 2)),
        _board((t, half_w, HEIGHT_M / 2), (DEPTH_M - t, 0.0, HEIGHT_M / 2)),
    )
    inner_w, depth, height = half_w - 3 * t, 0.064, 0.026
    panel = _board((t, half_w - 0.002, HEIGHT_M / 2 - 0.003), (-t, 0.0, HEIGHT_M / 2), _PANEL_RGB)
    sliding = (
        panel,
        _board((0.018, 0.006, 0.013), (-0.028, 0.0, HANDLE_M[2] + 0.004), _HANDLE_RGB),
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


def no_objects(task: str, objects: Sequence[str] | None) -> None:
    """Raise ``ValueError`` if objects were chosen: there is one drawer."""
    if objects is not None:
        raise ValueError(f"'{task}' has one drawer and no objects to choose, got {', '.join(objects)}.")


def triple(point_m: Float[ndarray, " 3"]) -> Triple:
    """Return a point as plain numbers."""
    x, y, z = point_m.tolist()
    return x, y, z
