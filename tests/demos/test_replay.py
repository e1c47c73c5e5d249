"""Replaying recorded actions: in order, whole, and whatever happens to a worker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy import ndarray

from rlco.core.scene import Facts, InitialState
from rlco.demos.replay import WAIT_STEPS, replay, steps_for


def initial(number: int) -> InitialState:
    return InitialState(name=str(number), task="t", instruction="", object_pose={}, object_rgb={})


class FakeWorld:
    """An episode ends when told to; ``dies`` says how often the worker of an episode is lost, at its second step."""

    def __init__(self, num_envs: int, dies: dict[int, int]) -> None:
        self.num_envs, self.dies = num_envs, dict(dies)
        self.number, self.steps = np.full(num_envs, -1), np.zeros(num_envs, dtype=int)

    def reset(self, *, initial_states: list[InitialState], mask: ndarray) -> None:
        for e, state in zip(np.flatnonzero(mask), initial_states, strict=True):
            self.number[e], self.steps[e] = int(state.name), 0

    def step_chunk(self, actions: ndarray, *, render: str) -> tuple[Any, ...]:
        assert render == "none"
        self.steps += 1
        lost = np.zeros(self.num_envs, dtype=bool)
        for e, number in enumerate(self.number.tolist()):
            if self.steps[e] == 2 and self.dies.get(number, 0) > 0:
                self.dies[number] -= 1
                lost[e] = True
        no = np.zeros((self.num_envs, 1), dtype=bool)
        return None, None, no, no, {"lost": lost, "success": no[:, 0], "ik_failed": no}

    def facts(self) -> Facts:
        tcp = np.zeros((self.num_envs, 7))
        tcp[:, 0] = self.steps
        return Facts(tcp_pose=tcp, gripper_width_m=np.zeros(self.num_envs), object_pose={}, initial=())


ACTIONS = [np.full((length, 7), float(length)) for length in (3, 1, 4, 2, 5)]
STATES = [initial(i) for i in range(5)]


def traces(world: FakeWorld) -> list[tuple[int, bool, list[list[float]]]]:
    found = replay(world, ACTIONS, STATES)
    return [(its.number, its.lost, its.trace.action.tolist()) for its in found]


@pytest.mark.parametrize("num_envs", [1, 2, 7])
def test_a_worker_that_dies_changes_nothing_of_a_replay(num_envs: int) -> None:
    whole = traces(FakeWorld(3, {}))
    assert [number for number, *_ in whole] == [0, 1, 2, 3, 4]
    assert [len(actions) for *_, actions in whole] == [len(its) + WAIT_STEPS for its in ACTIONS]
    assert traces(FakeWorld(num_envs, {0: 1, 3: 2})) == whole


def test_an_episode_whose_worker_dies_again_and_again_is_lost_and_the_others_go_on() -> None:
    found = traces(FakeWorld(2, {2: 99}))
    assert [lost for _, lost, _ in found] == [False, False, True, False, False]


def test_the_clock_of_a_replay_follows_the_longest_demonstration() -> None:
    assert steps_for([10, 240, 30], least=60) > 240 + WAIT_STEPS
    assert steps_for([10], least=60) == 60
