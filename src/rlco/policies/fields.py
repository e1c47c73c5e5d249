"""Values in files that other programs wrote: each is what it must be, or is refused by the names of file and field.

``source`` is the file as an error calls it, ``name`` the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any


def as_object(value: object, name: str, *, source: str) -> Mapping[str, Any]:
    """Return ``value`` if it is an object, else raise ``ValueError``."""
    if not isinstance(value, dict):
        raise _odd(value, name, "is no object", source)
    return value


def as_list(value: object, name: str, *, source: str) -> list[Any]:
    """Return ``value`` if it is a list, else raise ``ValueError``."""
    if not isinstance(value, list):
        raise _odd(value, name, "is no list", source)
    return value


def as_number(value: object, name: str, *, source: str) -> float:
    """Return ``value`` if it is a finite number, else raise ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise _odd(value, name, "is no number", source)
    return float(value)


def as_whole(value: object, name: str, *, least: int, source: str) -> int:
    """Return ``value`` if it is a whole number of ``least`` or more, else raise ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _odd(value, name, f"is no whole number of {least} or more", source)
    return value


def as_flag(value: object, name: str, *, source: str) -> bool:
    """Return ``value`` if it is true or false, else raise ``ValueError``."""
    if not isinstance(value, bool):
        raise _odd(value, name, "is neither true nor false", source)
    return value


def as_text(value: object, name: str, *, source: str) -> str:
    """Return ``value`` if it is a text, else raise ``ValueError``."""
    if not isinstance(value, str):
        raise _odd(value, name, "is no text", source)
    return value


def _odd(value: object, name: str, what: str, source: str) -> ValueError:
    return ValueError(f"{source} has {name} {value!r}, which {what}.")
