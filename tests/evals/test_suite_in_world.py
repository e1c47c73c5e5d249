"""Evaluation in the real worlds, with an untrained policy."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from rlco.evals.outcome import EvaluationResult
from rlco.evals.suite import EvaluationSettings, evaluate
from rlco.evals.video import film
from rlco.recipes.references import open_policy
from rlco.tasks import task
from rlco.worlds.make import make_world
from rlco.worlds.world import World

pytestmark = pytest.mark.sim

STATES = task("push-cube").fixed_states(3, seed=0, prefix="test")
SETTINGS = EvaluationSettings(task="push-cube", domain="standin", image_size=32, repeats=1)
short_world = partial(make_world, max_steps=10)


def run(settings: EvaluationSettings, make: Any = short_world) -> EvaluationResult:  # noqa: ANN401
    return evaluate(
        open_policy("untrained:pi05-tiny"), name="x", settings=settings, initial_states=STATES, make_world=make
    )


def test_outcomes_do_not_depend_on_the_number_of_environments() -> None:
    one, three = (run(replace(SETTINGS, num_envs=n)).outcomes for n in (1, 3))
    assert [(o.state, o.stop_reason, o.steps, o.ending) for o in one] == [
        (o.state, o.stop_reason, o.steps, o.ending) for o in three
    ]
    # a batch of three sums in another order than a batch of one: equal up to float32 rounding
    for a, b in zip(one, three, strict=True):
        assert a.shift_m == pytest.approx(b.shift_m, abs=1e-4)


def test_a_film_has_a_frame_for_the_start_and_for_every_step() -> None:
    films = film(open_policy("untrained:pi05-tiny"), settings=SETTINGS, initial_states=STATES, make_world=short_world)
    assert [len(f.frames) for f in films] == [11, 11, 11]
    assert all(np.abs(np.diff(f.frames.astype(int), axis=0)).mean(axis=(1, 2, 3)).max() > 0 for f in films)


@pytest.mark.parametrize("kills", [1, 2, 100])
def test_an_episode_whose_process_dies_is_run_again_and_is_the_same_one(kills: int) -> None:
    class Fragile:
        """The world, one of whose workers dies in every second chunk, so many times."""

        def __init__(self, world: World) -> None:
            self.world, self.chunks = world, 0

        def step_chunk(self, actions: np.ndarray, **options: Any) -> Any:  # noqa: ANN401
            self.chunks += 1
            if self.chunks % 2 == 0 and self.chunks <= 2 * kills:
                os.kill(self.world._pool.process_ids[0], signal.SIGKILL)
            return self.world.step_chunk(actions, **options)

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401
            return getattr(self.world, name)

    def make(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        return Fragile(short_world(*arguments, **options, num_workers=2))

    undisturbed = run(replace(SETTINGS, num_envs=2)).outcomes
    outcomes = run(replace(SETTINGS, num_envs=2), make).outcomes
    assert len(outcomes) == len(STATES)
    if kills < 100:
        assert outcomes == undisturbed
    else:  # one that never gets through is given up
        assert 0 < sum(o.lost for o in outcomes) < len(STATES)
