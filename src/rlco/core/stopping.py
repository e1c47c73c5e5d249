"""Being asked to stop by SIGTERM or Ctrl-C: at once, or where a step of the work ends.

A signal is the whole process's, and so is what is kept here.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

GRACE_S = 20.0
"""A step that is not over this long after the signal is left in its middle: schedulers kill after 30 s."""
_HEEDED = (signal.SIGTERM, signal.SIGINT)


class StoppedError(KeyboardInterrupt):
    """This process was asked to stop. Like its parent no ``Exception``: whoever catches those lets it pass."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


@dataclass(slots=True)
class StopSign:
    """Looked at between the steps of work that should not be left in the middle of one."""

    grace_s: float
    """Time that a step has left when the signal comes."""
    asked: signal.Signals | None = None

    def is_up(self) -> bool:
        """Return whether to stop, now that a step is over; what is saved after this may take its time."""
        if self.asked is not None:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        return self.asked is not None


_signs: list[StopSign] = []
"""Of the work that this process is in, the innermost last."""


@contextmanager
def heeding_signals() -> Iterator[None]:
    """Inside, SIGTERM and Ctrl-C raise ``StoppedError``: at once, or by the rules of ``between_steps``.

    Outside of the main thread, where Python handles no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _stop) for number in _HEEDED}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, _leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def between_steps(*, grace_s: float = GRACE_S) -> Iterator[StopSign]:
    """Yield what says after each step whether to stop; stopping is then raised as ``StoppedError`` at the end.

    The step that the first signal falls into is finished, if that takes no longer than ``grace_s`` [s]; after that, and
    at a second signal, ``StoppedError`` is raised wherever the work is.
    """
    sign = StopSign(grace_s)
    _signs.append(sign)
    try:
        yield sign
    finally:
        sign.is_up()
        _signs.pop()
    if sign.asked is not None:
        raise StoppedError(sign.asked)


def _stop(number: int, _frame: FrameType | None) -> None:
    asked = signal.Signals(number)
    if not _signs or _signs[-1].asked is not None:
        raise StoppedError(asked)
    _signs[-1].asked = asked
    signal.setitimer(signal.ITIMER_REAL, _signs[-1].grace_s)
    # not print: the signal may fall into the middle of another one
    os.write(2, f"\nrlco: {asked.name}: stopping after this step; once more stops at once.\n".encode())


def _leave(_number: int, _frame: FrameType | None) -> None:
    if _signs and _signs[-1].asked is not None:
        raise StoppedError(_signs[-1].asked)
