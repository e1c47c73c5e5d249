"""Worker processes that die while experience is collected, before it and after it."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch

from rlco.core.policy import Observation, Sample
from rlco.recipes.stages import collector
from rlco.rollout import steady
from rlco.rollout.collect import Experience
from rlco.train.rl_config import RLConfig
from rlco.worlds.make import make_world
from rlco.worlds.world import World
from tests.train.samples import tiny

pytestmark = pytest.mark.sim
DECISIONS = 3


class Killer:
    """A policy during whose decisions ``at``, counted from 0 over all tries, a worker dies."""

    def __init__(self, world: World, at: set[int]) -> None:
        self.policy, self.world, self.at, self.decisions = tiny(), world, at, 0
        self.executed = self.policy.executed

    def value(self, observation: Observation) -> torch.Tensor:
        return self.policy.value(observation)

    def sample(self, observation: Observation, *, explore: bool, generator: torch.Generator) -> Sample:
        if self.decisions in self.at:
            self.kill()
        self.decisions += 1
        return self.policy.sample(observation, explore=explore, generator=generator)

    def kill(self) -> None:
        os.kill(self.world.worker_process_ids[self.decisions % 2], signal.SIGKILL)


def collected(config: RLConfig, *, at: set[int], between: bool = False) -> tuple[list[Experience], dict[str, Any], int]:
    """Return two collections, the state after them, and how many workers were lost."""
    generator = torch.Generator().manual_seed(0)
    with make_world("push-cube", num_envs=4, seed=0, image_size=32, max_steps=8, num_workers=2) as world:
        playing, policy = collector(world, config), Killer(world, at)
        first = playing.collect(policy, decisions=DECISIONS, generator=generator)
        if between:
            policy.kill()
        second = playing.collect(policy, decisions=DECISIONS, generator=generator)
        return [first, second], playing.state_dict(), world.workers_lost


@pytest.mark.parametrize("config", [RLConfig(num_envs=4), RLConfig(algo="grpo", num_envs=4, group_size=2)])
def test_what_is_collected_does_not_depend_on_processes_that_die(
    config: RLConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    calm, state, _ = collected(config, at=set())
    # in the first try, in the second one, and between the two collections
    wild, its_state, lost = collected(config, at={1, DECISIONS}, between=True)
    assert lost == 3
    assert capsys.readouterr().err.count("died and was replaced; its work is done again") == 3
    for a, b in zip(calm, wild, strict=True):
        assert a.lost == b.lost == 0
        assert (a.finished, a.successes) == (b.finished, b.successes)
        assert torch.equal(a.observation.image, b.observation.image)
        assert torch.equal(a.observation.state, b.observation.state)
        assert torch.equal(a.log_prob, b.log_prob)
        assert torch.equal(a.rollout.reward, b.rollout.reward)
        assert torch.equal(a.rollout.is_valid, b.rollout.is_valid)
    assert state.keys() == its_state.keys()
    if "world" in state:
        assert state["world"]["initial"] == its_state["world"]["initial"]
        assert state["world"]["rngs"] == its_state["world"]["rngs"]
        assert state["world"]["lost"].tolist() == its_state["world"]["lost"].tolist() == [False] * 4


def test_processes_that_die_in_every_try_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "_MOST_TRIES", 2)
    with pytest.raises(ChildProcessError, match="died 2 times in a row: is there enough memory"):
        collected(RLConfig(num_envs=4), at=set(range(20)))
