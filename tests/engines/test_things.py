"""Things with names: their sizes, their colours, their names."""

from __future__ import annotations

import numpy as np
import pytest

from rlco.core.scene import Part
from rlco.core.shapes import extent_m
from rlco.engines.mujoco.things.kinds import CONTAINERS, KINDS, NAMED, PLAIN, draw_thing, moved
from rlco.engines.mujoco.things.pieces import COLOURS

UP = np.array([0.0, 0.0, 1.0])


@pytest.mark.parametrize("name", list(KINDS))
def test_a_thing_reaches_as_far_as_it_says(name: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        thing = draw_thing(rng, KINDS[name])
        for axis, half in zip(np.eye(3), thing.half_m, strict=True):
            reach = max(extent_m(thing.parts, axis), extent_m(thing.parts, -axis))
            assert reach == pytest.approx(half)
        # as far above the origin as below it: at rest, the origin is half its height above the table
        assert extent_m(thing.parts, -UP) == pytest.approx(extent_m(thing.parts, UP))


@pytest.mark.parametrize("name", list(KINDS))
def test_the_circle_holds_the_thing(name: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        thing = draw_thing(rng, KINDS[name])
        centred = moved(thing.parts, (-thing.middle_x_m, 0.0, 0.0))
        around = [np.array([np.cos(a), np.sin(a), 0.0]) for a in np.linspace(0, 2 * np.pi, 24)]
        # a ring of slabs has corners a little beyond its rim
        assert max(extent_m(centred, direction) for direction in around) <= thing.radius_m + 0.006


def test_hands_hold_what_is_small_and_no_container() -> None:
    rng = np.random.default_rng(2)
    assert all(draw_thing(rng, kind).is_graspable for kind in (*PLAIN, *NAMED) if kind.name != "box" for _ in range(20))
    assert not any(draw_thing(rng, kind).is_graspable for kind in CONTAINERS for _ in range(20))


def test_every_usual_colour_has_a_word_and_no_kind_is_there_twice() -> None:
    kinds = (*PLAIN, *NAMED, *CONTAINERS)
    assert all(kind.colours.keys() <= COLOURS.keys() and kind.colours for kind in kinds)
    assert len({kind.name for kind in kinds}) == len(kinds)


def test_moving_parts_keeps_everything_but_their_place() -> None:
    part = Part(half_size_m=(0.1, 0.2, 0.3), position_m=(1.0, 0.0, 0.0), rpy_rad=(0.1, 0.2, 0.3))
    (there,) = moved((part,), (0.5, -0.5, 0.25))
    assert there == Part(half_size_m=(0.1, 0.2, 0.3), position_m=(1.5, -0.5, 0.25), rpy_rad=(0.1, 0.2, 0.3))
