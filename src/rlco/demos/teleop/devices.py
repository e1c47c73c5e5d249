"""What a person's hand says: the one interface of all input devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy import ndarray


class Event(StrEnum):
    """A key or button that was pressed; it counts once, however long it is held."""

    GRIPPER = "gripper"
    """Close an open gripper, open a closed one."""
    START = "start"
    SUCCESS = "success"
    DISCARD = "discard"
    QUIT = "quit"


class DeviceLostError(OSError):
    """The device is gone: unplugged, or its terminal was closed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One reading. Velocities are shares of the largest speed, each in [-1, 1], in the frame of who moves the device.

    x is away from the person, y to the left, z up; rotations are right-handed about the same axes.
    """

    translation: Float[ndarray, " 3"] = field(default_factory=lambda: np.zeros(3))
    rotation: Float[ndarray, " 3"] = field(default_factory=lambda: np.zeros(3))
    events: tuple[Event, ...] = ()
    """Pressed since the last reading, oldest first."""


@runtime_checkable
class Device(Protocol):
    """Whatever a person moves. Read about 50 times a second."""

    @property
    def name(self) -> str:
        """What people call it; goes into a recording's provenance."""
        ...

    def read(self) -> Command:
        """Return what is held now, and what was pressed since the last reading, without waiting.

        Raises ``DeviceLostError`` if the device is gone.
        """
        ...

    def close(self) -> None:
        """Let go of the device; may be called twice."""
        ...


class Together:
    """Several devices as one: motions add up, each within [-1, 1]; every press counts."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._devices = devices
        self.name = "+".join(device.name for device in devices)

    def read(self) -> Command:
        """See ``Device``."""
        commands = [device.read() for device in self._devices]
        return Command(
            translation=np.clip(sum(command.translation for command in commands), -1.0, 1.0),
            rotation=np.clip(sum(command.rotation for command in commands), -1.0, 1.0),
            events=tuple(event for command in commands for event in command.events),
        )

    def close(self) -> None:
        """Close all of them, the last one first."""
        for device in reversed(self._devices):
            device.close()
