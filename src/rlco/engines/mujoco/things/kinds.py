"""The kinds of things, their usual colours and what looks alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rlco.core.scene import RGB, Part, Triple
from rlco.core.shapes import extent_m
from rlco.engines.mujoco.things import groceries, vessels
from rlco.engines.mujoco.things.pieces import COLOURS, LEAF, STALK, Parts, Rng

_X, _Y, _UP = np.eye(3)
WIDEST_GRIP_M = 0.037
"""Half widths beyond this do not fit between the fingers."""
_DISHES = ("bowl", "plate")
"""Round as seen from above."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What has a name."""

    name: str
    draw: Callable[[Rng], Parts]
    colours: Mapping[str, RGB] = field(default_factory=lambda: COLOURS)
    """The usual ones, each under the word for it."""
    family: str
    """What looks alike. One picture has no two things of a family and a colour."""


_BROWN_FRUIT: dict[str, RGB] = {"brown": (0.48, 0.36, 0.18)}
_APPLE: dict[str, RGB] = {"red": (0.80, 0.12, 0.12), "green": (0.50, 0.72, 0.20), "yellow": (0.90, 0.80, 0.25)}
_PEPPER: dict[str, RGB] = {"red": (0.82, 0.12, 0.08), "green": (0.15, 0.45, 0.12), "yellow": (0.95, 0.80, 0.10)}
_ONION: dict[str, RGB] = {"purple": (0.55, 0.20, 0.40), "brown": (0.68, 0.45, 0.22), "white": (0.92, 0.90, 0.84)}

PLAIN = (
    Kind(name="cube", draw=groceries.cube, family="boxy"),
    Kind(name="box", draw=groceries.plain_box, family="boxy"),
    Kind(name="ball", draw=groceries.ball, family="round"),
    Kind(name="can", draw=groceries.can, family="tall"),
    Kind(name="egg", draw=groceries.oval((0.7, 0.9), (0.6, 0.8)), family="oval"),
    Kind(name="capsule", draw=groceries.capsule, family="tall"),
)
"""Shapes of any colour."""
NAMED = (
    Kind(name="apple", draw=groceries.fruit(squash=(0.82, 0.98), stalk=STALK), colours=_APPLE, family="round"),
    Kind(
        name="orange",
        draw=groceries.fruit(squash=(0.95, 1.0), stalk=None),
        colours={"orange": (0.95, 0.50, 0.08)},
        family="round",
    ),
    Kind(
        name="peach",
        draw=groceries.fruit(squash=(0.88, 0.96), stalk=LEAF),
        colours={"pink": (0.96, 0.62, 0.48)},
        family="round",
    ),
    Kind(name="onion", draw=groceries.fruit(squash=(0.75, 0.92), stalk=STALK), colours=_ONION, family="round"),
    Kind(name="tomato", draw=groceries.tomato, colours={"red": (0.88, 0.18, 0.12)}, family="round"),
    Kind(name="lemon", draw=groceries.lemon, colours={"yellow": (0.95, 0.88, 0.20)}, family="oval"),
    Kind(
        name="lime",
        draw=groceries.oval((0.78, 0.88), (0.78, 0.88)),
        colours={"green": (0.42, 0.70, 0.18)},
        family="oval",
    ),
    Kind(
        name="plum",
        draw=groceries.oval((0.74, 0.85), (0.74, 0.85)),
        colours={"purple": (0.40, 0.12, 0.36)},
        family="oval",
    ),
    Kind(name="kiwi", draw=groceries.oval((0.74, 0.88), (0.74, 0.88)), colours=_BROWN_FRUIT, family="oval"),
    Kind(name="potato", draw=groceries.potato, colours={"brown": (0.70, 0.55, 0.35)}, family="oval"),
    Kind(
        name="pear",
        draw=groceries.pear,
        colours={"green": (0.66, 0.76, 0.25), "yellow": (0.85, 0.80, 0.30)},
        family="pear",
    ),
    Kind(name="strawberry", draw=groceries.strawberry, colours={"red": (0.85, 0.10, 0.14)}, family="strawberry"),
    Kind(name="radish", draw=groceries.radish, colours={"pink": (0.85, 0.18, 0.42)}, family="radish"),
    Kind(name="pepper", draw=groceries.pepper, colours=_PEPPER, family="pepper"),
    Kind(
        name="mushroom",
        draw=groceries.mushroom,
        colours={"brown": (0.60, 0.42, 0.28), "white": (0.93, 0.90, 0.85)},
        family="mushroom",
    ),
    Kind(name="banana", draw=groceries.banana, colours={"yellow": (0.96, 0.85, 0.22)}, family="long"),
    Kind(name="carrot", draw=groceries.carrot, colours={"orange": (0.95, 0.48, 0.10)}, family="long"),
    Kind(name="corn", draw=groceries.corn, colours={"yellow": (0.95, 0.82, 0.30)}, family="long"),
    Kind(name="cucumber", draw=groceries.cucumber, colours={"green": (0.20, 0.48, 0.16)}, family="long"),
    Kind(name="eggplant", draw=groceries.eggplant, colours={"purple": (0.28, 0.10, 0.32)}, family="long"),
    Kind(name="soap", draw=groceries.soap, family="boxy"),
    Kind(name="sponge", draw=groceries.sponge, family="boxy"),
    Kind(name="carton", draw=groceries.carton, family="boxy"),
    Kind(name="jar", draw=groceries.jar, family="tall"),
    Kind(name="bottle", draw=groceries.bottle, family="tall"),
    Kind(name="roll", draw=groceries.roll, colours={"white": (0.93, 0.93, 0.91)}, family="tall"),
)
"""Fruit, vegetables, household things: never two of a kind in one picture."""
CONTAINERS = (
    Kind(name="bowl", draw=vessels.bowl, family="dish"),
    Kind(name="plate", draw=vessels.plate, family="dish"),
    Kind(name="pan", draw=vessels.pan, family="dish"),
    Kind(name="tray", draw=vessels.walled(height=(0.012, 0.025)), family="crate"),
    Kind(name="basket", draw=vessels.walled(height=(0.03, 0.06)), family="crate"),
)
"""What things are put into or onto; never two of a kind in one picture."""
CABINET = Kind(name="drawer", draw=vessels.cabinet, family="drawer")
HANDLE = "handle"
"""The kind of a cabinet's last part, which has a place of its own."""
KINDS = {kind.name: kind for kind in (*PLAIN, *NAMED, *CONTAINERS, CABINET)}
KIND_NAMES = (*KINDS, HANDLE)
"""The order in which pictures count kinds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One that was drawn."""

    kind: Kind
    parts: Parts
    half_m: Triple
    """How far it reaches along x, y and z from the origin; above it as far as below."""
    middle_x_m: float
    radius_m: float
    """Of the circle around (``middle_x_m``, 0) that holds it as seen from above."""

    @property
    def is_graspable(self) -> bool:
        """Return whether it fits between the fingers."""
        return self.half_m[1] <= WIDEST_GRIP_M


def draw_thing(rng: Rng, kind: Kind) -> Thing:
    """Draw a thing of a kind, its origin at the middle of its height."""
    drawn = kind.draw(rng)
    parts = moved(drawn, (0.0, 0.0, (extent_m(drawn, -_UP) - extent_m(drawn, _UP)) / 2))
    front, back = extent_m(parts, _X), extent_m(parts, -_X)
    y, z = max(extent_m(parts, _Y), extent_m(parts, -_Y)), extent_m(parts, _UP)
    length = (front + back) / 2
    return Thing(
        kind=kind,
        parts=parts,
        half_m=(max(front, back), y, z),
        middle_x_m=(front - back) / 2,
        radius_m=max(length, y) if kind.name in _DISHES else float(np.hypot(length, y)),
    )


def moved(parts: Sequence[Part], offset_m: Triple) -> Parts:
    """Return ``parts`` elsewhere in their frame."""
    dx, dy, dz = offset_m
    return tuple(
        replace(part, position_m=(part.position_m[0] + dx, part.position_m[1] + dy, part.position_m[2] + dz))
        for part in parts
    )
