"""Episodes of the environments of one process: step, judge, render. Results are written into shared arrays."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from rlco.core.scene import Facts
from rlco.engines.mujoco.simulation import SavedState, Simulation
from rlco.worlds.spec import Start, WorldSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeState:
    """Everything that decides how one environment goes on. Pickles."""

    simulation: SavedState
    held: int
    """Control steps in a row in which the goal was met."""
    paid: Bool[ndarray, " events"]
    """Which sparse rewards the episode has had."""
    done: bool
    success: bool


class Episodes:
    """The environments of one worker. ``arrays`` are its rows of the world's shared arrays."""

    def __init__(
        self, spec: WorldSpec, simulation: Simulation, arrays: Mapping[str, ndarray], heartbeat: ndarray
    ) -> None:
        self._spec, self._task, self._simulation, self._heartbeat = spec, spec.task, simulation, heartbeat
        self._arrays = arrays
        self._count = len(arrays["done"])
        self._held = np.zeros(self._count, dtype=int)
        self._steps = np.zeros(self._count, dtype=int)
        self._paid = np.zeros((self._count, len(self._task.event_rewards)), dtype=bool)
        self._drawn = np.zeros(self._count, dtype=bool)
        """Whether the ``image`` row shows the present moment."""

    def reset(self, starts: Sequence[Start]) -> None:
        """Begin new episodes and observe them."""
        for start in starts:
            e = start.env
            self._simulation.reset(e, start.initial, noise_seed=start.noise_seed)
            self._steps[e] = self._held[e] = 0
            self._paid[e] = False
            self._drawn[e] = False
            for name in ("done", "success", "lost"):
                self._arrays[name][e] = False
            self._look(e)
            self._beat()

    def step(self, steps: int, render: str) -> None:
        """Run ``steps`` control steps of every episode that is not over."""
        arrays = self._arrays
        for name in ("rewards", "terminated", "truncated", "valid", "ik_failed"):
            arrays[name][:, :steps] = 0
        envs = self._live()
        before = self._simulation.facts(envs, touching=False) if self._is_dense and envs else None
        for t in range(steps):
            live = [e for e in self._live() if self._advance(e, t)]
            if live:
                if before is not None:
                    before = before.select([envs.index(e) for e in live])
                facts = self._judge(live, t, before=before)
                before, envs = facts if self._is_dense else None, live
            if render == "all":
                self._record(t)
        for e in range(self._count):
            self._look(e, draw=render != "none")

    def observe(self) -> None:
        """Render every environment as it is now."""
        for e in range(self._count):
            self._look(e, draw=True)
            self._beat()

    def facts(self) -> Facts:
        """Return body poses, for privileged use."""
        return self._simulation.facts(range(self._count))

    def state(self) -> list[bytes]:
        """Return every environment's ``EpisodeState``, pickled: what is in it stays in worker processes."""
        return [pickle.dumps(self._state(e)) for e in range(self._count)]

    def restore(self, states: Sequence[bytes]) -> None:
        """Go on exactly where ``states`` were taken."""
        for e, pickled in enumerate(states):
            saved: EpisodeState = pickle.loads(pickled)
            self._simulation.set_state(e, saved.simulation)
            self._steps[e], self._held[e], self._paid[e] = saved.simulation.steps, saved.held, saved.paid
            self._arrays["done"][e], self._arrays["success"][e] = saved.done, saved.success
            self._arrays["lost"][e] = False
            self._drawn[e] = False
            self._look(e)
            self._beat()

    def _state(self, e: int) -> EpisodeState:
        return EpisodeState(
            simulation=self._simulation.get_state(e),
            held=int(self._held[e]),
            paid=self._paid[e].copy(),
            done=bool(self._arrays["done"][e]),
            success=bool(self._arrays["success"][e]),
        )

    def _advance(self, e: int, t: int) -> bool:
        """Run one control step; return False if the physics diverged, which loses the episode."""
        arrays = self._arrays
        self._beat()
        try:
            reached = self._simulation.control_step(e, arrays["actions"][e, t])
        except FloatingPointError:
            arrays["lost"][e] = arrays["done"][e] = arrays["truncated"][e, t] = True
            return False
        arrays["ik_failed"][e, t] = not reached
        arrays["valid"][e, t] = True
        self._steps[e] += 1
        self._drawn[e] = False
        return True

    def _live(self) -> list[int]:
        return [e for e in range(self._count) if not self._arrays["done"][e]]

    @property
    def _is_dense(self) -> bool:
        return self._spec.reward == "dense"

    def _judge(self, live: list[int], t: int, *, before: Facts | None) -> Facts:
        """Write reward and ends of the environments that just moved; return their facts."""
        arrays, task = self._arrays, self._task
        facts = self._simulation.facts(live, touching=task.needs_touching)
        self._held[live] = np.where(task.succeeded(facts), self._held[live] + 1, 0)
        success = self._held[live] >= task.hold_steps
        ended = success if self._spec.end_on_success else np.zeros(len(live), dtype=bool)
        over = ~ended & (self._steps[live] >= self._spec.max_steps)
        if before is None:
            arrays["rewards"][live, t] = self._pay(live, facts, success)
        else:
            arrays["rewards"][live, t] = task.dense_reward(facts, success, before=before)
        arrays["terminated"][live, t] = ended
        arrays["success"][live] = success
        arrays["truncated"][live, t] = over
        arrays["done"][live] = ended | over
        return facts

    def _pay(self, live: list[int], facts: Facts, success: Bool[ndarray, " E"]) -> Float[ndarray, " E"]:
        """Return the sparse reward: each event is paid once an episode, in the order of the task's list."""
        rewards, happened = np.zeros(len(live)), self._task.events(facts, success)
        names = [item.event for item in self._task.event_rewards]
        for i, item in enumerate(self._task.event_rewards):
            due = happened[item.event] & ~self._paid[live, i]
            if item.after is not None:
                due &= self._paid[live, names.index(item.after)]
            rewards += item.reward * due
            self._paid[live, i] |= due
        return rewards

    def _record(self, t: int) -> None:
        """Keep what is seen after step ``t``."""
        for e in range(self._count):
            self._look(e, draw=True)
            self._arrays["images"][e, t] = self._arrays["image"][e]
            self._arrays["states"][e, t] = self._arrays["state"][e]

    def _look(self, e: int, *, draw: bool | None = None) -> None:
        """Write the present observation; a picture only if asked for and not there yet."""
        if self._arrays["lost"][e]:
            return
        self._simulation.observe_state(e, self._arrays["state"][e])
        draw = self._spec.render != "none" if draw is None else draw
        if draw and not self._drawn[e]:
            self._simulation.render(e, self._arrays["image"][e])
            self._drawn[e] = True

    def _beat(self) -> None:
        self._heartbeat += 1
