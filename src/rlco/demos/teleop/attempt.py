"""One episode in real time: wait for the person, move when the hand moves, record what was executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.episode import Episode, StopReason
from rlco.core.scene import InitialState
from rlco.demos.teleop.devices import Event
from rlco.demos.teleop.hand import Clock, Hand, Motion
from rlco.demos.teleop.mapping import MappingConfig, action
from rlco.demos.teleop.timing import Pacer, Timing
from rlco.demos.teleop.view import Status, View

MIN_STEPS = 2
"""A demonstration has at least this many control steps."""


class Ending(StrEnum):
    """Why an attempt ended."""

    SUCCESS = "success"
    """The person says so; the only one that is kept."""
    DISCARDED = "discarded"
    TOO_SHORT = "too short"
    UNCONFIRMED = "not confirmed by the task"
    LOST = "lost"
    """The world lost the episode."""
    QUIT = "quit"
    INTERRUPTED = "interrupted"
    DEVICE_LOST = "device lost"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rig:
    """What every attempt of a session uses. ``world``: any world of ours, with one environment."""

    world: Any
    hand: Hand
    view: View
    clock: Clock
    mapping: MappingConfig
    require_success: bool = False
    """Keep only what the task's own check confirms."""


@dataclass(slots=True)
class Attempt:
    """See the module's docstring. ``kept`` of ``wanted`` is shown to the person."""

    rig: Rig
    initial: InitialState
    kept: int
    wanted: int
    timing: Timing = field(init=False)
    executed: int = 0
    """Control steps that the world ran."""
    is_solved: bool = False
    """What the task's own check said after the last control step."""
    _is_over: bool = False
    """The world runs no further step: the person decides what it was."""
    _gripper: float = 1.0
    _observation: Mapping[str, Any] = field(default_factory=dict)
    _image: list[ndarray] = field(default_factory=list)
    _state: list[ndarray] = field(default_factory=list)
    _action: list[ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.timing = Timing(period_s=1.0 / self.rig.world.control_hz)

    @property
    def has_begun(self) -> bool:
        """Whether a control step was run."""
        return self.executed > 0

    @property
    def recorded(self) -> int:
        """Control steps on record."""
        return len(self._action)

    def run(self) -> Ending:
        """Return how it ended."""
        world = self.rig.world
        self._observation, info = world.reset(initial_states=[self.initial])
        self.is_solved = bool(info["success"][0])
        self._gripper = 1.0 if self._observation["state"][0, 7] > 0 else -1.0
        self.rig.hand.take()  # what was pressed while the world was set up
        pacer = Pacer(self.rig.clock, self.timing.period_s)
        return self._await_start(pacer) or self._drive(pacer)

    def episode(self) -> Episode:
        """Return what was recorded."""
        return Episode(
            image=np.stack(self._image),
            state=np.stack(self._state),
            action=np.stack(self._action),
            instruction=self.initial.instruction,
            fps=round(self.rig.world.control_hz),
            stop_reason=StopReason.SUCCESS,
            initial_state=self.initial,
        )

    def _await_start(self, pacer: Pacer) -> Ending | None:
        """Return None when the person begins."""
        while True:
            self._show("press b to begin")
            pacer.wait()
            events = self.rig.hand.take().events
            if Event.QUIT in events:
                return Ending.QUIT
            if Event.START in events:
                return None
            self._observation = self.rig.world.observe()

    def _drive(self, pacer: Pacer) -> Ending:
        while True:
            self._show("success or discard?" if self._is_over else "recording" if self.has_begun else "move to record")
            pacer.wait()
            motion = self.rig.hand.take()
            ending = self._pressed(motion) or (None if self._is_over else self._control(motion))
            if ending is not None:
                return ending

    def _pressed(self, motion: Motion) -> Ending | None:
        """Turn the gripper's command; return the ending that the person chose, if any."""
        for event in motion.events:
            if event == Event.GRIPPER:
                self._gripper = -self._gripper
            elif event == Event.SUCCESS:
                return self._claimed_success()
            elif event in _ENDINGS:
                return _ENDINGS[event]
        return None

    def _claimed_success(self) -> Ending:
        if self.recorded < MIN_STEPS:
            return Ending.TOO_SHORT
        if self.rig.require_success and not self.is_solved:
            return Ending.UNCONFIRMED
        return Ending.SUCCESS

    def _control(self, motion: Motion) -> Ending | None:
        """Run and record one control step, unless the hand has not moved yet."""
        state = self._observation["state"][0]
        step = action(motion.way_s / self.timing.period_s, state=state, gripper=self._gripper, config=self.rig.mapping)
        if not self.has_begun and self._is_rest(step, state):
            self._observation = self.rig.world.observe()
            return None
        self._image.append(np.array(self._observation["image"][0]))
        self._state.append(np.array(state))
        self._action.append(step)
        self.timing.sent(self.rig.clock.now())
        self._observation, _, terminated, truncated, info = self.rig.world.step(step[None])
        self.executed += 1
        self.is_solved = bool(info["success"][0])
        self._is_over = bool(terminated[0] or truncated[0])
        return Ending.LOST if info["lost"][0] else None

    @staticmethod
    def _is_rest(step: Float[ndarray, " 7"], state: Float[ndarray, " 8"]) -> bool:
        return bool(not step[:6].any() and (step[6] > 0) == (state[7] > 0))

    def _show(self, phase: str) -> None:
        self.rig.view.show(
            self._observation["image"][0],
            Status(
                phase=phase,
                kept=self.kept,
                wanted=self.wanted,
                steps=self.recorded,
                achieved_hz=self.timing.achieved_hz,
                worst_s=self.timing.worst_s,
                late=self.timing.late,
                is_open=self._gripper > 0,
                is_solved=self.is_solved,
                instruction=self.initial.instruction,
            ),
        )


_ENDINGS = {Event.DISCARD: Ending.DISCARDED, Event.QUIT: Ending.QUIT}
