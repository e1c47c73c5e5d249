"""From the bytes of a terminal to named keys, and what each key does."""

from __future__ import annotations

from rlco.demos.teleop.devices import Event

_ESCAPE = 0x1B
_SEQUENCES = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1bOC": "right",
    b"\x1bOD": "left",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
}
_NAMES = {" ": "space", "\n": "enter", "\r": "enter", "\x7f": "backspace", "\x08": "backspace"}

MOTIONS: dict[str, tuple[float, ...]] = {
    "w": (1, 0, 0, 0, 0, 0),
    "up": (1, 0, 0, 0, 0, 0),
    "s": (-1, 0, 0, 0, 0, 0),
    "down": (-1, 0, 0, 0, 0, 0),
    "a": (0, 1, 0, 0, 0, 0),
    "left": (0, 1, 0, 0, 0, 0),
    "d": (0, -1, 0, 0, 0, 0),
    "right": (0, -1, 0, 0, 0, 0),
    "r": (0, 0, 1, 0, 0, 0),
    "page up": (0, 0, 1, 0, 0, 0),
    "f": (0, 0, -1, 0, 0, 0),
    "page down": (0, 0, -1, 0, 0, 0),
    "o": (0, 0, 0, 1, 0, 0),
    "u": (0, 0, 0, -1, 0, 0),
    "i": (0, 0, 0, 0, 1, 0),
    "k": (0, 0, 0, 0, -1, 0),
    "j": (0, 0, 0, 0, 0, 1),
    "l": (0, 0, 0, 0, 0, -1),
}
"""Key -> translation velocity x, y, z and rotation velocity about x, y, z."""
EVENTS = {
    "space": Event.GRIPPER,
    "b": Event.START,
    "enter": Event.SUCCESS,
    "backspace": Event.DISCARD,
    "q": Event.QUIT,
}
MOTION_HELP = """\
  w s   up down        away from you, towards you
  a d   left right     to the left, to the right
  r f   page up/down   up, down
  o u                  turn about the axis away from you
  i k                  turn about the axis to the left
  j l                  turn about the vertical"""
EVENT_HELP = "  space gripper   b begin   enter success   backspace discard   q quit"


def split_keys(data: bytes) -> tuple[list[str], bytes]:
    """Return the keys in ``data``, oldest first, and the start of an escape sequence that is not complete yet.

    Capitals are taken as small letters. A sequence that is not known is left out whole.
    """
    keys: list[str] = []
    while data:
        length = 1 if data[0] != _ESCAPE else _sequence_length(data)
        if length == 0:
            return keys, data
        word, data = data[:length], data[length:]
        if word[0] == _ESCAPE:
            keys += [_SEQUENCES[word]] if word in _SEQUENCES else []
        elif word[0] < 0x80:
            letter = word.decode("ascii").lower()
            keys.append(_NAMES.get(letter, letter))
    return keys, b""


def _sequence_length(data: bytes) -> int:
    """Return how many bytes the escape sequence at the front has; 0 if its end is not there yet."""
    if len(data) < 2:
        return 0
    if data[1] == ord("O"):
        return 3 if len(data) >= 3 else 0
    if data[1] != ord("["):
        return 1  # a lone escape key, followed by something else
    for end in range(2, len(data)):
        if 0x40 <= data[end] <= 0x7E:
            return end + 1
    return 0
