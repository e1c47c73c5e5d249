"""Record episodes: what an actor does in a world, with one picture per control step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from rlco.core.episode import Episode, StopReason
from rlco.core.scene import Facts, InitialState


@runtime_checkable
class Actor(Protocol):
    """Whoever acts in E environments, one control step at a time."""

    def start(self, e: int, initial: InitialState, number: int) -> None:
        """Begin episode ``number`` in environment ``e``. What is random must follow from ``number`` alone."""
        ...

    def act(self, facts: Facts, observation: Mapping[str, Any]) -> Float[ndarray, "E 7"]:
        """Return the next actions. ``facts`` are privileged: an operator may use them, a policy may not."""
        ...

    def finish(self, e: int) -> None:
        """Let go of environment ``e``: its episode is over, however it ended."""
        ...

    def stops(self) -> Bool[ndarray, " E"]:
        """Return where the actor ends the episode of its own accord, asked after each control step."""
        ...


@dataclass(slots=True)
class _Running:
    """The episode that runs in one environment."""

    number: int
    initial: InitialState
    image: list[ndarray] = field(default_factory=list)
    state: list[ndarray] = field(default_factory=list)
    action: list[ndarray] = field(default_factory=list)


def record(
    world: Any,  # noqa: ANN401
    actor: Actor,
    initial_states: Iterable[InitialState],
    *,
    first: int = 0,
) -> Iterator[Episode]:
    """Yield one episode per initial state, in their order, whatever the number of environments.

    ``world``: any world of ours. ``first``: the number of the first episode, which names its randomness. A lost episode
    (its worker died) is yielded with ``StopReason.LOST``: use it for nothing. Stop iterating to stop recording.
    """
    return _Recorder(world, actor, iter(initial_states), first=first).run()


class _Recorder:
    """Keeps every environment busy and hands the episodes out in order."""

    def __init__(
        self,
        world: Any,  # noqa: ANN401
        actor: Actor,
        initial_states: Iterator[InitialState],
        *,
        first: int,
    ) -> None:
        self._world, self._actor, self._waiting = world, actor, initial_states
        self._running: list[_Running | None] = [None] * world.num_envs
        self._started = self._handed_out = first
        self._finished: dict[int, Episode] = {}

    def run(self) -> Iterator[Episode]:
        observation = self._fill({})
        while any(self._running):
            observation = self._step(observation)
            while self._handed_out in self._finished:
                yield self._finished.pop(self._handed_out)
                self._handed_out += 1

    def _fill(self, observation: Mapping[str, Any]) -> Mapping[str, Any]:
        """Start waiting episodes in the free environments; return the observation after that."""
        free = [e for e, running in enumerate(self._running) if running is None]
        states: dict[int, InitialState] = {}
        for e in free:
            initial = next(self._waiting, None)
            if initial is None:
                break
            states[e] = initial
        if not states:
            return observation
        # an environment that was never reset needs some start, so the first reset gives all of them one
        first = not observation
        spare = next(iter(states.values()))
        envs = range(self._world.num_envs) if first else sorted(states)
        mask = np.isin(np.arange(self._world.num_envs), envs)
        observation, _ = self._world.reset(initial_states=[states.get(e, spare) for e in envs], mask=mask)
        for e, initial in states.items():
            self._running[e] = _Running(number=self._started, initial=initial)
            self._actor.start(e, initial, self._started)
            self._started += 1
        return observation

    def _step(self, observation: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run one control step everywhere, finish what ended, start what waits."""
        actions = self._actor.act(self._world.facts(), observation).astype(np.float32)
        for e, running in enumerate(self._running):
            if running is not None:
                running.image.append(np.array(observation["image"][e]))
                running.state.append(np.array(observation["state"][e]))
                running.action.append(actions[e].copy())
        after, _, terminated, truncated, info = self._world.step_chunk(actions[:, None])
        stopped = self._actor.stops()
        for e, running in enumerate(self._running):
            if running is None:
                continue
            ended = {
                StopReason.LOST: info["lost"][e],
                StopReason.SUCCESS: info["success"][e],
                StopReason.TIME_LIMIT: terminated[e].any() or truncated[e].any(),
                StopReason.STOPPED: stopped[e],
            }
            reason = next((reason for reason, is_so in ended.items() if is_so), None)
            if reason is not None:
                self._finish(e, running, reason)
        return self._fill(after)

    def _finish(self, e: int, running: _Running, reason: StopReason) -> None:
        self._running[e] = None
        self._actor.finish(e)
        self._finished[running.number] = Episode(
            image=np.stack(running.image),
            state=np.stack(running.state),
            action=np.stack(running.action),
            instruction=running.initial.instruction,
            fps=round(self._world.control_hz),
            stop_reason=reason,
            initial_state=running.initial,
        )
