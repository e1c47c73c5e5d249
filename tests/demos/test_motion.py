"""Targets, segments and plans: the laws of generation, without a simulator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy import ndarray

from rlco.core.poses import pose_inverse, pose_multiply, rotvec_to_quat
from rlco.demos.paths import Clearance, free_way
from rlco.demos.plan import Hold, Move, PlanConfig, choose, follow, misfit, stage_commands
from rlco.demos.sources import Seed, Source, moving
from rlco.demos.targets import action_between, bridge, commanded_targets, moved, transformed

HOME = np.array([0.38, 0.0, 0.12, 1.0, 0.0, 0.0, 0.0])


def pose(x: float, y: float, z: float, rotvec: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> ndarray:
    return np.concatenate([[x, y, z], rotvec_to_quat(np.array(rotvec))])


def random_actions(seed: int, count: int) -> ndarray:
    rng = np.random.default_rng(seed)
    action = rng.uniform(-0.05, 0.05, size=(count, 7))
    action[:, 6] = rng.choice([-1.0, 1.0], size=count)
    return action


def source(x: float = 0.5, yaw: float = 0.0) -> Source:
    start = pose(x - 0.08, 0.01, 0.03)
    targets = commanded_targets(start, np.tile([0.02, 0.001, -0.001, 0.0, 0.0, 0.01, -1.0], (6, 1)))
    return Source(
        start=start, targets=targets, gripper=np.full(6, -1.0), object_pose=pose(x, 0.0, 0.025, (0.0, 0.0, yaw))
    )


def seed(number: int, *stages: Source) -> Seed:
    return Seed(number=number, stages=stages, pruned=3)


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


def test_targets_are_kept_inside_the_workspace_as_the_controller_keeps_them() -> None:
    down = np.tile([0.0, 0.0, -0.05, 0.0, 0.0, 0.0, -1.0], (4, 1))
    down[3, 2] = 0.02
    # pressing on the table is not stored up: one step up leaves it
    np.testing.assert_allclose(commanded_targets(HOME, down)[:, 2], [0.07, 0.02, 0.012, 0.032])


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


def test_a_stage_without_gripper_changes_is_its_targets() -> None:
    made = source()
    commands = stage_commands(made.targets, made.gripper, before=-1.0, settle_steps=5)
    assert all(isinstance(c, Move) and c.is_noisy for c in commands)
    np.testing.assert_array_equal([c.target for c in commands if isinstance(c, Move)], made.targets)


def test_the_arm_arrives_before_each_gripper_change_and_the_fingers_move_after_it() -> None:
    targets = commanded_targets(HOME, np.tile([0.02, 0, 0, 0, 0, 0, 1.0], (4, 1)))
    commands = stage_commands(targets, np.array([1.0, 1.0, -1.0, -1.0]), before=1.0, settle_steps=5)
    kinds = [
        c.until.value if isinstance(c, Hold) else f"{'noisy' if c.is_noisy else 'exact'} {c.gripper}" for c in commands
    ]
    assert kinds == ["noisy 1.0", "noisy 1.0", "arrived", "exact -1.0", "gripped", "noisy -1.0", "noisy -1.0"]
    change = commands[3]
    assert isinstance(change, Move)
    # at the pose before it: closing and moving at once would push what is to be grasped
    np.testing.assert_array_equal(change.target, targets[1])


def test_a_gripper_change_at_the_first_step_is_settled_too() -> None:
    commands = stage_commands(np.stack([HOME]), np.array([1.0]), before=-1.0, settle_steps=5)
    assert [type(c) for c in commands] == [Hold, Move, Hold, Move]


def test_a_motion_goes_on_as_it_was() -> None:
    poses = follow(source().targets, 2)
    np.testing.assert_allclose(poses[:, 0] - source().targets[-1, 0], [0.02, 0.04], atol=1e-12)


def chosen(seeds: list[Seed], object_pose: ndarray, config: PlanConfig, tcp_pose: ndarray = HOME) -> set[int]:
    rng = np.random.default_rng(0)
    return {
        choose(seeds, 0, object_pose=object_pose, tcp_pose=tcp_pose, config=config, rng=rng).number for _ in range(60)
    }


def test_the_nearest_seeds_are_chosen_and_all_of_them() -> None:
    seeds = [seed(number, source(x)) for number, x in enumerate((0.48, 0.50, 0.52, 0.60, 0.70))]
    here = pose(0.505, 0, 0.025)
    for name in ("nearest", "nearest-object"):
        assert chosen(seeds, here, PlanConfig(selection=name, nearest=2)) == {1, 2}
    assert chosen(seeds, here, PlanConfig(selection="random")) == {0, 1, 2, 3, 4}


def test_a_turned_object_is_far() -> None:
    seeds = [seed(0, source(0.50, yaw=0.0)), seed(1, source(0.53, yaw=0.6))]
    turned = pose(0.50, 0.0, 0.025, (0.0, 0.0, 0.6))
    assert chosen(seeds, turned, PlanConfig(nearest=1)) == {1}
    assert chosen(seeds, turned, PlanConfig(nearest=1, yaw_weight_m=0.0)) == {0}


def test_an_object_of_another_height_is_far() -> None:
    low, tall = source(0.50), replace(source(0.50), object_pose=pose(0.50, 0.0, 0.045))
    seeds, tall_one = [seed(0, low), seed(1, tall)], pose(0.58, 0.0, 0.045)
    seeds.append(seed(2, replace(low, object_pose=pose(0.58, 0.0, 0.025))))
    assert chosen(seeds, tall_one, PlanConfig(nearest=1)) == {1}
    assert chosen(seeds, tall_one, PlanConfig(nearest=1, height_weight=1.0)) == {2}


def test_nearest_robot_chooses_by_where_the_motion_would_begin() -> None:
    near, far = source(), source()
    far = replace(far, start=pose(0.42, 0.30, 0.03))
    seeds, here = [seed(0, near), seed(1, far)], pose(0.5, 0.0, 0.025)
    config = PlanConfig(selection="nearest-robot", nearest=1)
    assert chosen(seeds, here, config, pose(0.42, 0.0, 0.03)) == {0}
    assert chosen(seeds, here, config, pose(0.42, 0.28, 0.03)) == {1}
    # the beginning moves with the object
    assert chosen(seeds, pose(0.5, -0.3, 0.025), config, pose(0.42, 0.0, 0.03)) == {1}


def test_motions_out_of_reach_or_tilted_are_found() -> None:
    made = source().targets
    assert misfit(made, made) is None
    assert misfit(made + np.array([0.0, 0.5, 0, 0, 0, 0, 0]), made) == "out of reach"
    tilt = transformed(made, source=source().object_pose, now=pose(0.5, 0.0, 0.15, (0.6, 0.0, 0.0)))
    assert misfit(tilt, made) == "tilted"
    turned = transformed(made, source=source().object_pose, now=pose(0.5, 0.0, 0.025, (0.0, 0.0, 0.6)))
    assert misfit(turned, made) is None


def test_a_free_way_is_straight_unless_something_stands_there() -> None:
    end = pose(0.5, 0.2, 0.05)
    aside = free_way(HOME, end, obstacles_m=np.array([[0.7, 0.0, 0.03]]), step_m=0.03, clearance=Clearance())
    np.testing.assert_array_equal(aside, bridge(HOME, end, step_m=0.03))
    nothing = free_way(HOME, end, obstacles_m=np.zeros((0, 3)), step_m=0.03, clearance=Clearance())
    np.testing.assert_array_equal(nothing, aside)


def test_a_way_with_a_thing_beside_it_goes_up_across_and_down() -> None:
    start, end = pose(0.5, -0.2, 0.02), pose(0.5, 0.2, 0.05)
    thing = np.array([[0.5, 0.0, 0.03]])
    way = free_way(start, end, obstacles_m=thing, step_m=0.03, clearance=Clearance())
    near = np.linalg.norm(way[:, :2] - thing[:, :2], axis=1) < Clearance().beside_m
    assert near.any()
    assert (way[near, 2] >= Clearance().height_m - 1e-9).all()
    np.testing.assert_allclose(way[-1], end)
    steps = np.linalg.norm(np.diff(np.concatenate([start[None], way])[:, :3], axis=0), axis=1)
    assert steps.max() <= 0.03 + 1e-12
    # what is in the hand passes over it too
    carrying = free_way(start, end, obstacles_m=thing, step_m=0.03, clearance=Clearance().carrying(0.05))
    assert carrying[:, 2].max() == pytest.approx(Clearance().height_m + 0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        {"nearest": 0},
        {"noise_m": -0.1},
        {"bridge_step_m": (0.0, 0.1)},
        {"wait_steps": -1},
        {"settle_steps": -1},
        {"yaw_weight_m": -0.1},
    ],
)
def test_a_senseless_configuration_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="PlanConfig"):
        PlanConfig(**wrong)
