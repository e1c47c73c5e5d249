"""Metrics of a run: one JSON object a line, and the same numbers as TensorBoard events."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from rlco.core.files import naming_full_disk, write_text


class MetricsLog:
    """Appends to ``folder/metrics.jsonl``; a resumed run first drops the lines after its checkpoint."""

    def __init__(self, folder: Path, *, resume_step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        kept = [line for line in read_metrics(folder) if line["step"] <= resume_step] if resume_step else []
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = self.path.open("a")
        self._events = SummaryWriter(str(folder / "events"), purge_step=resume_step + 1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record ``metrics`` of ``step``; a figure that is not finite is left out. Raises ``FullDiskError``."""
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        with naming_full_disk(self.path.parent):
            self._file.write(json.dumps({"step": step, **finite}) + "\n")
            self._file.flush()
            for name, value in finite.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        self._events.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # on a full disk closing fails again: what was raised first says more
        with suppress(OSError) if kind is not None else nullcontext():
            self.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the complete lines of ``folder/metrics.jsonl`` (a killed run may leave half of the last one)."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def last_figures(folder: Path, *, step: int) -> dict[str, float]:
    """Return the newest figures up to ``step``; nothing for a run that has not begun."""
    lines = [line for line in read_metrics(folder) if line["step"] <= step]
    return {name: value for name, value in lines[-1].items() if name != "step"} if lines else {}
