"""What the hand did in a control period: the device read at a high rate, its velocity integrated."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.demos.teleop.devices import Device, DeviceLostError, Event

POLL_S = 0.02


@runtime_checkable
class Clock(Protocol):
    """Time, so that a test may have its own."""

    def now(self) -> float:
        """Seconds from an arbitrary moment; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class RealClock:
    """The machine's."""

    def now(self) -> float:
        """See ``Clock``."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See ``Clock``."""
        time.sleep(seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """What was asked for since the last ``Hand.take``."""

    way_s: Float[ndarray, " 6"]
    """Integral of the device's velocity [s]: translation, rotation. A second at full speed is 1."""
    events: tuple[Event, ...]


class Hand:
    """Integrates a device's readings. A short tap counts for as long as it lasted, whenever it came."""

    def __init__(self, device: Device, clock: Clock) -> None:
        self._device, self._clock = device, clock
        self._lock = threading.Lock()
        self._velocity, self._way_s = np.zeros(6), np.zeros(6)
        self._events: list[Event] = []
        self._since = clock.now()
        self._lost: DeviceLostError | None = None

    @property
    def name(self) -> str:
        """The device's."""
        return self._device.name

    def sample(self) -> None:
        """Read the device once. What it said before counts up to now."""
        with self._lock:
            if self._lost is not None:
                return
            try:
                command = self._device.read()
            except DeviceLostError as error:
                self._lost = error
                return
            now = self._clock.now()
            self._way_s = self._way_s + (now - self._since) * self._velocity
            self._velocity = np.concatenate([command.translation, command.rotation])
            self._events += command.events
            self._since = now

    def take(self) -> Motion:
        """Return what was asked for since the last call. Raises ``DeviceLostError`` if the device is gone."""
        self.sample()
        with self._lock:
            if self._lost is not None:
                raise self._lost
            motion = Motion(way_s=self._way_s, events=tuple(self._events))
            self._way_s, self._events = np.zeros(6), []
            return motion


@contextmanager
def polled(hand: Hand, *, every_s: float = POLL_S) -> Iterator[None]:
    """Read the device in the background: a world whose step lasts a control period must not miss a tap."""
    ended = threading.Event()

    def poll() -> None:
        while not ended.wait(every_s):
            hand.sample()

    thread = threading.Thread(target=poll, name="teleop-device", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
