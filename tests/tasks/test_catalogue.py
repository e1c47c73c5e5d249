"""What holds of every task in the catalogue, in its worlds: exactness, rewards, ends, pictures, a solution."""

from __future__ import annotations

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy import ndarray

import rlco
from rlco.core.scene import Facts, InitialState
from rlco.tasks import TASKS
from rlco.worlds.make import make_world
from rlco.worlds.world import World
from tests.tasks.scripted import play

pytestmark = pytest.mark.sim
SIZE = 24
EVERY_TASK = pytest.mark.parametrize("name", list(TASKS))
MOST_STEPS = 50


def small(name: str, **arguments: Any) -> World:  # noqa: ANN401
    return make_world(name, **{"image_size": SIZE, "num_envs": 3, "num_workers": 2, "render": "none", **arguments})


def starts(name: str) -> list[InitialState]:
    """Three starts that differ in what is on the table, where the task has different things; the last has clutter."""
    task = TASKS[name]
    objects = {"pick-place": ("lime", "can", "banana")}.get(name)
    plain = task.fixed_states(2, seed=0, prefix="test", objects=objects)
    return [*plain, task.fixed_states(3, seed=0, prefix="test", objects=objects, shift="clutter")[2]]


def same(a: Any, b: Any) -> None:  # noqa: ANN401
    """Assert equality bit for bit of arrays in dictionaries, NaN being equal to NaN."""
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], strict=True)


def underway(facts: Facts) -> bool:
    """Return whether every environment is in the middle of it: the object is held, or has been pushed or pulled."""
    for e, state in enumerate(facts.initial):
        name = TASKS[state.task].reference_object(state, 0)
        moved_m = np.linalg.norm(facts.object_pose[name][e, :3] - state.object_pose[name][:3])
        if not (facts.grasped[name][e] if state.task == "pick-place" else moved_m > 0.005):
            return False
    return True


def replay(world: World, actions: ndarray) -> dict[str, ndarray]:
    """Return what is seen after every control step."""
    _, rewards, terminated, truncated, info = world.step_chunk(actions, render="all")
    return {
        "rewards": rewards,
        "terminated": terminated,
        "truncated": truncated,
        "images": info["images"],
        "states": info["states"],
        "success": info["success"],
        "tcp": world.facts().tcp_pose,
    }


@EVERY_TASK
def test_a_trajectory_is_the_same_bits_however_many_others_there_are_and_wherever_it_was_saved(name: str) -> None:
    states = starts(name)
    with small(name) as world:
        played = play(world, states, save_when=underway)
        middle = played.middle
        assert played.success.all()
        assert 0 < middle < played.actions.shape[1] <= MOST_STEPS
        # replayed by the same world, in reverse order, and alone in a world of one process: the same bits
        world.reset(initial_states=states)
        whole = replay(world, played.actions)
        world.reset(initial_states=states[::-1])
        reverse = replay(world, played.actions[::-1])
        same({key: value[::-1] for key, value in reverse.items()}, whole)
        np.testing.assert_array_equal(whole["rewards"], played.rewards)
    later = {k: v[:, middle:] if v.shape[:2] == whole["rewards"].shape else v for k, v in whole.items()}
    with small(name, num_workers=1) as other:
        other.reset(seed=5)
        other.restore(pickle.loads(pickle.dumps(played.saved)))
        same(replay(other, played.actions[:, middle:]), later)
    with small(name, num_envs=1) as alone:
        alone.reset(initial_states=states[2:])
        same(replay(alone, played.actions[2:]), {key: value[2:] for key, value in whole.items()})


@EVERY_TASK
def test_the_same_seed_draws_the_same_episodes_and_autoreset_begins_new_ones(name: str) -> None:
    runs = []
    for num_workers in (1, 2):
        with small(name, autoreset=True, max_steps=3, num_envs=2, num_workers=num_workers, render="last") as world:
            observation, _ = world.reset(seed=4)
            run = [dict(observation)]
            for block in range(3):
                actions = wander(world, 3, seed=block)
                observation, rewards, _, truncated, info = world.step_chunk(actions)
                assert truncated[:, 2].all()
                assert info["_final_obs"].all()
                assert [s.instruction for s in world.initial_states] == observation["instruction"]
                assert info["final_obs"][0]["instruction"] == info["initial_states"][0].instruction
                run.append({**observation, "rewards": rewards})
            runs.append(run)
    names = {instruction for one in runs[0] for instruction in one["instruction"]}
    assert len(names) > 1 or name.endswith("drawer")
    for one, two in zip(*runs, strict=True):
        same(one, two)
    assert (runs[0][0]["image"] != runs[0][1]["image"]).any()


def wander(world: World, steps: int, *, seed: int) -> ndarray:
    """Random actions that go down to the table."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (world.num_envs, steps, 7)) * world.single_action_space.high  # pyright: ignore
    actions[:, : steps // 2, 2] -= 0.02
    return actions.astype(np.float32)


@EVERY_TASK
def test_rewards_stay_in_their_bounds_and_the_operator_solves_the_task_in_the_stand_in(name: str) -> None:
    states = starts(name)
    most = sum(item.reward for item in TASKS[name].event_rewards if item.reward > 0)
    with small(name, domain="standin", reality=1, reward="dense") as dense:
        played = play(dense, states)
        assert played.success.all()
        assert played.rewards.min() >= -1.0
        last = [rewards[rewards != 0][-1] for rewards in played.rewards]
        np.testing.assert_array_equal(last, 1.0)
        assert played.rewards.max() == 1.0
        dense.reset(seed=0)
        _, rewards, _, _, info = dense.step_chunk(wander(dense, 40, seed=1))
        assert np.abs(rewards).max() <= 1.0
        assert np.isfinite(rewards).all()
        assert rewards[info["valid"]].std() > 0
    with small(name, domain="standin", reality=1) as sparse:
        paid = play(sparse, states).rewards
        np.testing.assert_allclose(paid.sum(1), most, atol=1e-6)
        sparse.reset(seed=0)
        _, rewards, *_ = sparse.step_chunk(wander(sparse, 40, seed=1))
        assert set(np.unique(rewards).astype(float).round(6).tolist()) <= {0.0, 0.2, 1.0}


@EVERY_TASK
def test_an_episode_goes_on_after_success_or_is_cut_by_the_clock_as_asked(name: str) -> None:
    states, task = starts(name), TASKS[name]
    with small(name, end_on_success=False, max_steps=MOST_STEPS) as world:
        played = play(world, states)
        assert played.actions.shape[1] == MOST_STEPS
        assert played.success.all()  # it stays done
        paid = played.rewards.sum(1)
        np.testing.assert_allclose(paid, sum(i.reward for i in task.event_rewards if i.reward > 0), atol=1e-6)
    with small(name, max_steps=5) as world:
        world.reset(initial_states=states)
        _, _, terminated, truncated, info = world.step_chunk(played.actions)
        assert not info["success"].any()
        assert not terminated.any()
        assert truncated.sum(1).tolist() == [1, 1, 1]
        assert truncated[:, 4].all()
        assert not info["valid"][:, 5:].any()


@EVERY_TASK
def test_a_start_of_other_things_in_one_environment_leaves_its_neighbours_alone(name: str) -> None:
    states = starts(name)
    with small(name, render="last") as world:
        world.reset(initial_states=states)
        actions = wander(world, 12, seed=2)
        world.step_chunk(actions[:, :6])
        straight, *_ = world.step_chunk(actions[:, 6:])
        before, _ = world.reset(initial_states=states)
        cut, *_ = world.step_chunk(actions[:, :6])
        assert (cut["image"] != before["image"]).any()
        world.reset(mask=np.array([False, True, False]), initial_states=[states[2]])
        facts = world.facts()
        for thing, pose in facts.object_pose.items():
            for e, state in enumerate([states[0], states[2], states[2]]):
                assert np.isnan(pose[e]).all() == (thing not in state.object_pose)
        for thing, pose in states[2].object_pose.items():
            np.testing.assert_allclose(facts.object_pose[thing][1], pose, atol=1e-9)
        after, *_ = world.step_chunk(actions[:, 6:])
        for e in (0, 2):
            np.testing.assert_array_equal(after["image"][e], straight["image"][e])
            np.testing.assert_array_equal(after["state"][e], straight["state"][e])


class OneOf(gym.Env):
    """A world of one environment, as gymnasium's checker wants it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.observation_space, self.action_space = world.single_observation_space, world.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        observation, _ = self.world.reset(seed=seed, options=options)
        return self._only(observation), {}

    def step(self, action: ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, _ = self.world.step(action[None])
        return self._only(observation), float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

    @staticmethod
    def _only(observation: dict[str, Any]) -> dict[str, Any]:
        return {key: value[0] for key, value in observation.items()}


@EVERY_TASK
@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*mum value is -?infinity.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*action space to a symmetric and normalized space.*:UserWarning")
def test_gymnasiums_own_checker_finds_no_fault(name: str) -> None:
    key = next(key for key, task in rlco.GYMNASIUM_IDS.items() if task == name)
    world = gym.make_vec(key, num_envs=1, image_size=SIZE)
    assert isinstance(world, World)
    check_env(OneOf(world), skip_render_check=True)
    world.close()
