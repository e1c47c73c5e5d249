"""The plot of how far the twin drifts from recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy import ndarray

from rlco.core.files import write_atomic
from rlco.demos.drift import Drift
from rlco.evals.plots import COLOURS, FAINT, INK

_OF = {True: ("succeeds in the twin", COLOURS[0]), False: ("fails in the twin", COLOURS[4]), None: ("unknown", INK)}


def write_drift_plot(path: Path, found: Sequence[Drift], *, title: str = "") -> None:
    """Write a PNG: drift of the TCP over the control steps, one line per episode, and the median of all.

    Raises ``ValueError`` if there is nothing to draw.
    """
    if not found:
        raise ValueError("There are no episodes whose drift could be drawn.")
    figure = Figure(figsize=(10.0, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    _draw(axes[0], [1000 * its.position_m for its in found], found, "TCP drift [mm]")
    _draw(axes[1], [np.rad2deg(its.angle_rad) for its in found], found, "TCP turn [deg]")
    kinds = [kind for kind in _OF if any(its.succeeded is kind for its in found)]
    lines = [Line2D([], [], color=_OF[kind][1], label=_OF[kind][0]) for kind in kinds]
    median = Line2D([], [], color="black", linewidth=2, label="median")
    figure.legend(handles=[*lines, median], loc="outside upper right", ncols=4, frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    write_atomic(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))


def _draw(axis: Axes, curves: Sequence[ndarray], found: Sequence[Drift], label: str) -> None:
    for values, its in zip(curves, found, strict=True):
        axis.plot(values, color=_OF[its.succeeded][1], linewidth=0.8, alpha=0.45)
    axis.plot(median_by_step(curves), color="black", linewidth=2)
    axis.set_xlabel("control step", color=INK, fontsize=9)
    axis.set_title(label, fontsize=10, color=INK, loc="left")
    axis.set_ylim(bottom=0)
    axis.grid(color=FAINT, linewidth=0.8)
    axis.tick_params(which="both", colors=INK, labelsize=8, length=0)
    axis.spines[:].set_visible(False)


def median_by_step(curves: Sequence[ndarray]) -> ndarray:
    """Return the median of the curves that have each step, as far as at least half of them go."""
    lengths = sorted((len(values) for values in curves), reverse=True)
    steps = lengths[(len(lengths) - 1) // 2]
    return np.array([np.median([values[t] for values in curves if t < len(values)]) for t in range(steps)])
