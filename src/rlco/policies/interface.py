"""What every family's interface has in common."""

from __future__ import annotations

from collections.abc import Iterable

CONTROL_HZ = 5
"""The control rate at which policies act [Hz]."""


def require_control_hz(control_hz: int) -> None:
    """Raise ``ValueError`` for another control rate than policies act at."""
    if control_hz != CONTROL_HZ:
        raise ValueError(f"Interface.control_hz must be {CONTROL_HZ}, got {control_hz}.")


def require_known_fields(found: Iterable[str], known: Iterable[str]) -> None:
    """Raise ``ValueError`` for a field of a checkpoint's interface that its family does not have."""
    if unknown := set(found) - set(known):
        raise ValueError(f"stats.json has unknown fields: {', '.join(sorted(unknown))}.")
