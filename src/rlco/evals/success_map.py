"""The success map: where on the table a policy succeeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy import ndarray

from rlco.evals.plots import FAINT, INK, to_svg

FAILED, HALF, SOLVED = "#d95f02", "#f3e9c6", "#1f5fa8"
"""Orange to blue: told apart with every common colour blindness, and by their lightness from the middle."""
_COLOURS = LinearSegmentedColormap.from_list("success", (FAILED, HALF, SOLVED))
_WIDTH_IN = 11.0
_WIDE = 0.5
"""A region less deep than this share of its width has two panels in a row, others four."""
_DOT_CM, _MARGIN_CM = 0.75, 2.5
_SAME_CM = 0.1
"""Starts nearer to each other than this are at the same place."""
_GOLDEN_RAD = math.pi * (3.0 - math.sqrt(5.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Where the named thing was at a start, base frame, and the share of that start's episodes that succeeded."""

    x_m: float
    y_m: float
    success: float


def success_map(panels: Mapping[str, Sequence[Start]]) -> str:
    """Return a panel a method as SVG, all of the same region; nothing for no panels."""
    if not panels:
        return ""
    placed = {name: side_by_side_cm(starts) for name, starts in panels.items()}
    every = np.concatenate(list(placed.values()))
    low, high = every.min(0) - _MARGIN_CM, every.max(0) + _MARGIN_CM
    depth, width = high - low
    columns = 2 if depth < _WIDE * width else 4
    rows = -(-len(panels) // columns)
    height_in = rows * (_WIDTH_IN / columns * depth / width + 0.5) + 0.4
    figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, (name, starts) in zip(axes, panels.items(), strict=False):
        _draw(axis, placed[name], [start.success for start in starts], title=name)
        # the robot's left is on the left
        axis.set(xlim=(high[1], low[1]), ylim=(low[0], high[0]))
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    _legend(figure)
    return to_svg(figure)


def side_by_side_cm(starts: Sequence[Start]) -> Float[ndarray, "n 2"]:
    """Return (x, y) [cm] of each start's dot: those at the same place in a spiral about it, none on another."""
    seen: dict[tuple[int, int], int] = {}
    dots = []
    for start in starts:
        x, y = 100 * start.x_m, 100 * start.y_m
        place = (round(x / _SAME_CM), round(y / _SAME_CM))
        number = seen[place] = seen.get(place, -1) + 1
        radius, angle = _DOT_CM * math.sqrt(number), _GOLDEN_RAD * number
        dots.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
    return np.array(dots)


def _draw(axis: Axes, dots_cm: Float[ndarray, "n 2"], success: Sequence[float], *, title: str) -> None:
    axis.scatter(
        dots_cm[:, 1], dots_cm[:, 0], c=success, cmap=_COLOURS, vmin=0, vmax=1, s=22, linewidths=0.5, edgecolors=INK
    )
    axis.set_title(title, fontsize=9.5, color=INK, loc="left")
    axis.set_aspect("equal")
    axis.set_xlabel("y [cm]", fontsize=8, color=INK)
    axis.set_ylabel("x [cm]", fontsize=8, color=INK)
    axis.grid(color=FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(colors=INK, labelsize=8, length=0)
    axis.spines[:].set_visible(False)


def _legend(figure: Figure) -> None:
    names = {0.0: "every episode failed", 0.5: "half of them", 1.0: "every episode succeeded"}
    marks = [
        figure.axes[0].scatter([], [], color=_COLOURS(share), s=22, linewidths=0.5, edgecolors=INK, label=name)
        for share, name in names.items()
    ]
    figure.legend(handles=marks, loc="outside upper left", ncols=3, frameon=False, fontsize=9)
