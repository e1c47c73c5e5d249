"""A 3Dconnexion SpaceMouse as an input device, through pyspacemouse."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.demos.teleop.devices import Command, DeviceLostError, Event

AXES = ("x", "y", "z", "roll", "pitch", "yaw")
"""Fields of pyspacemouse's state; under its ROS convention x is away from the person, y to the left, z up, and the
rotations are right-handed about them: the axes of ``Command``."""
BUTTONS = {"LEFT": (0, Event.GRIPPER), "RIGHT": (1, Event.SUCCESS)}
"""pyspacemouse's name of a button -> its place where a model does not use these names, and what it does."""
_MOST_REPORTS = 64
"""What a system queues at most between two readings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpaceMouseConfig:
    """How the cap is read."""

    dead_zone: float = 0.12
    """Share of the full deflection that counts as rest; beyond it the speed begins at 0."""
    signs: tuple[int, int, int, int, int, int] = (1, 1, 1, 1, 1, 1)
    """1 or -1 for x, y, z, roll, pitch, yaw: for a model that reports an axis the other way round."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.dead_zone < 1.0:
            raise ValueError(f"SpaceMouseConfig.dead_zone must be in [0, 1), got {self.dead_zone}.")
        if set(self.signs) - {1, -1}:
            raise ValueError(f"SpaceMouseConfig.signs must be 1 or -1, got {self.signs}.")


class SpaceMouse:
    """The first SpaceMouse that is plugged in.

    Raises ``ValueError`` in one line if pyspacemouse is not installed, or finds no device that it may open.
    """

    name = "spacemouse"

    def __init__(self, config: SpaceMouseConfig | None = None) -> None:
        self._config = SpaceMouseConfig() if config is None else config
        self._device: Any = _opened()
        names = list(self._device.info.button_names)
        self._events = {
            names.index(name) if name in names else place: event for name, (place, event) in BUTTONS.items()
        }
        self._pressed: list[int] = []
        self._seen_s: float | None = None
        self._velocity = np.zeros(6)

    def read(self) -> Command:
        """See ``Device``."""
        events: list[Event] = []
        for _ in range(_MOST_REPORTS):
            state = self._report()
            if state is None:
                break
            events += self._newly_pressed(list(state.buttons))
            self._velocity = np.array([getattr(state, axis) for axis in AXES], dtype=float)
        velocity = without_rest(self._velocity, dead_zone=self._config.dead_zone) * self._config.signs
        return Command(translation=velocity[:3], rotation=velocity[3:], events=tuple(events))

    def close(self) -> None:
        """See ``Device``."""
        if self._device is not None:
            device, self._device = self._device, None
            device.close()

    def _report(self) -> Any:  # noqa: ANN401  (pyspacemouse has no types)
        """Return the state after the next report of the device, or None if none is waiting."""
        try:
            state = self._device.read()
        except Exception as error:  # easyhid's own class, which is not importable without its library
            raise DeviceLostError(f"The SpaceMouse does not answer any more (unplugged?): {error}.") from error
        if state.t == self._seen_s:
            return None
        first, self._seen_s = self._seen_s is None, state.t
        # before the first report the state is all zero, with a time of -1
        return None if first and state.t < 0 else state

    def _newly_pressed(self, buttons: list[int]) -> list[Event]:
        before = self._pressed or [0] * len(buttons)
        self._pressed = buttons
        return [
            event
            for place, event in self._events.items()
            if place < len(buttons) and buttons[place] and not before[place]
        ]


def without_rest(velocity: Float[ndarray, " n"], *, dead_zone: float) -> Float[ndarray, " n"]:
    """Return ``velocity`` within [-1, 1]: 0 in the dead zone, growing from 0 at its edge to 1 at full deflection."""
    beyond = np.clip((np.abs(velocity) - dead_zone) / (1.0 - dead_zone), 0.0, 1.0)
    return np.copysign(beyond, velocity)


def _opened() -> Any:  # noqa: ANN401  (pyspacemouse has no types)
    library = _library()
    try:
        # it prints the model it found
        with redirect_stdout(sys.stderr):
            return library.open(axis_convention=library.AxisConvention.ROS)
    except Exception as error:
        raise ValueError(
            f"No SpaceMouse can be used: {str(error).rstrip('.')}. Is it plugged in, may you read it "
            "(a udev rule for /dev/hidraw*), and is libhidapi-hidraw installed? Or use --device keyboard."
        ) from error


def _library() -> ModuleType:
    """Return pyspacemouse; the only place that loads it."""
    try:
        import pyspacemouse  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise ValueError(
            f"The SpaceMouse needs pyspacemouse ({error}): pip install rlco[teleop]. Or use --device keyboard."
        ) from error
    except OSError as error:
        raise ValueError(f"pyspacemouse cannot load the HID library ({error}): install libhidapi-hidraw0.") from error
    return pyspacemouse
