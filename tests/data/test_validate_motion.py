"""What the arm, the gripper and the camera do wrong is found, with the right episode and frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy import ndarray

from rlco.core.episode import Episode
from rlco.data import layout
from rlco.data.validation.findings import Severity
from rlco.data.validation.validate import validate
from tests.data.breaking import (
    LENGTHS,
    STARTS,
    altered,
    copy,
    edit_column,
    edit_json,
    edit_rows,
    good,
    only,
    places,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return good(tmp_path_factory.mktemp("healthy") / "set")


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    return copy(source, tmp_path / "set")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["action", "observation.state"])
def test_numbers_that_are_not_finite_are_found(folder: Path, name: str, value: float) -> None:
    def edit(values: ndarray) -> None:
        values[STARTS[1] + 5 : STARTS[1] + 8, 2] = value

    edit_column(folder, name, edit)
    found = validate(folder).of("not-finite")
    assert places(found) == [(1, 5)]
    assert found[0].stop == 8


def test_a_command_beyond_the_controller_is_found(tmp_path: Path) -> None:
    def edit(action: ndarray) -> None:
        action[4:6, 1] = 0.09

    found = only(validate(good(tmp_path / "set", e1=altered("action", edit))), "action-limit")
    assert [(f.episode, f.frame, f.stop) for f in found] == [(1, 4, 6)]
    assert found[0].severity == Severity.WARNING


def test_a_turn_beyond_the_controller_is_found(tmp_path: Path) -> None:
    def edit(action: ndarray) -> None:
        action[9, 5] = -0.4

    assert places(only(validate(good(tmp_path / "set", e2=altered("action", edit))), "action-limit")) == [(2, 9)]


def test_a_jump_of_the_arm_is_found(tmp_path: Path) -> None:
    def edit(state: ndarray) -> None:
        state[8:, 0] += 0.2

    assert places(only(validate(good(tmp_path / "set", e2=altered("state", edit))), "state-jump")) == [(2, 8)]


def test_a_rotation_that_wraps_is_no_jump_but_one_that_jumps_is(tmp_path: Path) -> None:
    def wrap(state: ndarray) -> None:
        # one turn about z at 3.1 rad and on at -3.1 rad is 0.08 rad farther
        state[:7, 3:6], state[7:, 3:6] = (0, 0, 3.1), (0, 0, -3.1)

    def jump(state: ndarray) -> None:
        state[:7, 3:6], state[7:, 3:6] = (0, 0, 1.0), (0, 0, -1.0)

    assert validate(good(tmp_path / "wrap", e0=altered("state", wrap))).findings == ()
    assert places(only(validate(good(tmp_path / "jump", e0=altered("state", jump))), "state-jump")) == [(0, 7)]


def still(first: int, stop: int) -> Callable[[Episode], Episode]:
    """Return a change after which nothing moves from frame ``first`` to ``stop``."""

    def change(episode: Episode) -> Episode:
        keep = np.clip(np.arange(len(episode)), 0, None)
        keep[first:stop] = first
        keep[stop:] = np.arange(len(episode) - stop) + first
        action = episode.action[keep]
        action[first:stop, :6] = 0
        action[first:stop, 6] = action[first, 6]
        state = episode.state[keep]
        state[first:stop] = state[first]
        return replace(episode, action=action, state=state)

    return change


def test_a_long_pause_is_found_and_a_short_one_is_not(tmp_path: Path) -> None:
    found = validate(good(tmp_path / "long", e1=still(2, 19))).of("idle")
    assert len(found) == 1
    assert (found[0].episode, found[0].frame) in ((1, 2), (1, 3))
    assert found[0].stop == 19
    assert validate(good(tmp_path / "short", e1=still(2, 9))).of("idle") == ()
    assert validate(tmp_path / "short", idle_s=1.0).of("idle")


def test_a_frozen_camera_is_found(tmp_path: Path) -> None:
    def freeze(image: ndarray) -> None:
        image[6:11] = image[6]

    found = only(validate(good(tmp_path / "set", e1=altered("image", freeze))), "frozen-camera")
    assert [(f.episode, f.frame, f.stop) for f in found] == [(1, 6, 11)]


def test_a_camera_that_shows_an_arm_at_rest_is_not_frozen(tmp_path: Path) -> None:
    def rest(episode: Episode) -> Episode:
        image = episode.image.copy()
        image[2:9] = image[2]
        return replace(still(2, 9)(episode), image=image)

    assert validate(good(tmp_path / "set", e1=rest)).findings == ()


def test_a_frozen_camera_is_not_looked_for_without_decoding(tmp_path: Path) -> None:
    def freeze(image: ndarray) -> None:
        image[:] = image[0]

    assert validate(good(tmp_path / "set", e0=altered("image", freeze)), decode=False).findings == ()


def flip(action: ndarray) -> None:
    action[:, 6] *= -1


def test_a_gripper_that_moves_against_its_command_is_found(tmp_path: Path) -> None:
    # the hand begins to close after the command at a third of the episode
    found = only(validate(good(tmp_path / "set", e1=altered("action", flip))), "gripper-sign")
    assert places(found) == [(1, LENGTHS[1] // 3)]
    assert "closes against the command of its action" in found[0].message


@pytest.mark.parametrize(
    ("name", "columns", "factor", "what"),
    [
        ("state", slice(0, 3), 1000, "position"),
        ("state", slice(6, 7), 1000, "gripper width"),
        ("action", slice(0, 3), 1000, "translation"),
        ("action", slice(3, 6), 180 / np.pi, "rotation"),
        ("state", slice(3, 6), 180 / np.pi, "orientation"),
    ],
)
def test_millimetres_and_degrees_are_found(tmp_path: Path, name: str, columns: slice, factor: float, what: str) -> None:
    def turn(values: ndarray) -> None:
        # a turn that is plausible in radians
        if what in ("rotation", "orientation"):
            values[:, 5] = 0.2 if name == "action" else 0.3
        values[:, columns] *= factor

    found = only(validate(good(tmp_path / "set", e2=altered(name, turn))), "units")
    assert {f.episode for f in found} == {2}
    assert found[0].message.startswith(what)
    assert found[0].frame == 0


def test_another_form_of_state_is_skipped_with_a_note(folder: Path) -> None:
    edit_rows(folder, lambda rows: rows.set_column(0, "observation.state", pa.array([[900.0] * 6] * rows.num_rows)))
    edit_json(folder, layout.INFO_PATH, lambda info: info["features"]["observation.state"].update(shape=[6]))
    edit_json(folder, layout.STATS_PATH, lambda stats: stats.pop("observation.state"))
    found = validate(folder)
    assert set(found.counts) == {"skipped", "stats"}
    assert found.of("skipped")[0].severity == Severity.NOTE
    assert found.errors == 0


def test_joints_in_our_number_are_no_poses(folder: Path) -> None:
    names = [f"joint_{n}" for n in range(7)]
    edit_json(folder, layout.INFO_PATH, lambda info: info["features"]["action"].update(names=names))
    assert "joint_0" in only(validate(folder), "skipped")[0].message
