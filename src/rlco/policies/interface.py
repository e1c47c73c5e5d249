"""What every family's interface has in common."""

from __future__ import annotations

from collections.abc import Collection

CONTROL_HZ = 5
"""The control rate at which policies act [Hz]."""


def require_control_hz(control_hz: int) -> None:
    """Raise ``ValueError`` for another control rate than policies act at."""
    if control_hz != CONTROL_HZ:
        raise ValueError(f"Interface.control_hz must be {CONTROL_HZ}, got {control_hz}.")


def require_fields(found: Collection[str], known: Collection[str]) -> None:
    """Raise ``ValueError`` unless a checkpoint's interface has each field of its family, and no other."""
    if unknown := set(found) - set(known):
        raise ValueError(f"stats.json has unknown fields: {', '.join(sorted(unknown))}.")
    if missing := [name for name in known if name not in found]:
        raise ValueError(f"stats.json lacks the fields: {', '.join(missing)}.")
