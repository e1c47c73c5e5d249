"""The keyboard of a terminal as an input device, with nothing but the standard library."""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import numpy as np

from rlco.demos.teleop.devices import Command, DeviceLostError, Event
from rlco.demos.teleop.keys import EVENTS, MOTIONS, split_keys

TAP_S = 0.1
"""How long one press counts as held, if the terminal sends no repeat of it."""
REPEAT_S = 0.15
"""How long a key counts as held after the terminal's last repeat; repeats come every 0.03 to 0.06 s."""
REARM_S = 0.7
"""A press of the same key sooner than this is a repeat: terminals wait 0.25 to 0.66 s before the first one."""
_READ_BYTES = 4096
_VDISABLE = b"\x00"
_IFLAG, _LFLAG, _CC = 0, 3, 6
"""Places in what ``termios.tcgetattr`` returns."""


class Keyboard:
    """Keys of the terminal at ``fd``, from now until ``close``.

    A terminal tells presses and repeats, never releases, so a key counts as held until a short time after the last one.
    The terminal is put back on ``close``, at the end of the process, and before SIGINT, SIGTERM or SIGHUP end it: those
    raise ``KeyboardInterrupt`` in the main thread. Ctrl-Z and Ctrl-\\ do nothing meanwhile.
    Raises ``ValueError`` if ``fd`` is no terminal.
    """

    name = "keyboard"

    def __init__(self, fd: int | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fd, self._clock = standard_input() if fd is None else fd, clock
        require_terminal(self._fd)
        self._bytes = b""
        self._held: dict[str, float] = {}
        """Motion key -> until when it counts as held."""
        self._last: dict[str, float] = {}
        """Key -> when it was last heard of."""
        self._before: list[Any] | None = termios.tcgetattr(self._fd)
        self._signals: dict[int, Any] = {}
        atexit.register(self.close)
        self._listen_to_signals()
        termios.tcsetattr(self._fd, termios.TCSAFLUSH, _key_by_key(self._before))

    def read(self) -> Command:
        """See ``Device``."""
        now = self._clock()
        keys, self._bytes = split_keys(self._bytes + self._waiting())
        events = tuple(event for key in keys if (event := self._press(key, now)) is not None)
        self._held = {key: until for key, until in self._held.items() if until > now}
        motion = np.clip(sum((np.array(MOTIONS[key], dtype=float) for key in self._held), np.zeros(6)), -1.0, 1.0)
        return Command(translation=motion[:3], rotation=motion[3:], events=events)

    def close(self) -> None:
        """Put the terminal and the signals back as they were; keys that nobody read are thrown away."""
        if self._before is None:
            return
        before, self._before = self._before, None
        with suppress(termios.error):  # the terminal itself is gone
            termios.tcsetattr(self._fd, termios.TCSAFLUSH, before)
        for number, handler in self._signals.items():
            signal.signal(number, handler)
        atexit.unregister(self.close)

    def _press(self, key: str, now: float) -> Event | None:
        """Note that a key was heard of; return its event if it is pressed anew."""
        is_repeat = now - self._last.get(key, -np.inf) < REARM_S
        self._last[key] = now
        if key in MOTIONS:
            self._held[key] = max(now + (REPEAT_S if is_repeat else TAP_S), self._held.get(key, now))
        return None if is_repeat else EVENTS.get(key)

    def _waiting(self) -> bytes:
        """Return the bytes that have come since the last reading."""
        try:
            if not select.select([self._fd], [], [], 0.0)[0]:
                return b""
            data = os.read(self._fd, _READ_BYTES)
        except OSError as error:
            raise DeviceLostError("The keyboard's terminal is gone.") from error
        if not data:
            raise DeviceLostError("The keyboard's terminal was closed.")
        return data

    def _listen_to_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._signals[number] = signal.signal(number, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        """Put the terminal back at once, then unwind like Ctrl-C does."""
        del frame
        self.close()
        raise KeyboardInterrupt(signal.Signals(number).name)


def standard_input() -> int:
    """Return the file descriptor of stdin. Raises ``ValueError`` if there is none."""
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError) as error:
        raise ValueError("There is no standard input to read keys from: start this in a terminal.") from error


def require_terminal(fd: int) -> None:
    """Raise ``ValueError`` in one line unless ``fd`` is a terminal."""
    if not os.isatty(fd):
        raise ValueError(
            "The standard input is not a terminal, so no key can be read: start this in a terminal (over ssh: ssh -t)."
        )


def _key_by_key(attributes: list[Any]) -> list[Any]:
    """Return the terminal's settings without line buffering, echo, flow control, Ctrl-Z and Ctrl-\\; Ctrl-C stays."""
    changed = [*attributes[:_CC], list(attributes[_CC])]
    changed[_IFLAG] &= ~(termios.IXON | termios.ICRNL)
    changed[_LFLAG] &= ~(termios.ICANON | termios.ECHO)
    for name in (termios.VSUSP, termios.VQUIT):
        changed[_CC][name] = _VDISABLE
    changed[_CC][termios.VMIN], changed[_CC][termios.VTIME] = 1, 0
    return changed
