"""Episodes of the exact scripted operator, and what was seen of them step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from rlco.core.scene import Facts, InitialState
from rlco.demos.operator import EXACT, Operator
from rlco.engines.mujoco.simulation import Simulation
from rlco.tasks import Task
from rlco.worlds.world import World


@dataclass(frozen=True)
class Played:
    """E environments, T control steps."""

    actions: ndarray
    """(E, T, 7)"""
    rewards: ndarray
    """(E, T)"""
    success: ndarray
    """(E,), at the end."""
    facts: tuple[Facts, ...]
    """After each step."""
    middle: int
    """Control steps until what ``save_when`` asks for was so; 0 if nothing was asked."""
    saved: Any
    """The world's state at that moment."""


def play(world: World, states: Sequence[InitialState], *, save_when: Callable[[Facts], bool] | None = None) -> Played:
    """Let the exact operator act from ``states`` until every episode is over; save the first moment of a kind."""
    observation, info = world.reset(initial_states=states)
    operator = Operator(world.task, num_envs=world.num_envs, seed=0, style=EXACT)
    for e, state in enumerate(states):
        operator.start(e, state, 0)
    actions, rewards, facts, saved, middle = [], [], [world.facts()], None, 0
    while not info["done"].all():
        actions.append(operator.act(facts[-1], observation))
        observation, reward, _, _, info = world.step(actions[-1])
        rewards.append(reward)
        facts.append(world.facts())
        if saved is None and save_when is not None and save_when(facts[-1]):
            saved, middle = world.state(), len(actions)
    return Played(
        actions=np.stack(actions, axis=1),
        rewards=np.stack(rewards, axis=1),
        success=info["success"],
        facts=tuple(facts[1:]),
        middle=middle,
        saved=saved,
    )


def solves(simulation: Simulation, task: Task, state: InitialState) -> bool:
    """Return whether the exact operator solves ``state`` in environment 0 of a bare simulation."""
    simulation.reset(0, state)
    operator, held = Operator(task, num_envs=1, seed=0, style=EXACT), 0
    operator.start(0, state, 0)
    for _ in range(task.max_steps):
        simulation.control_step(0, operator.act(simulation.facts([0]), {})[0])
        held = held + 1 if task.succeeded(simulation.facts([0]))[0] else 0
        if held >= task.hold_steps:
            return True
    return False
