"""Recording hands episodes out in order, keeps successes only and loses none silently."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy import ndarray

from rlco.core.episode import Episode, StopReason
from rlco.core.progress import Silent
from rlco.core.scene import Facts, InitialState
from rlco.data.writer import DatasetWriter
from rlco.demos.record import _record, _report
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


def recording(folder: Path) -> DatasetWriter:
    return DatasetWriter(folder, fps=5, robot_type="none", inputs={"of": "a test"}, sidecar=True)


def attempts(ends: list[str], *, num_envs: int) -> Callable[..., Iterator[Episode]]:
    """A recorder of attempts that end like this, attempt n as ``ends[n]``."""

    def run(states: list[InitialState], *, first: int) -> Iterator[Episode]:
        return record(FakeWorld(num_envs, ends), FakeActor(num_envs), states, first=first)

    return run


def test_no_failure_is_kept_and_a_lost_episode_is_neither_success_nor_failure(tmp_path: Path) -> None:
    ends = ["clock", "success", "lost", "success", "success", "clock"]
    states = [initial(i) for i in range(6)]
    with recording(tmp_path / "set") as writer:
        tally = _record(writer, attempts(ends, num_envs=4), states, 3, Silent())
        writer.flush()
    with recording(tmp_path / "set") as writer:
        assert [done.extra["attempt"] for done in writer.finished if done.extra] == [1, 3, 4]
    # the sixth attempt ran beside the others but is not counted
    assert (tally.total.attempts, tally.lost, dict(tally.total.rejected)) == (4, 1, {"time_limit": 1})
    report = _report(tally)
    assert report.success_rate == 0.75
    assert report.success_rate_by_label == {"parity=0": 0.5, "parity=1": 1.0}


def test_an_interrupted_recording_goes_on_with_the_next_attempt_and_the_same_counts(tmp_path: Path) -> None:
    ends = ["clock", "success", "lost", "success", "clock", "success", "success"]
    states = [initial(i) for i in range(7)]
    with recording(tmp_path / "whole") as writer:
        whole = _record(writer, attempts(ends, num_envs=2), states, 4, Silent())
        kept = writer.count
    with recording(tmp_path / "set") as writer:
        _record(writer, attempts(ends, num_envs=2), states, 2, Silent())
    with recording(tmp_path / "set") as writer:
        assert len(writer.finished) == 2
        resumed = _record(writer, attempts(ends, num_envs=2), states, 4, Silent())
        assert writer.count == kept == 4
    assert resumed == whole


def test_too_few_successes_are_an_error(tmp_path: Path) -> None:
    states = [initial(i) for i in range(2)]
    with (
        recording(tmp_path / "set") as writer,
        pytest.raises(ValueError, match="Only 1 of 3 demonstrations after 2 attempts"),
    ):
        _record(writer, attempts(["success", "clock"], num_envs=2), states, 3, Silent())
