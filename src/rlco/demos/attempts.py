"""Run attempts side by side and hand out, slot by slot and in order, what came of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.episode import Episode, StopReason
from rlco.core.scene import ACTION_DIM, Facts, InitialState
from rlco.demos.attempt import Attempt, Reject
from rlco.demos.layouts import Layouts

_AHEAD = 4
"""Slots that may be begun before the oldest unfinished one is over, in multiples of the number of environments."""
_LOST_TRIES = 3
"""Times that an attempt is made again because its worker died."""

Begin = Callable[[InitialState, int, int], Attempt]
"""Makes the attempt of (initial state, slot, number of the attempt in it)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """One attempt that is over."""

    initial: InitialState
    reject: Reject | None
    """None: it is the slot's demonstration."""
    steps: int
    """Control steps that were simulated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotResult:
    """What came of a slot."""

    slot: int
    tried: tuple[Tried, ...]
    lost: int
    """Attempts that were made again because their worker died."""
    episode: Episode | None
    """None: given up."""
    attempt: Attempt | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When an attempt, and a slot, is over."""

    max_steps: int
    """Control steps in which the goal must be met."""
    stable_steps: int
    """Further control steps for which it must go on being met; they are not part of the demonstration."""
    attempts_per_layout: int


@dataclass(slots=True)
class _Slot:
    number: int
    tried: list[Tried] = field(default_factory=list)
    lost: int = 0
    lost_here: int = 0
    """Of the present attempt."""


@dataclass(slots=True)
class _Running:
    slot: _Slot
    initial: InitialState
    attempt: Attempt
    image: list[ndarray] = field(default_factory=list)
    state: list[ndarray] = field(default_factory=list)
    action: list[ndarray] = field(default_factory=list)
    met: int = 0
    """Control steps in a row after which the goal was met, hold time included."""
    ik_failed: bool = False
    reject: Reject | None = None
    """Set when the attempt itself has ended, before its next control step."""


class Attempts:
    """Keeps every environment busy. ``world`` must not end episodes at success, and go on past ``limits``."""

    def __init__(
        self,
        world: Any,  # noqa: ANN401
        layouts: Layouts,
        *,
        begin: Begin,
        limits: Limits,
    ) -> None:
        self._world, self._layouts, self._make, self._limits = world, layouts, begin, limits
        self._running: list[_Running | None] = [None] * world.num_envs
        self._again: deque[_Slot] = deque()
        self._results: dict[int, SlotResult] = {}
        self._next = self._handed_out = 0
        self._was_reset = False

    def run(self, first_slot: int) -> Iterator[SlotResult]:
        """Yield the results of the slots from ``first_slot`` to the last, in order; stop iterating to stop."""
        self._next = self._handed_out = first_slot
        observation, facts = self._fill({}, None)
        while any(self._running):
            assert facts is not None
            observation, facts = self._step(observation, facts)
            while self._handed_out in self._results:
                yield self._results.pop(self._handed_out)
                self._handed_out += 1
            observation, facts = self._fill(observation, facts)

    def _fill(self, observation: Mapping[str, Any], facts: Facts | None) -> tuple[Mapping[str, Any], Facts | None]:
        """Begin attempts in the free environments; return what is seen and known after that."""
        begun: dict[int, InitialState] = {}
        for e in range(self._world.num_envs):
            slot = self._due() if self._running[e] is None else None
            if slot is not None:
                number = len(slot.tried)
                begun[e] = self._layouts.start(slot.number, number)
                attempt = self._make(begun[e], slot.number, number)
                self._running[e] = _Running(slot=slot, initial=begun[e], attempt=attempt)
        if not begun:
            return observation, facts
        # an environment that was never reset needs some start, so the first reset gives all of them one
        spare = next(iter(begun.values()))
        envs = sorted(begun) if self._was_reset else list(range(self._world.num_envs))
        mask = np.isin(np.arange(self._world.num_envs), envs)
        observation, _ = self._world.reset(initial_states=[begun.get(e, spare) for e in envs], mask=mask)
        self._was_reset = True
        return observation, self._world.facts()

    def _due(self) -> _Slot | None:
        """Return the slot whose next attempt is to be made: one that failed before, or a new one."""
        if self._again:
            return self._again.popleft()
        is_far_ahead = self._next >= self._handed_out + _AHEAD * self._world.num_envs
        if self._next >= len(self._layouts.slots) or is_far_ahead:
            return None
        self._next += 1
        return _Slot(number=self._next - 1)

    def _step(self, observation: Mapping[str, Any], facts: Facts) -> tuple[Mapping[str, Any], Facts]:
        """Run one control step everywhere and finish what ended."""
        actions = np.zeros((self._world.num_envs, ACTION_DIM), dtype=np.float32)
        for e, running in enumerate(self._running):
            if running is not None:
                actions[e] = self._act(running, e, observation=observation, facts=facts)
        after, _, _, _, info = self._world.step_chunk(actions[:, None])
        for e, running in enumerate(self._running):
            if running is not None:
                self._judge(running, e, info)
        return after, self._world.facts()

    @staticmethod
    def _act(running: _Running, e: int, *, observation: Mapping[str, Any], facts: Facts) -> Float[ndarray, " 7"]:
        action = running.attempt.act(facts, e)
        if action is None:
            running.reject = running.attempt.failure
            return np.zeros(ACTION_DIM, dtype=np.float32)
        running.image.append(observation["image"][e].copy())
        running.state.append(observation["state"][e].copy())
        running.action.append(action)
        return action

    def _judge(self, running: _Running, e: int, info: Mapping[str, Any]) -> None:
        """Finish the attempt in environment ``e`` if it is over."""
        running.ik_failed |= bool(info["ik_failed"][e].any())
        if info["lost"][e]:
            running.slot.lost_here += 1
            if running.slot.lost_here < _LOST_TRIES:
                running.slot.lost += 1
                self._running[e] = None
                self._again.append(running.slot)
                return
            running.reject = Reject.LOST
        elif running.reject is None:
            self._watch(running, is_met=bool(info["success"][e]))
        if running.reject is not None:
            self._reject(running, e)
        elif running.met > self._limits.stable_steps:
            self._keep(running, e)

    def _watch(self, running: _Running, *, is_met: bool) -> None:
        """Count how long the goal has been met."""
        if running.met and not is_met:
            running.reject = Reject.UNSTABLE
        elif is_met:
            running.met += 1
            running.attempt.rest()
        elif len(running.action) >= self._limits.max_steps:
            running.reject = Reject.TIME_LIMIT

    def _reject(self, running: _Running, e: int) -> None:
        reject = running.reject
        assert reject is not None
        if reject == Reject.MISSED and running.ik_failed:
            reject = Reject.KINEMATICS
        slot = running.slot
        slot.tried.append(Tried(initial=running.initial, reject=reject, steps=len(running.action)))
        slot.lost_here = 0
        self._running[e] = None
        if len(slot.tried) < self._limits.attempts_per_layout:
            self._again.append(slot)
            return
        self._results[slot.number] = SlotResult(
            slot=slot.number, tried=tuple(slot.tried), lost=slot.lost, episode=None, attempt=None
        )

    def _keep(self, running: _Running, e: int) -> None:
        """Keep the control steps up to the one after which the goal was met for good."""
        slot, length = running.slot, len(running.action) - self._limits.stable_steps
        slot.tried.append(Tried(initial=running.initial, reject=None, steps=len(running.action)))
        self._running[e] = None
        episode = Episode(
            image=np.stack(running.image[:length]),
            state=np.stack(running.state[:length]),
            action=np.stack(running.action[:length]),
            instruction=running.initial.instruction,
            fps=round(self._world.control_hz),
            stop_reason=StopReason.SUCCESS,
            initial_state=running.initial,
        )
        self._results[slot.number] = SlotResult(
            slot=slot.number, tried=tuple(slot.tried), lost=slot.lost, episode=episode, attempt=running.attempt
        )
