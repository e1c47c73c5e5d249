"""Randomised pictures: the labels agree with what is drawn, and the same look is the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest

from rlco.core.scene import CameraSpec, InitialState, ObjectSpec, Part, SceneSpec
from rlco.core.shapes import grasp_height_m
from rlco.engines.mujoco.randomised import NOTHING, Pictures, render_pictures
from rlco.engines.mujoco.sight import is_seen, project
from rlco.engines.mujoco.simulation import Simulation
from rlco.engines.mujoco.things.kinds import CABINET, CONTAINERS, HANDLE, KIND_NAMES, KINDS, NAMED, draw_thing
from rlco.engines.mujoco.things.pieces import COLOURS

pytestmark = pytest.mark.sim
SIZE = 96
CAMERA = CameraSpec(position_m=(1.22, 0.34, 0.66), target_m=(0.51, 0.01, 0.02), fovy_deg=36.0)
NAMES = ("cube", "apple", "banana", "carrot", "bowl", "plate", "basket", "drawer")
WALL = "screen"


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures.concatenate([render_pictures(look=look, count=8, seed=3, image_size=24) for look in range(6)])


@pytest.fixture(scope="module")
def table() -> Iterator[Simulation]:
    rng = np.random.default_rng(0)
    objects = tuple(ObjectSpec(name=name, parts=draw_thing(rng, KINDS[name]).parts, mass_kg=0.1) for name in NAMES)
    wall = ObjectSpec(name=WALL, parts=(Part(half_size_m=(0.01, 0.2, 0.15)),), mass_kg=0.1)
    made = Simulation(SceneSpec(objects=(*objects, wall), camera=CAMERA), num_envs=1, image_size=SIZE)
    yield made
    made.close()


def things() -> dict[str, tuple[float, float, float]]:
    rng = np.random.default_rng(0)
    return {name: draw_thing(rng, KINDS[name]).half_m for name in NAMES}


def start(table: Simulation, places: dict[str, tuple[float, float, float]]) -> np.ndarray:
    """Put things there, magenta, and return the picture."""
    state = InitialState(
        name="test",
        task="none",
        instruction="",
        object_pose={name: (*place, 1.0, 0.0, 0.0, 0.0) for name, place in places.items()},
        object_rgb=dict.fromkeys(places, (1.0, 0.0, 1.0)),
        tcp_offset_m=(-0.05, -0.2, 0.1),
    )
    table.reset(0, state)
    out = np.zeros((SIZE, SIZE, 3), np.uint8)
    table.render(0, out)
    return out.astype(int)


def looks_at(table: Simulation, name: str, place: tuple[float, float, float]) -> bool:
    model = table.model(0)
    return is_seen(
        model,
        table.data(0),
        model.geom_bodyid == model.body(name).id,
        middle_m=np.array(place),
        half_m=np.array(things()[name]),
        yaw_rad=0.0,
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("xy", [(0.45, -0.1), (0.62, 0.15)])
def test_a_thing_is_drawn_where_its_middle_is_projected(table: Simulation, name: str, xy: tuple[float, float]) -> None:
    place = (*xy, things()[name][2])
    empty = start(table, {})
    changed = np.abs(start(table, {name: place}) - empty).sum(-1) > 20
    assert changed.sum() >= 8
    rows, columns = np.nonzero(changed)
    down, right = (project(table.model(0), np.array(place)[None])[0] + 1) / 2 * SIZE
    extent = max(np.ptp(rows), np.ptp(columns))
    # the middle of what changed: nearer than a quarter of its extent, and two pixels for things that are small
    assert abs(rows.mean() + 0.5 - down) <= 2.0 + 0.2 * extent
    assert abs(columns.mean() + 0.5 - right) <= 2.0 + 0.2 * extent
    assert looks_at(table, name, place)


def test_a_thing_behind_another_is_not_seen(table: Simulation) -> None:
    cube, wall = (0.50, 0.0, things()["cube"][2]), (0.55, 0.0, 0.15)
    start(table, {"cube": cube})
    assert looks_at(table, "cube", cube)
    # the camera is in front, at x = 1.22
    start(table, {"cube": cube, WALL: wall})
    assert not looks_at(table, "cube", cube)
    # behind the cube
    start(table, {"cube": cube, WALL: (0.45, 0.0, 0.15)})
    assert looks_at(table, "cube", cube)


def test_a_thing_outside_the_frame_is_not_seen(table: Simulation) -> None:
    place = (0.5, 0.9, things()["cube"][2])
    start(table, {"cube": place})
    assert not looks_at(table, "cube", place)


def test_the_same_look_is_the_same_bits(pictures: Pictures) -> None:
    again = render_pictures(look=2, count=8, seed=3, image_size=24)
    for field in fields(Pictures):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(pictures, field.name)[16:24])
    other = render_pictures(look=2, count=8, seed=4, image_size=24)
    assert not np.array_equal(other.image, again.image)


def test_everything_rests_on_the_table_but_what_is_held(pictures: Pictures) -> None:
    held = np.arange(pictures.kind.shape[1])[None] == pictures.held[:, None]
    resting = pictures.is_shown & ~held & (pictures.kind != KIND_NAMES.index(HANDLE))
    np.testing.assert_allclose(pictures.position_m[resting][:, 2], pictures.half_m[resting][:, 2])
    rows = np.flatnonzero(pictures.held != NOTHING)
    assert len(rows) >= 3
    place = pictures.position_m[rows, pictures.held[rows]]
    np.testing.assert_allclose(place[:, :2], pictures.state[rows, :2], atol=2e-3)
    high = pictures.half_m[rows, pictures.held[rows], 2]
    np.testing.assert_allclose(
        np.maximum(place[:, 2] + np.maximum(high - 0.034, 0), 0.015), pictures.state[rows, 2], atol=2e-3
    )


def test_the_state_says_what_the_fingers_do(pictures: Pictures) -> None:
    width, command = pictures.state[:, 6], pictures.state[:, 7]
    is_held = pictures.held != NOTHING
    assert set(command.tolist()) == {-1.0, 1.0}
    np.testing.assert_allclose(width[command > 0], 0.08, atol=1e-6)
    np.testing.assert_allclose(width[(command < 0) & ~is_held], 0.0, atol=1e-6)
    rows = np.flatnonzero(is_held)
    wide = 2 * pictures.half_m[rows, pictures.held[rows], 1]
    np.testing.assert_allclose(width[rows], np.minimum(wide, 0.08), atol=1e-6)
    assert (command[rows] < 0).all()


def test_no_two_of_a_family_have_a_colour_and_no_kind_with_a_name_is_there_twice(pictures: Pictures) -> None:
    named = {kind.name for kind in (*NAMED, *CONTAINERS, CABINET)}
    for kinds, colours in zip(pictures.kind[:, :-1], pictures.colour[:, :-1], strict=True):
        seen = [(KINDS[KIND_NAMES[k]], list(COLOURS)[c]) for k, c in zip(kinds, colours, strict=True)]
        names = [kind.name for kind, _ in seen if kind.name in named]
        assert len(set(names)) == len(names)
        assert all(colour in kind.colours for kind, colour in seen)
        alike = [(kind.family, colour) for kind, colour in seen if len(kind.colours) > 3]
        assert len(set(alike)) == len(alike)


def test_a_grasp_is_at_the_middle_unless_the_hand_would_meet_the_top() -> None:
    # 2 cm to the middle: there; 5 cm: 3.4 cm below the top of 10; 1 cm: where the fingertips clear the table
    assert [grasp_height_m(half, 2 * half) for half in (0.02, 0.05, 0.01)] == pytest.approx([0.02, 0.066, 0.015])


def test_cabinets_are_narrow_and_wide_and_no_handle_is_wider_than_its_panel() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_thing(rng, CABINET) for _ in range(400)]
    wide = np.array([2 * thing.parts[0].half_size_m[1] for thing in drawn])
    assert (wide.min() < 0.07, wide.max() > 0.22) == (True, True)
    assert np.mean(wide < 0.13) == pytest.approx(0.5, abs=0.08)
    for thing in drawn:
        panel, handle = thing.parts[1], thing.parts[-1]
        assert handle.half_size_m[1] < panel.half_size_m[1]
