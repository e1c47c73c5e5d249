"""What the person sees: a status, messages, and the camera's picture."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from numpy import ndarray

Image = UInt8[ndarray, "H W 3"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """The state of the session at one control step."""

    phase: str
    kept: int
    wanted: int
    steps: int
    """Control steps of this episode so far."""
    achieved_hz: float | None
    worst_s: float | None
    late: int
    is_open: bool
    """The gripper's command."""
    is_solved: bool
    """What the task's own check says."""
    instruction: str

    def line(self) -> str:
        """Return it as one line."""
        rate = "" if self.achieved_hz is None else f" {self.achieved_hz:.2f} Hz (worst step {self.worst_s:.2f} s)"
        parts = (
            f"[{min(self.kept + 1, self.wanted)}/{self.wanted}] {self.phase}",
            f"step {self.steps}{rate}, late {self.late}",
            f"gripper {'open' if self.is_open else 'closed'}",
            f"task solved: {'yes' if self.is_solved else 'no'}",
        )
        return " | ".join(parts)


@runtime_checkable
class View(Protocol):
    """A place where the person looks. Never blocks the control loop."""

    def show(self, image: Image, status: Status) -> None:
        """Show the present picture and status."""
        ...

    def say(self, text: str) -> None:
        """Say something once."""
        ...

    def close(self) -> None:
        """Stop showing; may be called twice."""
        ...


@runtime_checkable
class Text(Protocol):
    """Where a terminal's text goes."""

    def write(self, text: str, /) -> object:
        """Write it."""
        ...

    def flush(self) -> None:
        """Show it now."""
        ...

    def isatty(self) -> bool:
        """Return whether somebody watches."""
        ...


class Terminal:
    """One status line that is written again and again, with messages above it."""

    def __init__(self, file: Text | None = None) -> None:
        self._file: Text = sys.stderr if file is None else file
        self._is_live = self._file.isatty()
        self._line = ""

    def show(self, image: Image, status: Status) -> None:
        """Write the status, if somebody watches."""
        del image
        if self._is_live:
            self._line = status.line()
            self._write(f"\r\x1b[K{self._line}")

    def say(self, text: str) -> None:
        """Write a line of its own, above the status."""
        self._write(f"\r\x1b[K{text}\n{self._line}" if self._is_live else f"{text}\n")

    def close(self) -> None:
        """Leave the status line."""
        if self._line:
            self._line = ""
            self._write("\n")

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()


class Views:
    """Several places at once."""

    def __init__(self, views: Sequence[View]) -> None:
        self._views = views

    def show(self, image: Image, status: Status) -> None:
        """See ``View``."""
        for view in self._views:
            view.show(image, status)

    def say(self, text: str) -> None:
        """See ``View``."""
        for view in self._views:
            view.say(text)

    def close(self) -> None:
        """See ``View``."""
        for view in reversed(self._views):
            view.close()
