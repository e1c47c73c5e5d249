"""Recording hands episodes out in order, keeps successes only and loses none silently."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy import ndarray

from rlco.core.episode import StopReason
from rlco.core.progress import Silent
from rlco.core.scene import Facts, InitialState
from rlco.demos.keep import Keeper
from rlco.rollout.record import record


def initial(number: int) -> InitialState:
    return InitialState(
        name=str(number),
        task="t",
        instruction=f"do {number}",
        object_pose={},
        object_rgb={},
        labels={"parity": str(number % 2)},
    )


class FakeWorld:
    """Episode n lasts 1 + (7 n mod 5) steps and ends as ``ends[n]``; its picture is its number, then counts steps."""

    control_hz = 5.0

    def __init__(self, num_envs: int, ends: list[str]) -> None:
        self.num_envs, self.ends = num_envs, ends
        self.number = np.full(num_envs, -1)
        self.steps = np.zeros(num_envs, dtype=int)

    def reset(self, *, initial_states: list[InitialState], mask: ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
        for e, state in zip(np.flatnonzero(mask), initial_states, strict=True):
            self.number[e], self.steps[e] = int(state.name), 0
        return self._observation(), {}

    def step_chunk(self, actions: ndarray) -> tuple[Any, ...]:
        assert actions.shape == (self.num_envs, 1, 7)
        self.steps += 1
        over = self.steps >= 1 + 7 * self.number % 5
        ends = np.array([self.ends[n] for n in self.number])
        info = {"success": over & (ends == "success"), "lost": over & (ends == "lost")}
        return self._observation(), None, info["success"][:, None], (over & (ends == "clock"))[:, None], info

    def facts(self) -> Facts:
        tcp = np.zeros((self.num_envs, 7))
        return Facts(tcp_pose=tcp, gripper_width_m=np.zeros(self.num_envs), object_pose={}, initial=())

    def _observation(self) -> dict[str, Any]:
        image = np.zeros((self.num_envs, 2, 2, 3), dtype=np.uint8)
        image[:, 0], image[:, 1] = self.number[:, None, None], self.steps[:, None, None]
        return {"image": image, "state": np.zeros((self.num_envs, 8), dtype=np.float32)}


class FakeActor:
    """Sends the number of the episode; gives up where told to."""

    def __init__(self, num_envs: int, gives_up: tuple[int, ...] = ()) -> None:
        self.number = np.full(num_envs, -1)
        self.gives_up = gives_up

    def start(self, e: int, initial: InitialState, number: int) -> None:
        assert self.number[e] == -1, "the last episode was not finished"
        self.number[e] = number

    def finish(self, e: int) -> None:
        self.number[e] = -1

    def act(self, facts: Facts, observation: object) -> ndarray:
        return np.tile(self.number[:, None], (1, 7)).astype(np.float32)

    def stops(self) -> ndarray:
        return np.isin(self.number, self.gives_up)


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_episodes_come_in_order_whole_and_unmixed(num_envs: int) -> None:
    world = FakeWorld(num_envs, ["success"] * 20)
    for n, episode in enumerate(record(world, FakeActor(num_envs), map(initial, range(20)))):
        assert len(episode) == 1 + 7 * n % 5
        assert (episode.action == n).all()
        assert (episode.image[:, 0] == n).all()
        # image[t] was seen before action[t]
        assert episode.image[:, 1, 0, 0].tolist() == list(range(len(episode)))
        assert episode.initial_state == initial(n)
    assert n == 19


def test_every_end_has_its_reason() -> None:
    world = FakeWorld(2, ["success", "clock", "lost", "never"])
    episodes = list(record(world, FakeActor(2, gives_up=(3,)), map(initial, range(4))))
    assert [e.stop_reason for e in episodes] == [
        StopReason.SUCCESS,
        StopReason.TIME_LIMIT,
        StopReason.LOST,
        StopReason.STOPPED,
    ]


def test_no_failure_is_kept_and_a_lost_episode_is_neither_success_nor_failure() -> None:
    ends = ["clock", "success", "lost", "success", "success", "clock"]
    keeper = Keeper(count=3)
    kept = list(keeper.successes(record(FakeWorld(4, ends), FakeActor(4), map(initial, range(6))), Silent()))
    assert [number for number, _ in kept] == [1, 3, 4]
    # the sixth attempt ran beside the others but is not counted
    assert (keeper.attempts, keeper.lost, dict(keeper.rejected)) == (4, 1, {"time_limit": 1})
    assert keeper.success_rate == 0.75
    assert keeper.success_rate_by_label == {"parity=0": 0.5, "parity=1": 1.0}


def test_too_few_successes_are_an_error() -> None:
    keeper = Keeper(count=3)
    episodes = record(FakeWorld(2, ["success", "clock"]), FakeActor(2), map(initial, range(2)))
    with pytest.raises(ValueError, match="Only 1 of 3 demonstrations after 2 attempts"):
        list(keeper.successes(episodes, Silent()))
