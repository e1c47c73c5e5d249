"""Figures of a study as SVG text, in the form of the paper's: bars of a table, lines over a number, curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlco.evals.plots import COLOURS, FAINT, INK, to_svg
from rlco.evals.statistics import Interval
from rlco.evals.study import Curve, Place, StudyData

PAPER = "the paper, on a robot"


def study_figures(data: StudyData) -> dict[str, str]:
    """Return the name of a file -> SVG: one figure a table, one of the curves where there are any."""
    draw = _bars if data.x_label is None else _lines
    found = {_slug(table): _figure(data, table, draw) for table in data.tables()}
    return found | ({"curves": curves_figure(data.curves)} if data.curves else {})


def curves_figure(curves: Sequence[Curve]) -> str:
    """Return success in simulation over control steps: the mean over seeds, and one standard deviation each way."""
    figure, axis = _canvas(width=7.0, height=3.6)
    begun = [c for c in curves if c.steps]
    for colour, line in zip(COLOURS, dict.fromkeys(c.line for c in begun), strict=False):
        seeds = [c for c in begun if c.line == line]
        length = min(len(c.steps) for c in seeds)
        success = 100 * np.array([c.success[:length] for c in seeds])
        mean, spread, steps = success.mean(axis=0), success.std(axis=0), np.array(seeds[0].steps[:length]) / 1e3
        count = f"{len(seeds)} seed" + "s" * (len(seeds) > 1)
        axis.plot(steps, mean, color=colour, linewidth=1.8, label=f"{line} ({count})")
        axis.fill_between(steps, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0)
    axis.set_xlabel("control steps in all environments [thousand]", color=INK, fontsize=9)
    axis.set_ylabel("success in the twin, exploring [%]", color=INK, fontsize=9)
    axis.set_ylim(0, 100)
    if begun:
        axis.legend(frameon=False, fontsize=8.5)
    return to_svg(figure)


def _figure(data: StudyData, table: str, draw: Drawing) -> str:
    rows, columns = data.rows(table), data.columns(table)
    rates: dict[tuple[str, str], Interval] = {}
    for row in rows:
        for column in columns:
            place = Place(table=table, row=row, column=column)
            if data.cell(place) is not None:
                rates[row, column] = data.rate(place)
    paper = {(p.row, p.column): value for p, value in data.paper.items() if p.table == table}
    figure, axis = _canvas(width=max(6.5, 1.3 + 0.42 * len(rows) * len(columns)), height=3.6)
    draw(axis, rows, columns, rates, paper)
    axis.set_ylim(0, 100)
    axis.set_ylabel("success [%]", color=INK, fontsize=9)
    if data.x_label is not None:
        axis.set_xlabel(data.x_label, color=INK, fontsize=9)
    axis.set_title(table, fontsize=10, color=INK, loc="left")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    return to_svg(figure)


Rates = Mapping[tuple[str, str], Interval]
Paper = Mapping[tuple[str, str], float]
Drawing = Callable[[Axes, Sequence[str], Sequence[str], Rates, Paper], None]


def _bars(axis: Axes, rows: Sequence[str], columns: Sequence[str], rates: Rates, paper: Paper) -> None:
    width = 0.8 / len(rows)
    for i, row in enumerate(rows):
        known = [(x, rates[row, c]) for x, c in enumerate(columns) if (row, c) in rates]
        aside = (i - (len(rows) - 1) / 2) * width
        at = [x + aside for x, _ in known]
        heights = [100 * rate.value for _, rate in known]
        colour = COLOURS[i % len(COLOURS)]
        axis.bar(at, heights, width=0.92 * width, color=colour, label=row)
        axis.errorbar(at, heights, yerr=_whiskers([r for _, r in known]), fmt="none", ecolor=INK, elinewidth=1.0)
        told = [
            (x + (i - (len(rows) - 1) / 2) * width, paper[row, c]) for x, c in enumerate(columns) if (row, c) in paper
        ]
        if told:
            axis.plot(*zip(*told, strict=True), "D", color="white", markeredgecolor=INK, markersize=5)
    if paper:
        axis.plot([], [], "D", color="white", markeredgecolor=INK, markersize=5, label=PAPER)
    axis.set_xticks(range(len(columns)), columns)


def _lines(axis: Axes, rows: Sequence[str], columns: Sequence[str], rates: Rates, paper: Paper) -> None:
    for i, row in enumerate(rows):
        known = [(float(c), rates[row, c]) for c in columns if (row, c) in rates]
        colour = COLOURS[i % len(COLOURS)]
        if not known:
            continue
        x, heights = [x for x, _ in known], [100 * rate.value for _, rate in known]
        style = {"marker": "o", "linewidth": 1.6, "capsize": 2, "color": colour, "label": row}
        axis.errorbar(x, heights, yerr=_whiskers([rate for _, rate in known]), **style)
        told = [(float(c), paper[row, c]) for c in columns if (row, c) in paper]
        if told:
            axis.plot(
                *zip(*told, strict=True), "D--", color=colour, markerfacecolor="white", markersize=5, linewidth=0.8
            )
    if paper:
        axis.plot([], [], "D--", color=INK, markerfacecolor="white", markersize=5, linewidth=0.8, label=PAPER)


def _whiskers(rates: Sequence[Interval]) -> np.ndarray:
    """Return (2, n) distances from the rate to the ends of its interval [points]."""
    ends = np.array([[r.value - r.low for r in rates], [r.high - r.value for r in rates]])
    return 100 * np.maximum(ends, 0.0)  # rounding can put an end of 0 on the other side


def _canvas(*, width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    assert isinstance(axis, Axes)
    axis.grid(axis="y", color=FAINT, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(which="both", colors=INK, labelsize=8.5, length=0)
    axis.spines[:].set_visible(False)
    return figure, axis


def _slug(table: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in table.lower())
