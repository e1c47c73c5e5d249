"""The vector environment: same numbers however it is cut into chunks, environments and processes."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest

import rlco
from rlco.tasks import TASKS, task
from rlco.worlds.make import make_world
from rlco.worlds.world import World

pytestmark = pytest.mark.sim
PUSH = task("push-cube")
STATES = PUSH.fixed_states(8, seed=0, prefix="test")
SIZE = 32


def small(**arguments: Any) -> World:  # noqa: ANN401
    return make_world("push-cube", **{"image_size": SIZE, "num_envs": 2, "num_workers": 2, **arguments})


@pytest.fixture(scope="module")
def shared_twin() -> Iterator[World]:
    with small() as world:
        yield world


def wander(num_envs: int, steps: int, *, seed: int = 0) -> np.ndarray:
    """Actions that reach the cubes; the same for every environment."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-0.04, 0.04, (steps, 7)).astype(np.float32)
    actions[:, 0] += 0.015
    actions[: steps // 2, 2] = -0.02
    actions[:, 3:6] *= 2.0
    return np.repeat(actions[None], num_envs, axis=0)


def push(world: World, *, steps: int = 16) -> np.ndarray:
    """The scripted expert's actions from the present initial states."""
    actions = np.zeros((world.num_envs, steps, 7), np.float32)
    actions[..., 6] = -1.0
    for e, state in enumerate(world.initial_states):
        at, t = np.array([0.38, 0.0, 0.12]), 0
        for waypoint in PUSH.expert(state):
            while np.abs(waypoint.position_m - at).max() > 1e-6 and t < steps:
                actions[e, t, :3] = np.clip(waypoint.position_m - at, -0.045, 0.045)
                at, t = at + actions[e, t, :3], t + 1
    return actions


def same(a: Any, b: Any) -> None:  # noqa: ANN401
    """Assert equality bit for bit, through dictionaries, lists and tuples."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, np.ndarray) and a.dtype != object:
        np.testing.assert_array_equal(a, b, strict=True)
    elif isinstance(a, (list, tuple, np.ndarray)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("reward", ["sparse", "dense"])
def test_steps_equal_a_chunk_bit_for_bit(reward: str) -> None:
    with small(reward=reward, num_workers=1) as world:
        world.reset(initial_states=STATES[:2])
        actions = push(world)
        blocks = np.split(actions, 4, axis=1)
        chunks = [world.step_chunk(block, render="all") for block in blocks]
        world.reset(initial_states=STATES[:2])
        for block, (obs, rewards, terminated, truncated, info) in zip(blocks, chunks, strict=True):
            for t in range(4):
                result = world.step(block[:, t])
                same(result[1:4], (rewards[:, t], terminated[:, t], truncated[:, t]))
                same(result[0]["image"], info["images"][:, t])
                same(result[0]["state"], info["states"][:, t])
                same(result[4]["valid"], info["valid"][:, t])
            same(result[0], obs)
            same(result[4]["success"], info["success"])
        assert info["success"].all()


def test_the_same_start_is_the_same_scene_on_any_number_of_environments_and_workers() -> None:
    seen = []
    sizes = [("twin", 1, 1), ("twin", 3, 2), ("twin", 8, 2), ("standin", 1, 1), ("standin", 4, 2)]
    for domain, num_envs, num_workers in sizes:
        with small(domain=domain, num_envs=num_envs, num_workers=num_workers, reward="dense") as world:
            first, _ = world.reset(initial_states=[*STATES[: num_envs - 1], STATES[7]])
            obs, rewards, *_ = world.step_chunk(wander(num_envs, 6))
            seen.append([array[-1] for array in (first["image"], first["state"], obs["image"], obs["state"], rewards)])
    same(seen[0], seen[1])
    same(seen[0], seen[2])
    same(seen[3], seen[4])
    assert (seen[0][0] != seen[3][0]).mean() > 0.5


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    runs = []
    for seed, num_workers in ((1, 1), (1, 2), (2, 2)):
        with small(seed=seed, num_workers=num_workers, autoreset=True, max_steps=5) as world:
            run = [world.reset()]
            run += [world.step_chunk(wander(2, 3, seed=i)) for i in range(4)]
            again, _ = world.reset(seed=seed)
            same(again, run[0][0])
            runs.append(run)
    same(runs[0], runs[1])
    assert runs[0][0][1]["initial_states"] != runs[2][0][1]["initial_states"]


def test_a_restored_world_goes_on_bit_for_bit_in_another_process() -> None:
    arguments = {"domain": "standin", "autoreset": True, "max_steps": 7, "reward": "dense"}
    with small(**arguments) as world:
        world.reset(seed=3)
        world.step_chunk(wander(2, 4))
        saved = pickle.dumps(world.state())
        observed = world.observe()
        straight = [world.step_chunk(wander(2, 4, seed=i)) for i in range(3)]
    with small(**arguments, num_workers=1) as other:
        other.reset(seed=9)
        same(other.restore(pickle.loads(saved)), observed)
        same([other.step_chunk(wander(2, 4, seed=i)) for i in range(3)], straight)
    with small(domain="twin") as twin, pytest.raises(ValueError, match="another world"):
        twin.restore(pickle.loads(saved))


def test_steps_after_the_end_are_not_simulated_and_marked(shared_twin: World) -> None:
    shared_twin.reset(initial_states=STATES[:2])
    obs, rewards, terminated, truncated, info = shared_twin.step_chunk(push(shared_twin, steps=20))
    assert info["success"].tolist() == [True, True]
    for e in range(2):
        end = int(terminated[e].argmax())
        assert terminated[e].sum() == 1
        assert not truncated[e].any()
        assert rewards[e].tolist() == [float(t == end) for t in range(20)]
        assert info["valid"][e].tolist() == [t <= end for t in range(20)]
    after, rewards, terminated, truncated, info = shared_twin.step(wander(2, 1)[:, 0])
    same(after, obs)
    assert not rewards.any()
    assert not (terminated | truncated | info["valid"]).any()
    assert info["success"].all()


def test_the_clock_cuts_an_episode() -> None:
    with small(max_steps=5, num_workers=1) as world:
        world.reset()
        _, _, terminated, truncated, info = world.step_chunk(wander(2, 8))
        assert truncated[0].tolist() == [t == 4 for t in range(8)]
        assert not terminated.any()
        assert info["valid"].sum(axis=1).tolist() == [5, 5]


def test_a_masked_reset_touches_only_its_environments(shared_twin: World) -> None:
    shared_twin.reset(initial_states=STATES[:2])
    before, *_ = shared_twin.step_chunk(wander(2, 3))
    after, info = shared_twin.reset(options={"initial_states": [STATES[4]], "mask": np.array([False, True])})
    same(after["image"][0], before["image"][0])
    same(after["state"][0], before["state"][0])
    assert [state.name for state in info["initial_states"]] == [STATES[0].name, STATES[4].name]
    fresh, _ = shared_twin.reset(initial_states=[STATES[4], STATES[4]])
    same(fresh["image"][1], after["image"][1])


def test_autoreset_returns_the_new_start_and_keeps_the_last_observation() -> None:
    with small(autoreset=True, max_steps=3) as world:
        first, info = world.reset(seed=0)
        obs, _, _, truncated, info = world.step_chunk(wander(2, 3))
        assert truncated[:, 2].all()
        assert info["_final_obs"].all()
        assert [state.instruction for state in info["initial_states"]] == first["instruction"]
        assert [state.instruction for state in world.initial_states] == obs["instruction"]
        np.testing.assert_allclose(obs["state"][:, :3], [[0.38, 0, 0.12]] * 2, atol=1e-4)
        assert np.abs(info["final_obs"][0]["state"] - obs["state"][0]).max() > 0.01
        *_, info = world.step(wander(2, 1)[:, 0])
        assert info["valid"].all()
        assert "final_obs" not in info


def test_chunks_render_only_what_is_asked_for(shared_twin: World) -> None:
    first, _ = shared_twin.reset(initial_states=STATES[:2])
    unseen, *_, info = shared_twin.step_chunk(wander(2, 3), render="none")
    same(unseen["image"], first["image"])
    assert (unseen["state"] != first["state"]).any()
    assert "images" not in info
    assert (shared_twin.observe()["image"] != first["image"]).any()


def test_observations_and_actions_fit_their_spaces_under_gymnasiums_name() -> None:
    assert set(rlco.GYMNASIUM_IDS.values()) == set(TASKS)
    world = gymnasium.make_vec("rlco/PushCube-v0", num_envs=2, image_size=SIZE, num_workers=1)
    assert isinstance(world, World)
    obs, _ = world.reset(seed=0)
    assert obs in world.observation_space
    obs, rewards, terminated, truncated, info = world.step(world.action_space.sample())
    assert obs in world.observation_space
    assert rewards.shape == terminated.shape == truncated.shape == info["valid"].shape == (2,)
    world.close()


def test_facts_come_from_every_worker_in_order(shared_twin: World) -> None:
    shared_twin.reset(initial_states=STATES[:2])
    facts = shared_twin.facts()
    assert [state.name for state in facts.initial] == [state.name for state in STATES[:2]]
    for e in range(2):
        for name, pose in facts.object_pose.items():
            np.testing.assert_allclose(pose[e], STATES[e].object_pose[name], atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"task": "push-cub"}, LookupError, "No task named 'push-cub'. Did you mean 'push-cube'"),
        ({"domain": "twins"}, LookupError, "No domain named 'twins'. Did you mean 'twin'"),
        ({"domain": "robot"}, ValueError, "needs the engine 'franka'"),
        ({"engine": "mujuco"}, LookupError, "Did you mean 'mujoco'"),
        ({"engine": "maniskill"}, ValueError, "'maniskill' is not available. This version has the engine mujoco"),
        ({"reality": -1}, ValueError, "reality must be 0 or more, got -1"),
        ({"num_envs": 0}, ValueError, "num_envs must be 1 or more, got 0"),
        ({"num_workers": 0}, ValueError, "num_workers must be 1 or more, got 0"),
        ({"seed": -1}, ValueError, "seed must be 0 or more, got -1"),
        ({"render": "al"}, LookupError, "No render mode named 'al'"),
        ({"reward": "spars"}, LookupError, "No reward named 'spars'"),
    ],
)
def test_bad_arguments_are_named_before_anything_starts(
    arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        make_world(**{"task": "push-cube", **arguments})  # pyright: ignore[reportArgumentType]


def test_bad_actions_and_resets_are_refused_and_nothing_moves(shared_twin: World) -> None:
    shared_twin.reset(initial_states=STATES[:2])
    before = pickle.dumps(shared_twin.state())
    actions = wander(2, 4)
    actions[1, 2, 5] = np.nan
    with pytest.raises(ValueError, match="environment 1 at step 2 is not finite"):
        shared_twin.step_chunk(actions)
    with pytest.raises(ValueError, match=r"shape \(2, h, 7\).*got \(2, 4, 6\)"):
        shared_twin.step_chunk(np.zeros((2, 4, 6)))
    with pytest.raises(ValueError, match=r"shape \(2, 7\), got \(2, 4, 7\)"):
        shared_twin.step(np.zeros((2, 4, 7)))
    with pytest.raises(ValueError, match="h from 1 to 64"):
        shared_twin.step_chunk(np.zeros((2, 65, 7)))
    with pytest.raises(ValueError, match="2 environments are reset, 3 initial states were given"):
        shared_twin.reset(initial_states=STATES[:3])
    with pytest.raises(ValueError, match="not an initial state"):
        shared_twin.reset(initial_states=[STATES[0], replace(STATES[1], task="open-drawer")])
    with pytest.raises(ValueError, match="Unknown reset options: states"):
        shared_twin.reset(options={"states": STATES[:2]})
    assert pickle.dumps(shared_twin.state()) == before


def test_a_world_must_be_reset_before_it_steps() -> None:
    with small(num_envs=1) as world, pytest.raises(ValueError, match="Reset the world"):
        world.step(np.zeros((1, 7)))
