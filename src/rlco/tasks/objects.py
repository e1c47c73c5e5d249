"""What pick-place handles: 25 objects of varied shape for training, irregular ones that no training set has, a bowl.

Every shape is composed of convex parts. An object's fingers close along its own y; its long side is along x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlco.core.scene import RGB, ObjectSpec, Part, Triple
from rlco.core.shapes import box, egg, extent_m, grasp_height_m, rod

_LYING: Triple = (0.0, np.pi / 2, 0.0)
"""Turns a round shape's axis from the vertical to x."""
_GREEN: RGB = (0.20, 0.50, 0.15)
_BROWN: RGB = (0.40, 0.25, 0.12)
_ROLLING_N_M_S = 4e-4

BOWL = "bowl"
BOWL_RGB: RGB = (0.80, 0.82, 0.86)
BOWL_RADIUS_M = 0.075
BOWL_FLOOR_M = 0.008
BOWL_HEIGHT_M = 0.045


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """An object and where to hold it. The frame's origin is at the height ``rest_m`` when it lies on the table."""

    name: str
    rgb: RGB
    parts: tuple[Part, ...]
    mass_kg: float = 0.08
    grasp_m: tuple[float, float] = (0.0, 0.0)
    """Where the TCP grasps, in the object's frame."""

    @property
    def spec(self) -> ObjectSpec:
        """Return it as a thing on the table."""
        return ObjectSpec(
            name=self.name, parts=self.parts, mass_kg=self.mass_kg, friction=0.9, rolling_n_m_s=_ROLLING_N_M_S
        )

    @property
    def rest_m(self) -> float:
        """Return the height of the origin above the table."""
        return extent_m(self.parts, np.array([0.0, 0.0, -1.0]))

    @property
    def is_round(self) -> bool:
        """Return whether every heading of the gripper is as good."""
        x, y, _ = self.parts[0].half_size_m
        return x == y and self.parts[0].rpy_rad == (0.0, 0.0, 0.0) and self.parts[0].shape != "box"

    @property
    def top_m(self) -> float:
        """Return the height of the highest point above the table."""
        return self.rest_m + extent_m(self.parts, np.array([0.0, 0.0, 1.0]))

    @property
    def grasp_height_m(self) -> float:
        """Return the height of the TCP that grasps it on the table."""
        return grasp_height_m(self.rest_m, self.top_m)


def _ball(radius: float, *, squash: float = 1.0) -> Part:
    return Part(shape="ellipsoid", half_size_m=(radius, radius, radius * squash))


def _can(radius: float, half_height: float, *, at: Triple = (0.0, 0.0, 0.0), rgb: RGB | None = None) -> Part:
    return Part(shape="cylinder", half_size_m=(radius, radius, half_height), position_m=at, rgb=rgb)


def _stalk(height: float, rgb: RGB = _GREEN) -> Part:
    return Part(shape="cylinder", half_size_m=(0.003, 0.003, 0.006), position_m=(0.0, 0.0, height), rgb=rgb)


def _arc(radius: float, bend_m: float, angles: Sequence[float], half_length: float) -> tuple[Part, ...]:
    """Return rods along a circle of radius ``bend_m`` that touches the origin."""
    return tuple(
        rod(radius, half_length, at=(bend_m * float(np.sin(a)), bend_m * (1 - float(np.cos(a))), 0.0), yaw=a)
        for a in angles
    )


TRAINING = (
    Item(name="apple", rgb=(0.80, 0.12, 0.12), parts=(_ball(0.030, squash=0.9), _stalk(0.028, _BROWN))),
    Item(name="orange", rgb=(0.95, 0.50, 0.08), parts=(_ball(0.029),)),
    Item(name="lemon", rgb=(0.95, 0.88, 0.20), parts=(egg(0.032, 0.022, 0.022), egg(0.039, 0.008, 0.008))),
    Item(name="lime", rgb=(0.45, 0.72, 0.18), parts=(egg(0.026, 0.021, 0.021),)),
    Item(name="peach", rgb=(0.96, 0.65, 0.45), parts=(_ball(0.028, squash=0.92), _stalk(0.026))),
    Item(name="plum", rgb=(0.40, 0.12, 0.35), parts=(egg(0.026, 0.020, 0.020),)),
    Item(name="kiwi", rgb=(0.48, 0.36, 0.18), parts=(egg(0.028, 0.022, 0.022),)),
    Item(name="tomato", rgb=(0.88, 0.20, 0.14), parts=(_ball(0.030, squash=0.75), _stalk(0.023))),
    Item(name="banana", rgb=(0.96, 0.85, 0.25), parts=_arc(0.015, 0.085, (-0.5, -0.17, 0.17, 0.5), 0.032)),
    Item(
        name="carrot",
        rgb=(0.95, 0.48, 0.10),
        parts=(
            rod(0.016, 0.040),
            rod(0.011, 0.030, at=(0.045, 0.0, -0.004)),
            box(0.016, 0.008, 0.003, at=(-0.05, 0.0, 0.006), rgb=_GREEN),
        ),
    ),
    Item(
        name="corn",
        rgb=(0.95, 0.82, 0.30),
        parts=(rod(0.020, 0.055), egg(0.030, 0.021, 0.021, at=(-0.04, 0.0, 0.0), rgb=_GREEN)),
    ),
    Item(
        name="potato",
        rgb=(0.70, 0.55, 0.35),
        parts=(egg(0.038, 0.026, 0.022), egg(0.022, 0.024, 0.020, at=(0.018, 0.003, 0.0))),
    ),
    Item(
        name="pepper",
        rgb=(0.85, 0.15, 0.10),
        parts=(
            egg(0.024, 0.026, 0.028, at=(-0.012, 0.0, 0.0)),
            egg(0.024, 0.025, 0.026, at=(0.014, 0.0, 0.0)),
            _stalk(0.030),
        ),
    ),
    Item(
        name="pear",
        rgb=(0.75, 0.80, 0.28),
        parts=(egg(0.030, 0.028, 0.028), egg(0.026, 0.017, 0.017, at=(0.030, 0.0, -0.010))),
    ),
    Item(name="onion", rgb=(0.78, 0.52, 0.62), parts=(_ball(0.028, squash=0.85), _stalk(0.026, _BROWN))),
    Item(
        name="radish",
        rgb=(0.85, 0.15, 0.40),
        parts=(
            egg(0.020, 0.019, 0.019),
            rod(0.005, 0.018, at=(0.026, 0.0, -0.012)),
            box(0.014, 0.008, 0.003, at=(-0.028, 0.0, -0.012), rgb=_GREEN),
        ),
    ),
    Item(name="egg", rgb=(0.95, 0.90, 0.80), parts=(egg(0.027, 0.021, 0.021),)),
    Item(name="cube", rgb=(0.20, 0.35, 0.80), parts=(box(0.022, 0.022, 0.022),)),
    Item(name="block", rgb=(0.72, 0.50, 0.30), parts=(box(0.040, 0.018, 0.018),)),
    Item(name="soap", rgb=(0.55, 0.80, 0.85), parts=(box(0.034, 0.021, 0.014), egg(0.030, 0.018, 0.018)), mass_kg=0.10),
    Item(
        name="sponge",
        rgb=(0.95, 0.80, 0.20),
        parts=(
            box(0.042, 0.027, 0.010, at=(0.0, 0.0, -0.004)),
            box(0.042, 0.027, 0.004, at=(0.0, 0.0, 0.010), rgb=_GREEN),
        ),
        mass_kg=0.05,
    ),
    Item(name="carton", rgb=(0.30, 0.62, 0.40), parts=(box(0.022, 0.018, 0.038),), mass_kg=0.10),
    Item(
        name="can",
        rgb=(0.75, 0.20, 0.25),
        parts=(_can(0.026, 0.036), _can(0.023, 0.002, at=(0.0, 0.0, 0.038), rgb=(0.75, 0.75, 0.78))),
        mass_kg=0.12,
    ),
    Item(
        name="jar",
        rgb=(0.55, 0.40, 0.25),
        parts=(_can(0.027, 0.026), _can(0.024, 0.007, at=(0.0, 0.0, 0.033), rgb=(0.85, 0.85, 0.85))),
        mass_kg=0.12,
    ),
    Item(
        name="roll",
        rgb=(0.92, 0.92, 0.90),
        parts=(Part(shape="cylinder", half_size_m=(0.024, 0.024, 0.035), rpy_rad=_LYING),),
    ),
)
"""Toy fruit and vegetables, boxes, cylinders."""


def _ring(radius: float, count: int, thick_m: float, half_length: float) -> tuple[Part, ...]:
    """Return rods that form a flat ring whose rim passes through the origin: the TCP grasps it there."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return tuple(
        rod(thick_m, half_length, at=(radius * float(np.sin(a)), radius * (1 - float(np.cos(a))), 0.0), yaw=float(a))
        for a in angles
    )


IRREGULAR = (
    Item(
        name="glove",
        rgb=(0.30, 0.42, 0.55),
        parts=(
            box(0.030, 0.028, 0.012),
            *(rod(0.008, 0.024, at=(0.046, y, -0.004)) for y in (-0.020, -0.007, 0.007, 0.020)),
            rod(0.008, 0.020, at=(0.010, 0.040, -0.004), yaw=0.9),
        ),
    ),
    Item(name="ring", rgb=(0.80, 0.55, 0.15), parts=_ring(0.032, 8, 0.009, 0.022)),
    Item(
        name="cup",
        rgb=(0.35, 0.55, 0.75),
        parts=(
            _can(0.026, 0.003, at=(0.0, 0.026, -0.026)),
            *(
                Part(
                    half_size_m=(0.012, 0.003, 0.028),
                    position_m=(0.026 * float(np.sin(a)), 0.026 * (1 - float(np.cos(a))), 0.0),
                    rpy_rad=(0.0, 0.0, float(a)),
                )
                for a in np.linspace(0, 2 * np.pi, 8, endpoint=False)
            ),
        ),
    ),
    Item(
        name="bone",
        rgb=(0.92, 0.88, 0.78),
        parts=(
            rod(0.010, 0.040),
            *(egg(0.014, 0.014, 0.012, at=(x, y, 0.0)) for x in (-0.038, 0.038) for y in (-0.012, 0.012)),
        ),
    ),
    Item(name="cross", rgb=(0.70, 0.30, 0.55), parts=(box(0.042, 0.010, 0.012), box(0.010, 0.030, 0.012))),
    Item(
        name="hook",
        rgb=(0.35, 0.60, 0.50),
        parts=(box(0.040, 0.010, 0.012), box(0.010, 0.028, 0.012, at=(0.036, 0.020, 0.0))),
    ),
    Item(
        name="duck",
        rgb=(0.95, 0.78, 0.12),
        parts=(
            egg(0.036, 0.025, 0.022),
            egg(0.016, 0.015, 0.015, at=(0.022, 0.0, 0.024)),
            egg(0.010, 0.007, 0.004, at=(0.040, 0.0, 0.022), rgb=(0.90, 0.40, 0.05)),
        ),
    ),
)
"""Gloves, rings, cups, ...: never in a training set, for evaluation only."""

ITEMS: dict[str, Item] = {item.name: item for item in (*TRAINING, *IRREGULAR)}
TRAINING_NAMES = tuple(item.name for item in TRAINING)
IRREGULAR_NAMES = tuple(item.name for item in IRREGULAR)
REST_M = {name: item.rest_m for name, item in ITEMS.items()}
"""``Item.rest_m`` by name, worked out once: success asks for it at every control step."""


def bowl() -> ObjectSpec:
    """Return the bowl: a disc and a ring of leaning slabs. Its frame's origin is the middle of its foot."""
    slabs, foot, lean = 12, 0.046, np.arctan2(BOWL_RADIUS_M - 0.046, BOWL_HEIGHT_M)
    height = BOWL_HEIGHT_M / np.cos(lean) / 2
    middle = (foot + BOWL_RADIUS_M) / 2
    width = BOWL_RADIUS_M * float(np.tan(np.pi / slabs))
    walls = tuple(
        Part(
            half_size_m=(0.003, width, height),
            position_m=(middle * float(np.cos(a)), middle * float(np.sin(a)), BOWL_HEIGHT_M / 2 + 0.003),
            rpy_rad=(0.0, float(lean), float(a)),
        )
        for a in np.linspace(0, 2 * np.pi, slabs, endpoint=False)
    )
    floor = _can(foot, BOWL_FLOOR_M / 2, at=(0.0, 0.0, BOWL_FLOOR_M / 2))
    return ObjectSpec(name=BOWL, parts=(floor, *walls), mass_kg=0.35, friction=0.9, rolling_n_m_s=_ROLLING_N_M_S)
