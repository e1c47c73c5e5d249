"""Where episodes begin: regions, grids, balance, names, JSON, and sentences that fit the small policy's prompt."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy import ndarray

from rlco.core.poses import quat_rotate, quat_to_yaw
from rlco.core.scene import InitialState, Look, Nudge
from rlco.policies.pi.config import CONFIGS
from rlco.policies.pi.prompts import state_bins, tokenise
from rlco.policies.pi.tokenizer import ToyTokenizer
from rlco.tasks import TASKS, Task
from rlco.tasks.drawer import DRAWER, TRAVEL_M
from rlco.tasks.objects import BOWL, IRREGULAR_NAMES, ITEMS, TRAINING_NAMES

EVERY_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
DRAWERS = ("open-drawer", "close-drawer")


def drawn(task: Task, count: int) -> list[InitialState]:
    """Return starts of both kinds: named ones and freely drawn ones."""
    rng = np.random.default_rng(0)
    return task.fixed_states(count, seed=0, prefix="test") + [task.sample_initial_state(rng) for _ in range(count)]


def front_edge(state: InitialState) -> ndarray:
    """Return where the middle of the front edge of the drawer is when it is closed."""
    pose = np.array(state.object_pose[DRAWER])
    return pose[:3] + quat_rotate(pose[3:], np.array([state.joint_value[DRAWER], 0.0, 0.0]))


@EVERY_TASK
def test_every_field_of_a_start_survives_json(task: Task) -> None:
    state = task.fixed_states(1, seed=0, prefix="test")[0]
    thing = task.reference_object(state, 0)
    full = replace(
        state,
        joint_value={"drawer": 0.0625},
        tcp_offset_m=(0.05, 0.0, -0.01),
        tcp_yaw_rad=-0.5,
        look=Look(
            brightness=0.6, tint=(1.1, 1.0, 0.9), camera_offset_m=(0.1, 0.2, 0.3), camera_offset_rad=(0.0, 0.1, 0.2)
        ),
        nudge=Nudge(object=thing, step=7, offset_m=(0.04, -0.02)),
    )
    for one in (state, full):
        assert InitialState.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert not {"look", "nudge", "tcp_yaw_rad"} & set(state.to_json())  # what is usual is not written
    with pytest.raises(ValueError, match="Not an initial state"):
        InitialState.from_json({**full.to_json(), "gravity": 1.0})


@EVERY_TASK
@pytest.mark.parametrize("shift", [None, "lighting"])
def test_a_longer_list_begins_with_the_shorter_one(task: Task, shift: str | None) -> None:
    longer = task.fixed_states(40, seed=1, prefix="test", shift=shift)
    assert task.fixed_states(9, seed=1, prefix="test", shift=shift) == longer[:9]
    assert len({state.name for state in longer}) == 40
    assert task.fixed_states(9, seed=2, prefix="test", shift=shift) != longer[:9]
    assert task.fixed_states(9, seed=1, prefix="other", shift=shift)[0].object_pose != longer[0].object_pose


@EVERY_TASK
def test_drawn_starts_follow_from_the_generator_and_have_names_of_their_own(task: Task) -> None:
    first, again = ([task.sample_initial_state(rng) for _ in range(20)] for rng in map(np.random.default_rng, (5, 5)))
    assert first == again
    assert len({state.name for state in first}) == 20
    assert all(state.name.startswith(f"{task.name}/drawn/") for state in first)
    for state in first:
        task.check(state)


@EVERY_TASK
def test_every_sentence_of_every_start_fits_the_small_policys_prompt(task: Task) -> None:
    length = CONFIGS["pi05-nano"]().prompt_length
    assert length == 24
    states = [s for shift in (None, *task.shifts) for s in task.fixed_states(30, seed=0, prefix="test", shift=shift)]
    if task.name == "pick-place":
        states += [s for name in ITEMS for s in task.fixed_states(1, seed=0, prefix="test", objects=[name])]
    sentences = sorted({text for state in states for text in (state.instruction, *task.paraphrases(state))})
    bins = state_bins(torch.zeros(len(sentences), 8))
    _, _, is_word = tokenise(sentences, bins, tokenizer=ToyTokenizer(), length=length)
    assert is_word.sum(1).min() >= 2  # "close it"


@EVERY_TASK
def test_the_instruction_is_none_of_its_paraphrases(task: Task) -> None:
    for state in task.fixed_states(30, seed=0, prefix="test"):
        others = task.paraphrases(state)
        assert len({state.instruction, *others}) == len(others) + 1
        named = state.labels.get("object", "")
        assert all(named in sentence for sentence in (state.instruction, *others))


def test_pick_place_starts_on_two_grids_of_five_centimetres() -> None:
    states = drawn(TASKS["pick-place"], 300)
    objects = np.array([state.object_pose[state.labels["object"]] for state in states])
    bowls = np.array([state.object_pose[BOWL] for state in states])
    for places, corner, size in ((objects, (0.42, 0.0), (0.20, 0.25)), (bowls, (0.47, -0.25), (0.10, 0.20))):
        steps = (places[:, :2] - corner) / 0.05
        np.testing.assert_allclose(steps, steps.round(), atol=1e-9)
        np.testing.assert_allclose(steps.min(0), 0.0, atol=1e-9)
        np.testing.assert_allclose(steps.max(0), np.array(size) / 0.05, atol=1e-9)
    assert np.linalg.norm(objects[:, :2] - bowls[:, :2], axis=1).min() >= 0.14
    turns = np.array([quat_to_yaw(pose[3:]) for pose in objects])
    assert np.abs(turns).max() <= 0.5
    assert turns.std() > 0.2


def test_pick_place_objects_are_equally_frequent_and_its_places_nearly_so() -> None:
    states = TASKS["pick-place"].fixed_states(500, seed=0, prefix="eval")
    assert Counter(state.labels["object"] for state in states) == dict.fromkeys(TRAINING_NAMES, 20)
    # 419 pairs of grid points are far enough apart: each comes once before one comes twice
    pairs = [(s.object_pose[s.labels["object"]][:2], s.object_pose[BOWL][:2]) for s in states]
    assert len(set(pairs[:419])) == 419
    assert pairs[419:] == pairs[:81]
    # of each object's own 20, no region is missing
    for name in TRAINING_NAMES:
        assert len({state.labels["place"] for state in states if state.labels["object"] == name}) == 4
    four = TASKS["pick-place"].fixed_states(40, seed=0, prefix="eval", objects=("apple", "can", "corn", "cube"))
    assert set(Counter(state.labels["object"] for state in four).values()) == {10}


def test_there_are_twenty_five_training_objects_and_the_irregular_ones_are_others() -> None:
    assert len(set(TRAINING_NAMES)) == 25
    assert len(set(IRREGULAR_NAMES)) == 7
    assert not set(TRAINING_NAMES) & set(IRREGULAR_NAMES)
    rng = np.random.default_rng(0)
    seen = {TASKS["pick-place"].sample_initial_state(rng).labels["object"] for _ in range(600)}
    assert seen == set(TRAINING_NAMES)
    with pytest.raises(LookupError, match=r"No object of pick-place named 'aple'\. Did you mean 'apple'"):
        TASKS["pick-place"].sample_initial_state(rng, objects=("aple",))
    with pytest.raises(ValueError, match="No object of pick-place was given"):
        TASKS["pick-place"].fixed_states(1, seed=0, prefix="test", objects=())


@pytest.mark.parametrize("name", DRAWERS)
def test_the_closed_drawers_front_edge_stays_in_its_region(name: str) -> None:
    states = drawn(TASKS[name], 200)
    edges = np.array([front_edge(state) for state in states])
    assert edges[:, 0].min() >= 0.54 - 1e-9
    assert edges[:, 0].max() <= 0.60 + 1e-9
    side_m, turn_deg = (0.10, 15.0) if name == "open-drawer" else (0.18, 30.0)
    assert 0.9 * side_m < np.abs(edges[:, 1]).max() <= side_m + 1e-9
    assert np.abs(edges[:, 2]).max() <= 1e-12
    turns = np.rad2deg([quat_to_yaw(np.array(state.object_pose[DRAWER])[3:]) for state in states])
    assert np.abs(turns).max() <= turn_deg
    assert turns.min() < -0.8 * turn_deg < 0.8 * turn_deg < turns.max()
    opened = np.array([state.joint_value[DRAWER] for state in states])
    if name == "open-drawer":
        assert not opened.any()
    else:
        assert np.abs(opened - 0.10).max() <= 0.01
        assert opened.std() > 0.004


@pytest.mark.parametrize("name", DRAWERS)
def test_every_part_of_the_drawers_region_is_equally_frequent(name: str) -> None:
    states = TASKS[name].fixed_states(60, seed=0, prefix="eval")
    assert Counter(state.labels["place"] for state in states) == dict.fromkeys(
        [f"{depth} {side}" for depth in ("near", "far") for side in ("right", "middle", "left")], 10
    )
    third_m = (0.10 if name == "open-drawer" else 0.18) / 3
    for state in states:
        x, y, _ = front_edge(state)
        assert state.labels["place"].startswith("near" if x < 0.57 else "far")
        assert state.labels["place"].endswith("right" if y < -third_m else "left" if y > third_m else "middle")


@pytest.mark.parametrize("name", DRAWERS)
def test_a_drawer_has_no_objects_to_choose_and_no_opening_beyond_its_travel(name: str) -> None:
    task = TASKS[name]
    with pytest.raises(ValueError, match="one drawer and no objects to choose, got apple"):
        task.fixed_states(1, seed=0, prefix="test", objects=("apple",))
    state = task.fixed_states(1, seed=0, prefix="test")[0]
    for wrong in (TRAVEL_M + 0.001, -0.001):
        with pytest.raises(ValueError, match=f"not an initial state of '{name}'"):
            task.check(replace(state, joint_value={DRAWER: wrong}))


def test_a_pick_place_start_without_its_bowl_or_with_an_uncoloured_thing_is_refused() -> None:
    task = TASKS["pick-place"]
    state = task.fixed_states(1, seed=0, prefix="test")[0]
    no_bowl = {name: pose for name, pose in state.object_pose.items() if name != BOWL}
    extra = {**state.object_pose, "can": (0.5, 0.1, 0.036, 1.0, 0.0, 0.0, 0.0)}
    for wrong in (no_bowl, extra):
        with pytest.raises(ValueError, match="not an initial state of 'pick-place'"):
            task.check(replace(state, object_pose=wrong))
    with pytest.raises(ValueError, match="not an initial state of 'pick-place'"):
        task.check(replace(state, labels={"object": "bowl"}))
