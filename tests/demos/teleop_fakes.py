"""A clock, a device and a world whose every move a test knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from rlco.core.episode import Episode
from rlco.core.scene import InitialState
from rlco.demos.teleop.attempt import Rig
from rlco.demos.teleop.devices import Command, DeviceLostError, Event
from rlco.demos.teleop.hand import Hand
from rlco.demos.teleop.mapping import MappingConfig
from rlco.demos.teleop.view import Image, Status


class FakeClock:
    """Time passes in ``sleep`` alone; ``on_tick`` runs every 20 ms of it, as the background thread would."""

    def __init__(self, on_tick: Callable[[], None] = lambda: None) -> None:
        self.time_ms, self.on_tick = 0, on_tick

    def now(self) -> float:
        return self.time_ms / 1000

    def sleep(self, seconds: float) -> None:
        end = self.time_ms + round(seconds * 1000)
        while self.time_ms < end:
            self.time_ms = min(end, self.time_ms // 20 * 20 + 20)
            self.on_tick()


class ScriptedDevice:
    """Says what its script says from that time on [s]; presses count once. ``None``: the device is gone."""

    name = "scripted"

    def __init__(self, script: Sequence[tuple[float, Sequence[float] | None, Sequence[Event]]]) -> None:
        self.script, self.clock = list(script), FakeClock()
        self.velocity = np.zeros(6)
        self.is_closed = False

    def read(self) -> Command:
        events: list[Event] = []
        while self.script and self.script[0][0] <= self.clock.now() + 1e-9:
            _, velocity, pressed = self.script.pop(0)
            if velocity is None:
                raise DeviceLostError("The scripted device is gone.")
            self.velocity = np.array([*velocity, *[0.0] * (6 - len(velocity))], dtype=float)
            events += pressed
        return Command(translation=self.velocity[:3], rotation=self.velocity[3:], events=tuple(events))

    def close(self) -> None:
        self.is_closed = True


class FakeWorld:
    """Its picture and state count the control steps; it ends after ``length`` of them, solved if ``solves``."""

    control_hz = 5.0

    def __init__(self, *, length: int = 100, solves: bool = True, step_s: Sequence[float] = ()) -> None:
        self.length, self.solves, self.step_s = length, solves, list(step_s)
        self.clock = FakeClock()
        self.steps = self.total = self.observed = 0
        self.loses_at: int | None = None
        self.sent: list[ndarray] = []
        self.started: list[str] = []

    def reset(self, *, initial_states: list[InitialState]) -> tuple[dict[str, Any], dict[str, Any]]:
        self.steps, self.started = 0, [*self.started, initial_states[0].name]
        self.sent = []
        return self._observation(), {"success": np.array([False])}

    def observe(self) -> dict[str, Any]:
        self.observed += 1
        return self._observation()

    def step(self, actions: ndarray) -> tuple[Any, ...]:
        assert actions.shape == (1, 7)
        assert self.steps < self.length, "stepped after the end"
        self.clock.sleep(self.step_s.pop(0) if self.step_s else 0.0)
        self.steps, self.total = self.steps + 1, self.total + 1
        self.sent.append(actions[0].copy())
        over = self.steps == self.length
        info = {"success": np.array([over and self.solves]), "lost": np.array([self.steps == self.loses_at])}
        return self._observation(), None, np.array([over and self.solves]), np.array([over and not self.solves]), info

    def _observation(self) -> dict[str, Any]:
        state = np.zeros((1, 8), dtype=np.float32)
        state[0, 0], state[0, 7] = self.steps, -1.0
        return {"image": np.full((1, 4, 4, 3), self.steps, dtype=np.uint8), "state": state}


class Memory:
    """Keeps episodes."""

    def __init__(self) -> None:
        self.episodes: list[Episode] = []
        self.provenance: list[Mapping[str, Any]] = []

    @property
    def count(self) -> int:
        return len(self.episodes)

    def add(self, episode: Episode, *, provenance: Mapping[str, Any] | None = None) -> int:
        assert provenance is not None
        self.episodes.append(episode)
        self.provenance.append(provenance)
        return len(self.episodes) - 1

    def flush(self) -> None:
        pass


class Witness:
    """Remembers what the person saw and was told."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, Status]] = []
        self.said: list[str] = []

    def show(self, image: Image, status: Status) -> None:
        self.shown.append((int(image[0, 0, 0]), status))

    def say(self, text: str) -> None:
        self.said.append(text)

    def close(self) -> None:
        pass


def start(number: int, tries: int) -> InitialState:
    """Return the start of demonstration ``number``; its name tells both."""
    return InitialState(
        name=f"{number}.{tries}", task="t", instruction=f"do {number}", object_pose={}, object_rgb={}, labels={}
    )


def rig_of(device: ScriptedDevice, world: FakeWorld, *, require_success: bool) -> tuple[Rig, Witness]:
    """Return a rig whose parts share one fake clock, and what watches it."""
    clock, view = FakeClock(), Witness()
    world.clock = clock
    device.clock = clock
    hand = Hand(device, clock)
    clock.on_tick = hand.sample
    mapping = MappingConfig(translation_scale=1.0, rotation_scale=1.0)
    rig = Rig(world=world, hand=hand, view=view, clock=clock, mapping=mapping, require_success=require_success)
    return rig, view
