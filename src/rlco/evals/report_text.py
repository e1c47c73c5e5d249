"""Figures as a report writes them."""

from __future__ import annotations

import math

from rlco.evals.statistics import PairedDifference

NOTHING = "\N{EN DASH}"
"""Shown where there is no figure."""


def percent(share: float) -> str:
    """Return ``71.3 %``."""
    return NOTHING if math.isnan(share) else f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """Return a difference in points with its sign, ``+16.0``."""
    return f"{100 * difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def difference_cell(paired: PairedDifference) -> str:
    """Return a difference in points; bold where the interval excludes 0."""
    gap = paired.difference
    if math.isnan(gap.value):
        return f"<td>{NOTHING}</td>"
    value = points(gap.value)
    kind = "better" if gap.low > 0 else "worse" if gap.high < 0 else "unsure"
    p = "p &lt; 0.001" if paired.sign_test_p < 0.001 else f"p = {paired.sign_test_p:.3f}"
    counts = f"better on {paired.wins}, worse on {paired.losses} of {paired.num_states}<br>{p}"
    interval = f"{points(gap.low)} to {points(gap.high)}"
    return f'<td><b class="{kind}">{value}</b> <span class="small">{interval}<br>{counts}</span></td>'
