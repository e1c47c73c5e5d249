"""Figures as a report writes them."""

from __future__ import annotations

import math

NOTHING = "\N{EN DASH}"
"""Shown where there is no figure."""


def percent(share: float) -> str:
    """Return ``71.3 %``."""
    return NOTHING if math.isnan(share) else f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """Return a difference in points with its sign, ``+16.0``."""
    return f"{100 * difference:+.1f}".replace("-", "\N{MINUS SIGN}")
