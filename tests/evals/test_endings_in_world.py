"""How real episodes in the twin end: the scripted expert is stopped on its way."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlco.core.policy import Observation, Sample
from rlco.core.scene import ACTION_DIM, InitialState
from rlco.demos.operator import EXACT, Operator
from rlco.evals.outcome import Ending
from rlco.evals.suite import EvaluationSettings, evaluate
from rlco.tasks import task
from rlco.tasks.contract import CLOSE, OPEN
from rlco.tasks.progress import Progress
from rlco.worlds.make import make_world
from rlco.worlds.world import World

pytestmark = pytest.mark.sim


class Expert:
    """Solves the one episode of one world until it has come as far as ``until``, then sends one action for ever."""

    executed = 1
    noise_shape = (1,)

    def __init__(self, *, until: Progress | None, then: tuple[float, ...], start: InitialState) -> None:
        self.until, self.then, self.start = until, then, start
        self.world: World | None = None
        self.has_stopped = False

    def make_world(self, name: str, **options: Any) -> World:  # noqa: ANN401
        self.world = make_world(name, **options)
        self.operator = Operator(self.world.task, num_envs=1, seed=0, style=EXACT)
        self.operator.start(0, self.start, 0)
        return self.world

    def sample(
        self, observation: Observation, *, explore: bool, generator: torch.Generator, noise: Tensor | None
    ) -> Sample:
        assert self.world is not None
        facts = self.world.facts()
        self.has_stopped |= self.until is not None and bool(self.world.task.progress(facts)[0] >= self.until)
        action = np.array([self.then]) if self.has_stopped else self.operator.act(facts, {})
        zero = torch.zeros(1)
        return Sample(action=torch.from_numpy(action).float()[:, None], log_prob=zero, value=zero, trace={})


def stay(gripper: float, *, back_m: float = 0.0) -> tuple[float, ...]:
    """Return an action that leaves the hand where it is, or draws it back towards the robot and up."""
    return (-back_m, 0.0, back_m, 0.0, 0.0, 0.0, gripper)


@pytest.mark.parametrize(
    ("name", "until", "then", "ending"),
    [
        ("push-cube", Progress.AWAY, stay(CLOSE), Ending.NEVER_REACHED),
        ("push-cube", Progress.REACHED, stay(CLOSE), Ending.REACHED),
        ("push-cube", Progress.UNDER_WAY, stay(CLOSE), Ending.TIMED_OUT),
        ("pick-place", Progress.AWAY, stay(OPEN), Ending.NEVER_REACHED),
        ("pick-place", Progress.REACHED, stay(OPEN), Ending.REACHED),
        ("pick-place", Progress.GRASPED, stay(CLOSE), Ending.GRASPED),
        ("pick-place", Progress.UNDER_WAY, stay(CLOSE), Ending.TIMED_OUT),
        ("pick-place", Progress.UNDER_WAY, stay(OPEN), Ending.DROPPED),
        ("open-drawer", Progress.AWAY, stay(OPEN), Ending.NEVER_REACHED),
        ("open-drawer", Progress.REACHED, stay(OPEN), Ending.REACHED),
        ("open-drawer", Progress.GRASPED, stay(CLOSE), Ending.GRASPED),
        ("open-drawer", Progress.UNDER_WAY, stay(CLOSE), Ending.TIMED_OUT),
        ("open-drawer", Progress.UNDER_WAY, stay(OPEN, back_m=0.03), Ending.DROPPED),
        ("close-drawer", Progress.AWAY, stay(CLOSE), Ending.NEVER_REACHED),
        ("close-drawer", Progress.REACHED, stay(CLOSE), Ending.REACHED),
        ("close-drawer", Progress.UNDER_WAY, stay(CLOSE), Ending.TIMED_OUT),
    ],
)
def test_an_expert_that_stops_on_its_way_ends_there(
    name: str, until: Progress | None, then: tuple[float, ...], ending: Ending
) -> None:
    assert play(name, until=until, then=then) is ending


def test_an_expert_that_pushes_another_cube_has_the_wrong_object() -> None:
    state = start_of("push-cube")
    other = next(c for c in ("cube_left", "cube_right") if c != state.labels["target"])
    misled = replace(state, labels={**state.labels, "target": other})
    assert play("push-cube", until=None, then=stay(CLOSE), aims_at=misled) is Ending.WRONG_OBJECT


def start_of(name: str) -> InitialState:
    return task(name).fixed_states(1, seed=0, prefix="test")[0]


def play(name: str, *, until: Progress | None, then: tuple[float, ...], aims_at: InitialState | None = None) -> Ending:
    """Return how one episode ends; the expert takes ``aims_at`` for its start."""
    assert len(then) == ACTION_DIM
    state = start_of(name)
    expert = Expert(until=until, then=then, start=aims_at or state)
    result = evaluate(
        expert,
        name="expert",
        settings=EvaluationSettings(task=name, domain="twin", image_size=32, repeats=1, num_envs=1),
        initial_states=[state],
        make_world=partial(expert.make_world, render="none"),
    )
    assert result.outcomes[0].start_m == state.object_pose[state.labels["target"]][:2]
    return result.outcomes[0].ending
