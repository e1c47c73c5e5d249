"""Targets, segments and plans: the laws of generation, without a simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy import ndarray

from rlco.core.poses import pose_inverse, pose_multiply, rotvec_to_quat
from rlco.demos.plan import PlanConfig, choose, plan
from rlco.demos.sources import Source, Trace, contact_start, cut, moving
from rlco.demos.targets import action_between, bridge, commanded_targets, moved, transformed

HOME = np.array([0.38, 0.0, 0.12, 1.0, 0.0, 0.0, 0.0])


def pose(x: float, y: float, z: float, rotvec: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> ndarray:
    return np.concatenate([[x, y, z], rotvec_to_quat(np.array(rotvec))])


def random_actions(seed: int, count: int) -> ndarray:
    rng = np.random.default_rng(seed)
    action = rng.uniform(-0.05, 0.05, size=(count, 7))
    action[:, 6] = rng.choice([-1.0, 1.0], size=count)
    return action


def trace(inside: list[int], way: list[float]) -> Trace:
    """Inside the contact stage (0/1) and how far the object has moved [m], step by step."""
    count = len(inside)
    object_pose = np.tile(pose(0.5, 0.0, 0.025), (count, 1))
    object_pose[:, 0] += way
    return Trace(tcp_pose=np.tile(HOME, (count, 1)), object_pose=object_pose, in_contact=np.array(inside, dtype=bool))


def source(x: float = 0.5, number: int = 0) -> Source:
    start = pose(x - 0.08, 0.01, 0.03)
    targets = commanded_targets(start, np.tile([0.02, 0.001, -0.001, 0.0, 0.0, 0.01, -1.0], (6, 1)))
    return Source(
        number=number,
        start=start,
        targets=targets,
        gripper=np.full(6, -1.0),
        object_pose=pose(x, 0.0, 0.025),
        pruned=3,
    )


def test_actions_to_targets_and_back() -> None:
    actions, current = random_actions(0, 20), HOME
    for action, target in zip(actions, commanded_targets(HOME, actions), strict=True):
        np.testing.assert_allclose(action_between(current, target, gripper=action[6]), action, atol=1e-12)
        current = target


def test_an_action_is_limited_as_the_controller_limits_it() -> None:
    np.testing.assert_allclose(action_between(HOME, pose(0.6, 0.0, 0.12), gripper=-1.0)[:3], [0.05, 0.0, 0.0])
    np.testing.assert_allclose(moved(HOME, np.array([0.2, 0, 0, 0, 0, 0, -1.0]))[:3], [0.43, 0.0, 0.12])


def test_the_same_object_pose_gives_the_source_targets_back() -> None:
    made = source()
    same = transformed(made.targets, source=made.object_pose, now=made.object_pose)
    np.testing.assert_allclose(same, made.targets, atol=1e-12)


def test_a_transform_keeps_the_motion_relative_to_the_object() -> None:
    made, now = source(), pose(0.55, -0.1, 0.025, (0.0, 0.0, 0.4))
    there = transformed(made.targets, source=made.object_pose, now=now)
    relative = [
        pose_multiply(pose_inverse(np.tile(o, (6, 1))), t) for o, t in ((made.object_pose, made.targets), (now, there))
    ]
    np.testing.assert_allclose(relative[0], relative[1], atol=1e-12)
    assert np.abs(there - made.targets).max() > 0.01


def test_a_bridge_is_straight_slow_enough_and_as_long_as_the_way() -> None:
    end = pose(0.5, 0.1, 0.05)
    way = bridge(HOME, end, step_m=0.03)
    steps = np.linalg.norm(np.diff(np.concatenate([HOME[None], way])[:, :3], axis=0), axis=1)
    assert len(way) == int(np.ceil(np.linalg.norm(end[:3] - HOME[:3]) / 0.03))
    assert steps.max() <= 0.03 + 1e-12
    np.testing.assert_allclose(steps, steps[0])
    np.testing.assert_allclose(way[-1], end)
    assert len(bridge(HOME, HOME, step_m=0.03)) == 0
    assert len(bridge(HOME, pose(0.41, 0.0, 0.12), step_m=0.03)) == 1


def test_a_bridge_turns_slowly_too() -> None:
    way = bridge(HOME, pose(0.38, 0.0, 0.12, (0.0, 0.0, 0.35)), step_m=0.03, step_rad=0.1)
    assert len(way) == 4
    np.testing.assert_allclose(way[-1], pose(0.38, 0.0, 0.12, (0.0, 0.0, 0.35)), atol=1e-12)


@pytest.mark.parametrize(
    ("inside", "way", "start"),
    [
        # enters once, then pushes
        ([0, 0, 1, 1, 1], [0, 0, 0, 0, 0.02], 2),
        # a first visit that touched nothing is free space
        ([0, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0.02], 4),
        # once the object has moved, a later entry does not count: the object is no longer where the scene put it
        ([0, 1, 1, 0, 1, 1], [0, 0, 0.01, 0.02, 0.02, 0.05], 1),
        # starts inside
        ([1, 1, 1], [0, 0, 0.02], 0),
        # never inside; and never moved
        ([0, 0, 0], [0, 0.02, 0.04], None),
        ([0, 0, 1], [0, 0, 0], 2),
    ],
)
def test_the_contact_stage_starts_with_the_last_entry_before_the_first_touch(
    inside: list[int], way: list[float], start: int | None
) -> None:
    assert contact_start(trace(inside, way)) == start


def test_free_space_is_pruned_and_the_targets_are_those_asked_for() -> None:
    actions = np.tile([0.02, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0], (5, 1))
    made = cut(trace([0, 0, 1, 1, 1], [0, 0, 0, 0, 0.02]), actions, number=7)
    assert made is not None
    np.testing.assert_allclose(made.start[0], 0.38 + 2 * 0.02)
    np.testing.assert_allclose(made.targets[:, 0], 0.38 + 0.02 * np.arange(3, 6))
    assert (made.number, made.pruned) == (7, 2)


def test_pauses_are_dropped_but_a_gripper_change_is_not() -> None:
    actions = np.zeros((6, 7))
    actions[:, 0] = [0.02, 0, 0, 0, 0.02, 0]
    gripper = np.array([-1.0, -1, -1, 1, 1, 1])
    assert moving(HOME, commanded_targets(HOME, actions), gripper).tolist() == [0, 3, 4]


def test_slow_motion_is_no_pause() -> None:
    actions = np.zeros((8, 7))
    actions[:, 0] = 0.0008
    kept = moving(HOME, commanded_targets(HOME, actions), np.full(8, -1.0))
    # 2 mm of target motion each
    assert kept.tolist() == [2, 5]


def made_plan(made: Source, config: PlanConfig) -> ndarray:
    rng = np.random.default_rng(0)
    return plan(made, start=HOME, object_pose=made.object_pose, config=config, rng=rng).targets


def test_a_plan_for_the_source_scene_holds_the_source_targets_exactly() -> None:
    made = source()
    targets = made_plan(made, PlanConfig(follow_steps=0, wait_steps=0))
    np.testing.assert_allclose(targets[-6:], made.targets, atol=1e-12)
    np.testing.assert_allclose(targets[-7], made.start, atol=1e-12)


def test_a_plan_follows_the_object_to_where_it_is_now() -> None:
    made, now = source(), pose(0.51, -0.02, 0.025)
    config = PlanConfig(follow_steps=0, wait_steps=0)
    targets = plan(made, start=HOME, object_pose=now, config=config, rng=np.random.default_rng(0)).targets
    np.testing.assert_allclose(targets[-6:, :3] - made.targets[:, :3], np.tile([0.01, -0.02, 0.0], (6, 1)), atol=1e-12)
    np.testing.assert_allclose(targets[-7, :3] - made.start[:3], [0.01, -0.02, 0.0], atol=1e-12)


def test_a_plan_goes_on_with_the_last_motion_and_then_waits() -> None:
    targets = made_plan(source(), PlanConfig(follow_steps=2, wait_steps=3))
    np.testing.assert_allclose(np.diff(targets[-6:, 0]), [0.02, 0.02, 0, 0, 0], atol=1e-12)


def test_a_plan_says_where_it_comes_from() -> None:
    made, now = source(number=4), pose(0.52, 0.03, 0.025)
    result = plan(made, start=HOME, object_pose=now, config=PlanConfig(), rng=np.random.default_rng(0))
    assert result.provenance["seed_episode"] == 4
    assert result.provenance["object_to"] == now.tolist()
    assert len(result.targets) == len(result.gripper)


def test_the_nearest_sources_are_chosen_and_all_of_them() -> None:
    sources = [source(x, number) for number, x in enumerate((0.48, 0.50, 0.52, 0.60, 0.70))]
    rng = np.random.default_rng(0)
    near = PlanConfig(nearest=2)
    chosen = {choose(sources, pose(0.505, 0, 0.025), config=near, rng=rng).number for _ in range(40)}
    assert chosen == {1, 2}
    anyone = PlanConfig(selection="random")
    assert {choose(sources, pose(0.5, 0, 0.025), config=anyone, rng=rng).number for _ in range(60)} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    "wrong", [{"nearest": 0}, {"noise_m": -0.1}, {"bridge_step_m": (0.0, 0.1)}, {"wait_steps": -1}]
)
def test_a_senseless_configuration_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="PlanConfig"):
        PlanConfig(**wrong)
