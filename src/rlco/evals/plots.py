"""A run's curves as SVG text, and the colours of every plot."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

Records = Sequence[Mapping[str, Any]]
"""Lines of a metrics file."""
COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2")
FAINT, INK = "#e5e7eb", "#374151"


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One small plot: a title and the metrics it shows."""

    title: str
    metrics: Mapping[str, str]
    """Metric name -> label; one label alone is not drawn."""
    unit: str = ""
    is_log: bool = False


RL_PANELS = (
    Panel(title="Success in the twin, while exploring", metrics={"rl/success": ""}),
    Panel(title="KL to the policy that collected", metrics={"rl/kl": ""}),
    Panel(title="Clip fraction", metrics={"rl/clip_fraction": ""}),
    Panel(title="Explained variance of the value", metrics={"rl/explained_variance": ""}),
    Panel(title="RL loss", metrics={"rl/loss_rl": ""}),
    Panel(title="SFT loss on the real demonstrations", metrics={"rl/loss_sft": ""}),
    Panel(
        title="Gradient norms",
        metrics={"rl/grad_norm_rl": "RL term", "rl/grad_norm_sft": "beta x SFT term"},
        is_log=True,
    ),
    Panel(title="Control steps of an episode", metrics={"rl/episode_steps": ""}),
    Panel(title="Ratio error before the first update", metrics={"rl/first_ratio_error": ""}),
)


def rl_curves(stages: Mapping[str, Records]) -> str:
    """Return the curves of Stage II, one colour a run; a panel whose metrics were not logged is left out."""
    lines = [line for records in stages.values() for line in records]
    panels = [p for p in RL_PANELS if any(name in line for name in p.metrics for line in lines)]
    return grid(panels, stages, x_label="iteration") if panels else ""


def sft_curves(stages: Mapping[str, Records]) -> str:
    """Return the learning curves of the supervised stages, one colour each."""
    logged = {name: mixed_only(records) for name, records in stages.items() if any("sft/loss" in r for r in records)}
    panels = (
        Panel(title="SFT loss", metrics={"sft/loss": ""}, is_log=True),
        Panel(title="Gradient norm", metrics={"sft/grad_norm": ""}, is_log=True),
        Panel(title="Realised share of simulated samples", metrics={"sft/fraction_0": ""}),
    )
    return grid(panels, logged, x_label="step") if logged else ""


def mixed_only(records: Records) -> Records:
    """Return the lines without the dataset's share where there is but one dataset: it says nothing."""
    is_mixed = any("sft/fraction_1" in r for r in records)
    return records if is_mixed else [{k: v for k, v in r.items() if k != "sft/fraction_0"} for r in records]


def grid(panels: Sequence[Panel], stages: Mapping[str, Records], *, x_label: str) -> str:
    """Return panels three in a row, every stage in each."""
    rows = -(-len(panels) // 3)
    figure = Figure(figsize=(11.0, 2.5 * rows + 0.3), layout="constrained")
    axes = np.atleast_1d(np.asarray(figure.subplots(rows, 3, squeeze=False))).flatten()
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel, stages)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[max(0, len(panels) - 3) : len(panels)]:
        axis.set_xlabel(x_label, color=INK, fontsize=8)
    if len(stages) > 1:
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=6, frameon=False, fontsize=9
        )
    return to_svg(figure)


def _draw(axis: Axes, panel: Panel, stages: Mapping[str, Records]) -> None:
    several = len(panel.metrics) > 1
    for i, (stage, records) in enumerate(stages.items()):
        for metric, style in zip(panel.metrics, ("solid", "dotted"), strict=False):
            points = [(r["step"], r[metric]) for r in records if metric in r]
            if points:
                steps, values = np.array(points, dtype=float).T
                line = _line(axis, steps, values, colour=COLOURS[i % len(COLOURS)], style=style)
                line.set_label(panel.metrics[metric] if several and i == 0 else "" if several else stage)
    axis.set_title(panel.title, fontsize=9.5, color=INK, loc="left")
    if panel.is_log:
        axis.set_yscale("log")
    if several:
        axis.legend(frameon=False, fontsize=8)
    axis.grid(color=FAINT, linewidth=0.8)
    axis.tick_params(which="both", colors=INK, labelsize=8, length=0)
    axis.spines[:].set_visible(False)


def _line(axis: Axes, steps: np.ndarray, values: np.ndarray, *, colour: str, style: str) -> Line2D:
    """Draw the values, or faintly and their running mean where there are many; return the line to name."""
    width = len(values) // 20
    if width >= 2:
        axis.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
        values = running_mean(values, width=width)
    return axis.plot(steps, values, color=colour, linewidth=1.6, linestyle=style)[0]


def running_mean(values: np.ndarray, *, width: int) -> np.ndarray:
    """Return the mean of the last ``width`` values at each point (of fewer at the start)."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def to_svg(figure: Figure) -> str:
    """Return the figure as SVG; the same figure gives the same text."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "rlco"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
