"""What a recorded motion tells about where things were: the key events, and the guesses that a task makes from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from rlco.core.poses import quat_to_yaw
from rlco.core.scene import InitialState

_STILL_M = 0.0015
"""Fingers that move less than this in one control step have stopped."""
_SETTLE_STEPS = 2
"""Control steps that the fingers need at least before they can have stopped: the command arrives late."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grip:
    """The gripper closed after it was open."""

    closed: int
    """Control step whose command closes it."""
    stopped: int
    """Moment at which the fingers have stopped."""
    opened: int | None
    """Control step whose command opens it again; None: it stays closed."""
    width_m: float
    """At which the fingers stay while it is closed: the width of what they hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """The robot's part of a demonstration, T control steps. Row t is of the moment before action t."""

    tcp_pose: Float[ndarray, "T 7"]
    """Base frame."""
    gripper_width_m: Float[ndarray, " T"]
    opens: Bool[ndarray, " T"]
    """The gripper command of each action."""

    def __len__(self) -> int:
        return len(self.opens)

    @property
    def yaw_rad(self) -> Float[ndarray, " T"]:
        """Return the turn of the gripper about the vertical."""
        return quat_to_yaw(self.tcp_pose[:, 3:])

    def grips(self) -> tuple[Grip, ...]:
        """Return each time that the gripper closes after it was open, in order."""
        changes = np.flatnonzero(np.diff(self.opens.astype(int))) + 1
        found = []
        for closed in changes[~self.opens[changes]].tolist():
            later = changes[changes > closed]
            found.append(self._grip(closed, int(later[0]) if len(later) else None))
        return tuple(found)

    def low_spells(self, *, below_m: float) -> tuple[tuple[int, int], ...]:
        """Return the (first, last) moments of each time that the TCP stays lower than ``below_m``."""
        low = np.flatnonzero(self.tcp_pose[:, 2] < below_m)
        if not len(low):
            return ()
        parts = np.split(low, np.flatnonzero(np.diff(low) > 1) + 1)
        return tuple((int(part[0]), int(part[-1])) for part in parts)

    def _grip(self, closed: int, opened: int | None) -> Grip:
        last = len(self) - 1 if opened is None else opened
        width = self.gripper_width_m[closed : last + 1]
        moving = np.flatnonzero(np.abs(np.diff(width)) > _STILL_M)
        settled: Int[ndarray, " n"] = np.setdiff1d(np.arange(_SETTLE_STEPS, len(width)), moving + 1)
        # the first moment at which they are still; of a very short grip, its last
        stopped = int(settled[0]) if len(settled) else len(width) - 1
        return Grip(closed=closed, stopped=closed + stopped, opened=opened, width_m=float(np.median(width[stopped:])))


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """A start from which a motion may have begun."""

    state: InitialState
    by: str
    """What it was guessed from, in a few words."""


class UnreadableMotionError(ValueError):
    """The motion or the instruction does not say where things were; the message is the reason, in a few words."""


@runtime_checkable
class Recoverable(Protocol):
    """A task that knows what the key events of a motion mean."""

    def guesses(self, motion: Motion, instruction: str) -> tuple[Guess, ...]:
        """Return starts that fit the motion, the likeliest first; names and the robot's own start are the caller's.

        ``instruction`` says which object it is about. Raises ``UnreadableMotionError`` where there are none.
        """
        ...


def words(instruction: str) -> list[str]:
    """Return the words of an instruction, lower case."""
    return "".join(c if c.isalnum() else " " for c in instruction.lower()).split()
