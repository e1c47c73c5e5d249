"""The picture of a generation: what became of the attempts, layout by layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from rlco.core.files import write_atomic

KEPT_RGB = "#3b7dd8"
REASONS_RGB = ("#e0a458", "#c8553d", "#8f6bb3", "#6b7a8f", "#b0b7c3", "#4f9d69", "#d28fb4", "#a3743c")
MAX_ROWS = 45
"""More cells than this are shown by one label at a time."""


def generation_picture(report: Mapping[str, Any], path: Path) -> None:
    """Draw one bar a layout cell: the kept share of its attempts, and the reasons of the others. ``report`` is a
    ``GenerateReport`` as JSON values; ``path`` ends in .png.
    """
    cells: Mapping[str, Any] = report["cells"] if len(report["cells"]) <= MAX_ROWS else report["labels"]
    rows = sorted(cells.items(), key=lambda item: item[1]["success_rate"])
    reasons = sorted({reason for _, cell in rows for reason in cell["rejected"]})
    figure = Figure(figsize=(9, 1.6 + 0.24 * len(rows)), layout="constrained")
    axis = figure.subplots()
    left = [0.0] * len(rows)
    colours = dict(zip(reasons, REASONS_RGB * (len(reasons) // len(REASONS_RGB) + 1), strict=False))
    for name in ("kept", *reasons):
        share = [_share(cell, name) for _, cell in rows]
        axis.barh(range(len(rows)), share, left=left, color=colours.get(name, KEPT_RGB), label=name, height=0.75)
        left = [a + b for a, b in zip(left, share, strict=True)]
    axis.set_yticks(range(len(rows)), [f"{name}  ({cell['attempts']})" for name, cell in rows], fontsize=8)
    axis.set_xlim(0, 1)
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xlabel("share of the attempts (their number in brackets)")
    axis.set_title(
        f"{report['count']} demonstrations kept of {report['attempts']} attempts ({report['success_rate']:.0%}); "
        f"replay of the real ones {report['replay_success_rate']:.0%}",
        fontsize=10,
    )
    figure.legend(loc="outside lower center", ncols=min(5, 1 + len(reasons)), fontsize=8, frameon=False)
    write_atomic(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))


def _share(cell: Mapping[str, Any], name: str) -> float:
    count = cell["kept"] if name == "kept" else cell["rejected"].get(name, 0)
    return count / max(cell["attempts"], 1)
