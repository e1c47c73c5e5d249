"""What is said of pictures: phrases fit one thing, labels are where it is, motions do what the sentence says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rlco.engines.mujoco.randomised import NAMEABLE, NOTHING, Pictures, render_pictures
from rlco.engines.mujoco.things.kinds import HANDLE, KIND_NAMES, NAMED, PLAIN
from rlco.engines.mujoco.things.pieces import COLOURS
from rlco.policies.families import new_policy
from rlco.policies.words import EDITIONS, INDEX, words
from rlco.tasks.objects import BOWL, IRREGULAR_NAMES, TRAINING_NAMES
from rlco.tasks.pick_place import PickPlace
from rlco.train import captions
from rlco.train.captions import PLACE_CENTRE_M, PLACE_HALF_M, caption_batch, sentence
from rlco.train.motions import ARRIVED_M, FUNNEL_M, SPEED_M, Way, motion
from rlco.train.phrases import kinds_of, nouns, phrase
from rlco.train.pretrain import BASE_CODEC

COLOUR_NAMES = list(COLOURS)
PLACES = [
    [0.5, 0.1, 0.02],
    [0.6, -0.1, 0.02],
    [0.42, -0.2, 0.03],
    [0.62, 0.2, 0.03],
    [0.38, 0.0, 0.02],
    [0.4, 0.2, 0.02],
]
HALF = [
    [0.02, 0.02, 0.02],
    [0.07, 0.07, 0.02],
    [0.02, 0.02, 0.03],
    [0.03, 0.03, 0.03],
    [0.02, 0.02, 0.02],
    [0.1, 0.1, 0.1],
]
PIXELS = [[0.1, 0.2], [-0.3, 0.4], [0.5, 0.5], [-0.5, -0.5], [0.7, 0.0], [0.0, 0.7]]


def scene(*things: str, held: int = NOTHING, tcp_m: tuple[float, float, float] = (0.45, 0.0, 0.2)) -> Pictures:
    """Return one picture of things such as "red cube", each at its own of ``PLACES``."""
    colour, kind = np.zeros((1, NAMEABLE), int), np.zeros((1, NAMEABLE), int)
    for i, thing in enumerate(things):
        its_colour, name = thing.split()
        colour[0, i], kind[0, i] = COLOUR_NAMES.index(its_colour), KIND_NAMES.index(name)
    command = 1.0 if held == NOTHING else -1.0
    return Pictures(
        image=np.zeros((1, 8, 8, 3), np.uint8),
        state=np.array([[*tcp_m, 0, 0, 0, 0.08, command]], np.float32),
        position_m=np.array([PLACES]),
        pixel=np.array([PIXELS]),
        half_m=np.array([HALF]),
        colour=colour,
        kind=kind,
        is_shown=np.arange(NAMEABLE)[None] < len(things),
        held=np.array([held]),
    )


def fits(pictures: Pictures, row: int, said: str) -> list[int]:
    """Return what a phrase means, worked out from its words alone: the slow way."""
    *before, noun = said.split()
    things = [
        i
        for i in np.flatnonzero(pictures.is_shown[row]).tolist()
        if KIND_NAMES[pictures.kind[row, i]] in kinds_of(noun)
        and all(COLOUR_NAMES[pictures.colour[row, i]] == word for word in before if word not in ("big", "small"))
    ]
    size = pictures.half_m[row].max(1)
    if len(things) > 1 and before and before[0] in ("big", "small"):
        things = [(max if before[0] == "big" else min)(things, key=lambda i: size[i])]
    return things


@pytest.mark.sim
def test_a_phrase_fits_the_thing_and_no_other_of_a_picture() -> None:
    pictures = Pictures.concatenate([render_pictures(look=look, count=10, seed=5, image_size=16) for look in range(8)])
    rng = np.random.default_rng(0)
    for row in range(len(pictures.image)):
        for thing in np.flatnonzero(pictures.is_shown[row]).tolist():
            for _ in range(4):
                said = phrase(pictures, row, thing, rng)
                assert fits(pictures, row, said) == [thing], said


def test_what_looks_alike_is_told_apart_by_what_differs() -> None:
    rng = np.random.default_rng(0)
    pictures = scene("red cube", "red carton", "blue cube")
    said = {phrase(pictures, 0, 0, rng) for _ in range(300)}
    # a carton is a box and a block too: of the red ones, only "cube" or the size tells which
    assert "red cube" in said
    assert said.isdisjoint({"red box", "red block", "red object", "red thing", "cube", "box", "block"})


def test_a_sentence_of_two_names_what_is_moved_first_and_a_landmark_second() -> None:
    pictures, rng = scene("red apple", "white bowl"), np.random.default_rng(0)
    said = [sentence(pictures, 0, rng) for _ in range(400)]
    two = [one for one in said if one.second is not None]
    assert 240 < len(two) < 320
    for one in two:
        assert (one.first, one.second) == (0, 1)
    assert {"apple", "bowl"} <= {word for one in said for word in one.text.split()}


def test_labels_are_the_scaled_places_and_the_pixels_of_what_is_named() -> None:
    pictures = scene("red apple", "white bowl")
    batch, labels = caption_batch(pictures, np.zeros(200, int), horizon=4, rng=np.random.default_rng(0))
    two = labels.has_second
    assert 120 < int(two.sum()) < 160
    places = (np.array(PLACES) - PLACE_CENTRE_M) / PLACE_HALF_M
    np.testing.assert_allclose(labels.place[two], np.tile(places[0], (int(two.sum()), 1)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(labels.second_place[two], np.tile(places[1], (int(two.sum()), 1)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(labels.second_pixel[two], np.tile(PIXELS[1], (int(two.sum()), 1)), rtol=1e-6)
    # one thing: the second is the first
    assert torch.equal(labels.second_place[~two], labels.place[~two])
    assert torch.equal(labels.second_pixel[~two], labels.pixel[~two])
    for text, pixel, is_two in zip(batch.observation.instruction, labels.pixel, two, strict=True):
        if not is_two and "apple" in text:
            np.testing.assert_allclose(pixel, PIXELS[0])


def test_an_open_sentence_names_the_cabinet_and_then_its_handle() -> None:
    pictures = scene("brown drawer", "black cube", "black cube", "black cube", "black cube", f"black {HANDLE}")
    pictures = replace(pictures, is_shown=np.array([[True, False, False, False, False, True]]))
    said = [sentence(pictures, 0, np.random.default_rng(seed)) for seed in range(300)]
    opening = [one for one in said if one.text.startswith("open")]
    assert opening
    assert {(one.first, one.second) for one in opening} == {(0, 5)}
    for one in opening:
        assert one.way is not None
        # the robot's side of the handle, 3 cm from its edge; the open gripper stays open
        np.testing.assert_allclose(one.way.goal_m, [0.4 - 0.1 - 0.03, 0.2, 0.02])
        assert (one.way.before, one.way.after) == (1.0, 1.0)


def test_half_of_what_is_said_where_a_cabinet_stands_is_about_it() -> None:
    pictures = scene("red apple", "white bowl", "brown drawer", "black cube", "black cube", f"black {HANDLE}")
    pictures = replace(pictures, is_shown=np.array([[True, True, True, False, False, True]]))
    said = [sentence(pictures, 0, np.random.default_rng(seed)) for seed in range(400)]
    about = [one for one in said if one.first in (2, 5)]
    # half of all, and a fifth or so of the others, which name anything
    assert 200 < len(about) < 270
    assert min(sum(one.first == thing for one in about) for thing in (2, 5)) > 70


def rollout(start: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Return where the TCP is before each step and after the last."""
    return start[:, None] + np.concatenate([np.zeros_like(action[:, :1, :3]), action[..., :3].cumsum(1)], axis=1)


def test_a_grasp_comes_from_above_with_open_fingers_that_close_there_alone() -> None:
    rng = np.random.default_rng(0)
    start = rng.uniform([0.32, -0.26, 0.02], [0.68, 0.26, 0.22], (50, 3))
    goal = np.array([0.5, 0.1, 0.03])
    way = Way(goal_m=goal, funnel_m=FUNNEL_M, before=1.0, after=-1.0)
    action = motion(start, [way] * 50, horizon=60, rng=rng)
    place = rollout(start, action)
    np.testing.assert_allclose(place[:, -1], np.tile(goal, (50, 1)), atol=1e-3)
    assert np.linalg.norm(action[..., :3], axis=-1).max() <= SPEED_M[1] + 1e-6
    far = np.linalg.norm(place[:, :-1] - goal, axis=-1) > ARRIVED_M
    np.testing.assert_array_equal(action[..., 6], np.where(far, 1.0, -1.0))
    assert far[:, 0].all()
    assert not far[:, -1].any()
    # whoever starts above the funnel never comes lower than its wall, but for one step's chord
    aside = np.linalg.norm((place - goal)[..., :2], axis=-1)
    wall = goal[2] + np.minimum(FUNNEL_M, 2.0 * np.maximum(aside - 0.01, 0.0))
    above = start[:, 2] > goal[2] + FUNNEL_M
    assert above.sum() > 10
    assert (place[above, :, 2] >= wall[above] - 0.02).all()


def test_a_reach_is_straight_and_leaves_the_gripper_as_it_is() -> None:
    pictures, rng = scene("red cube", "blue ball"), np.random.default_rng(0)
    said = [sentence(pictures, 0, rng) for _ in range(100)]
    reaches = [one for one in said if one.text.startswith("touch") and one.first == 0]
    assert reaches
    way = reaches[0].way
    assert way is not None
    # the top of a cube of 4 cm, at its place
    np.testing.assert_allclose(way.goal_m, [0.5, 0.1, 0.04])
    start = pictures.state[:, :3].astype(np.float64)
    action = motion(start, [way], horizon=20, rng=rng)
    offset = way.goal_m - start[0]
    np.testing.assert_allclose(np.cross(action[0, :, :3], offset), 0.0, atol=1e-6)
    np.testing.assert_allclose(action[0, :, :3].sum(0), offset, atol=1e-6)
    assert (action[0, :, 6] == 1.0).all()
    assert not action[0, :, 3:6].any()


def test_what_is_held_is_released_over_the_bowl() -> None:
    pictures, rng = scene("red apple", "white bowl", held=0), np.random.default_rng(0)
    said = [sentence(pictures, 0, rng) for _ in range(300)]
    into = [one for one in said if "into the" in one.text]
    assert into
    way = into[0].way
    assert way is not None
    # the apple's middle is grasped, 2 cm above its foot, which is released 2 cm above the table
    np.testing.assert_allclose(way.goal_m, [0.6, -0.1, 0.04])
    assert (way.before, way.after) == (-1.0, 1.0)
    beside = next(one.way for one in said if "next to" in one.text)
    assert beside is not None
    # half of both, and 3 cm between them, on the side of the hand
    away = beside.goal_m[:2] - np.array(PLACES[1][:2])
    assert np.linalg.norm(away) == pytest.approx(0.02 + 0.07 + 0.03)
    assert away @ (pictures.state[0, :2] - PLACES[1][:2]) > 0
    assert beside.goal_m[2] == pytest.approx(0.02)
    # a full hand grasps nothing
    grasps = [one for one in said if one.text.split()[0] in ("grasp", "grab", "lift")]
    assert grasps
    assert all(one.way is None for one in grasps)


def test_nothing_is_asked_of_the_hand_that_it_cannot_do() -> None:
    pictures, rng = scene("white bowl"), np.random.default_rng(0)
    said = [sentence(pictures, 0, rng) for _ in range(200)]
    assert all(one.way is None for one in said if one.text.split()[0] in ("grasp", "grab", "lift", "take", "pick"))
    batch, _ = caption_batch(pictures, np.zeros(100, int), horizon=4, rng=rng)
    asks = [text.startswith(("reach", "touch", "go")) for text in batch.observation.instruction]
    assert batch.is_pad.all(1).tolist() == [not ask for ask in asks]
    assert not batch.action[batch.is_pad.all(1)].any()


def every_text() -> list[str]:
    one = [*captions._TEXTS, *captions._REACHES, *captions._GRASPS, *captions._OF_CABINETS]
    two = [*captions._INTO, *captions._ONTO, *captions._BESIDE, *captions._OF_TWO]
    said = "small magenta strawberry"
    return [*(text.format(said) for text in one), *(text.format(said, "small magenta basket") for text in two)]


def test_every_word_is_known() -> None:
    said = " ".join(every_text()).split()
    said += [noun for kind in KIND_NAMES for noun in nouns(kind)] + COLOUR_NAMES
    assert [word for word in said if len(words(word)) > 1] == []


@pytest.mark.parametrize("size", ["pi05-nano", "openvla-nano", "openvla-oft-nano", "pi0-nano"])
def test_every_sentence_fits_the_prompt(size: str) -> None:
    new_policy(size, BASE_CODEC, seed=0).preprocessor.require_fits(every_text())


def test_the_base_knows_what_training_handles_and_not_what_no_training_set_has() -> None:
    every = {noun for kind in KIND_NAMES for noun in nouns(kind)}
    assert {*TRAINING_NAMES, BOWL} <= every
    assert every.isdisjoint(IRREGULAR_NAMES)
    assert INDEX.keys().isdisjoint(IRREGULAR_NAMES)
    assert len({kind.name for kind in (*PLAIN, *NAMED)} - set(TRAINING_NAMES)) >= 5
    state = PickPlace().fixed_states(1, seed=0, prefix="words")[0]
    assert len(words(state.instruction)) == len(state.instruction.split())
    assert EDITIONS["toy-2"] == len(INDEX)
