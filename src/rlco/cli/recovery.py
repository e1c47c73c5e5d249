"""Poses for demonstrations that carry none, and how well they replay in the twin."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from rlco.core.progress import progress
from rlco.data.reader import Dataset
from rlco.demos.drift import drift, drift_summary
from rlco.demos.recover import RecoveryReport, SearchConfig, pose_errors, recover_dataset


@dataclass(frozen=True, kw_only=True)
class Recover:
    """Find where things were at the start of real demonstrations that carry no object poses.

    Guessed from the motion, verified by open-loop replay in the twin, refined by search. Writes a copy of the dataset
    with the initial states that were found; `rlco generate` takes it.
    """

    real: Annotated[Path, tyro.conf.Positional]
    """Dataset of the real demonstrations, in our form (rlco data convert). It is not changed."""
    folder: Annotated[Path, tyro.conf.Positional]
    """Where the copy with initial states is written."""
    task: str = "push-cube"
    search: SearchConfig = field(default_factory=SearchConfig)
    num_envs: int = 16
    """Environments side by side; changes no result."""
    compare: bool = False
    """Also tell how far the poses are from those that the recorder wrote beside the dataset, if it did."""
    json: bool = False
    """Print JSON, one entry per demonstration."""

    def run(self) -> int:
        """See the overview. Failed is what recovers nothing at all."""
        dataset = Dataset.open(self.real)
        if self.compare and not any(dataset.initial_states):
            raise ValueError(f"'{self.real}' has no initial states to compare with (meta/rlco_initial_states.json).")
        with progress("recover", total=len(dataset.episodes), unit="demonstration") as bar:
            report = recover_dataset(
                dataset, self.folder, self.task, config=self.search, num_envs=self.num_envs, reporter=bar
            )
        found = report.summary() | ({"error": _errors(report, dataset)} if self.compare else {})
        print(json.dumps(found | (report.to_json() if self.json else {}), indent=2))
        return 0 if report.succeeded else 1


def replay_check(folder: Path, task: str, out_png: Path | None = None, *, num_envs: int = 16) -> dict[str, Any]:
    """Replay a dataset's actions in the twin; return the figures of ``drift_summary`` and write the plot.

    Raises ``ValueError`` in one line; see ``rlco.demos.drift.drift``.
    """
    found = drift(Dataset.open(folder), task, num_envs=num_envs)
    if out_png is not None:
        from rlco.evals.drift_plot import write_drift_plot

        write_drift_plot(out_png, found, title=f"{folder.name}: open-loop replay in the twin of {task}")
    return drift_summary(found)


def _errors(report: RecoveryReport, dataset: Dataset) -> dict[str, Any]:
    errors = pose_errors(report, dataset.initial_states)
    position, yaw = (np.array([getattr(error, name) for error in errors]) for name in ("position_m", "yaw_rad"))
    if not errors:
        return {"things": 0}
    return {
        "things": len(errors),
        "position_m": {"median": float(np.median(position)), "p90": float(np.percentile(position, 90))},
        "yaw_rad": {"median": float(np.median(yaw)), "p90": float(np.percentile(yaw, 90))},
    }
