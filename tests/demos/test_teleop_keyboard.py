"""The keyboard on a real pseudo-terminal: what is held, what is pressed, and the terminal as it was."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from rlco.demos.teleop.devices import DeviceLostError, Event
from rlco.demos.teleop.keyboard import REARM_S, REPEAT_S, TAP_S, Keyboard
from rlco.demos.teleop.keys import split_keys


@dataclass
class Bench:
    """A terminal, who types on it, the keyboard that reads it, and its time."""

    master: int
    slave: int
    time_s: float = 0.0
    keyboard: Keyboard = None  # pyright: ignore[reportAssignmentType]

    def type(self, data: bytes, *, at_s: float) -> None:
        os.write(self.master, data)
        self.time_s = at_s


@pytest.fixture
def bench() -> Iterator[Bench]:
    master, slave = pty.openpty()
    bench = Bench(master, slave)
    bench.keyboard = Keyboard(slave, clock=lambda: bench.time_s)
    yield bench
    bench.keyboard.close()
    os.close(slave)
    if bench.master >= 0:
        os.close(bench.master)


def translation(bench: Bench, at_s: float) -> list[float]:
    bench.time_s = at_s
    return bench.keyboard.read().translation.tolist()


def test_a_tap_is_held_for_a_short_time(bench: Bench) -> None:
    bench.type(b"w", at_s=1.0)
    assert translation(bench, 1.0) == [1, 0, 0]
    assert translation(bench, 1.0 + TAP_S - 0.01) == [1, 0, 0]
    assert translation(bench, 1.0 + TAP_S + 0.01) == [0, 0, 0]


def test_a_key_that_repeats_is_held_until_shortly_after_the_last_repeat(bench: Bench) -> None:
    times = [1.0, 1.5, 1.55, 1.6]
    for at_s in times:
        bench.type(b"a", at_s=at_s)
        assert translation(bench, at_s) == [0, 1, 0]
    # one repeat that comes late does not stop the arm
    assert translation(bench, 1.6 + REPEAT_S - 0.01) == [0, 1, 0]
    assert translation(bench, 1.6 + REPEAT_S + 0.01) == [0, 0, 0]


def test_keys_of_different_axes_add_up_and_opposite_ones_cancel(bench: Bench) -> None:
    bench.type(b"wdr", at_s=1.0)
    assert translation(bench, 1.0) == [1, -1, 1]
    bench.type(b"S", at_s=1.05)
    assert translation(bench, 1.05) == [0, -1, 1]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x1b[A", [1, 0, 0]),
        (b"\x1bOB", [-1, 0, 0]),
        (b"\x1b[D", [0, 1, 0]),
        (b"\x1b[C", [0, -1, 0]),
        (b"\x1b[5~", [0, 0, 1]),
        (b"\x1b[6~", [0, 0, -1]),
    ],
)
def test_arrows_and_pages_move_too_even_if_they_come_in_pieces(bench: Bench, data: bytes, expected: list[int]) -> None:
    bench.type(data[:1], at_s=1.0)
    assert translation(bench, 1.0) == [0, 0, 0]
    bench.type(data[1:2], at_s=1.01)
    assert translation(bench, 1.01) == [0, 0, 0]
    bench.type(data[2:], at_s=1.02)
    assert translation(bench, 1.02) == expected


def test_rotations_have_keys(bench: Bench) -> None:
    bench.type(b"oij", at_s=1.0)
    assert bench.keyboard.read().rotation.tolist() == [1, 1, 1]
    bench.time_s = 5.0
    bench.type(b"ukl", at_s=5.0)
    assert bench.keyboard.read().rotation.tolist() == [-1, -1, -1]


def test_a_pressed_key_counts_once_however_long_it_is_held(bench: Bench) -> None:
    pressed: list[Event] = []
    # the terminal's own delay before the first repeat is at most about 0.66 s
    for at_s in (1.0, 1.66, 1.7, 1.74, 2.3):
        bench.type(b" ", at_s=at_s)
        pressed += bench.keyboard.read().events
    assert pressed == [Event.GRIPPER]
    bench.type(b" ", at_s=2.3 + REARM_S)
    assert bench.keyboard.read().events == (Event.GRIPPER,)


def test_every_event_has_its_key_and_they_come_in_order(bench: Bench) -> None:
    bench.type(b"b \r\x7fq?", at_s=1.0)
    assert bench.keyboard.read().events == (Event.START, Event.GRIPPER, Event.SUCCESS, Event.DISCARD, Event.QUIT)
    assert bench.keyboard.read().events == ()


def test_unknown_sequences_and_letters_of_other_scripts_do_nothing() -> None:
    keys, rest = split_keys(b"\x1b[15~w\x1bd" + "ä".encode() + b"\x1b[1;5C\x1b[")
    assert keys == ["w", "d"]
    assert rest == b"\x1b["


def test_the_terminal_is_put_back_and_unread_keys_are_thrown_away(bench: Bench) -> None:
    during = termios.tcgetattr(bench.slave)
    assert not during[3] & (termios.ICANON | termios.ECHO)
    assert during[3] & termios.ISIG, "Ctrl-C must stay a signal"
    os.write(bench.master, b"ls\n")
    bench.keyboard.close()
    bench.keyboard.close()
    assert not select.select([bench.slave], [], [], 0.2)[0], "the shell would run what was typed"
    after = termios.tcgetattr(bench.slave)
    assert after[3] & termios.ICANON
    assert after[3] & termios.ECHO


def test_a_closed_terminal_is_a_lost_device(bench: Bench) -> None:
    os.close(bench.master)
    bench.master = -1
    with pytest.raises(DeviceLostError, match="terminal"):
        bench.keyboard.read()


def test_no_terminal_is_one_line(tmp_path: object) -> None:
    reading, writing = os.pipe()
    with pytest.raises(ValueError, match="not a terminal"):
        Keyboard(reading)
    os.close(reading)
    os.close(writing)


def test_the_handlers_of_signals_are_put_back(bench: Bench) -> None:
    numbers = (signal.SIGTERM, signal.SIGHUP)
    during = [signal.getsignal(number) for number in numbers]
    bench.keyboard.close()
    assert all(signal.getsignal(n) != handler for n, handler in zip(numbers, during, strict=True))


PROGRAM = """
import signal, sys, time
from rlco.demos.teleop.keyboard import Keyboard
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
keyboard = Keyboard()
print("ready", flush=True)
end = sys.argv[1]
if end == "fault":
    raise RuntimeError("a fault")
if end == "exit":
    sys.exit(3)
time.sleep(30)
"""


@pytest.mark.parametrize("end", ["exit", "fault", "SIGINT", "SIGTERM", "SIGHUP", "Ctrl-C"])
def test_the_terminal_is_as_it_was_however_the_process_ends(end: str) -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, end],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: _own_terminal(slave),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    if end.startswith("SIG"):
        assert not termios.tcgetattr(slave)[3] & termios.ECHO
        process.send_signal(signal.Signals[end])
    elif end == "Ctrl-C":
        os.write(master, b"\x03")
    _, error = process.communicate(timeout=20)
    assert process.returncode != 0, "an end by a signal is no success"
    assert termios.tcgetattr(slave) == before
    if end.startswith("SIG") or end == "Ctrl-C":
        assert b"KeyboardInterrupt" in error, "the program must be able to clean up"
    os.close(slave)
    os.close(master)


def _own_terminal(slave: int) -> None:
    """Make ``slave`` the controlling terminal, so that its Ctrl-C reaches the process."""
    import fcntl

    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def test_keys_typed_in_real_time_are_read(bench: Bench) -> None:
    keyboard = Keyboard(bench.slave)
    os.write(bench.master, b"f")
    deadline = time.monotonic() + 5
    while not (command := keyboard.read()).translation.any() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert command.translation.tolist() == [0, 0, -1]
    keyboard.close()
