"""Recording and generating demonstrations."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from rlco.core.progress import progress
from rlco.data.reader import Dataset
from rlco.demos.generate import GenerateConfig, GenerateReport, generate_demonstrations, propose_segments
from rlco.demos.plan import PlanConfig
from rlco.demos.record import RecordConfig, record_demonstrations, style

PICTURE = "generation.png"
"""In the dataset's folder."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """Arguments of ``rlco record``."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Where the dataset is written (LeRobot v3.0)."""
    task: str = "push-cube"
    domain: str = "standin"
    """World: standin, twin or robot."""
    reality: int = 0
    """Which hidden draw of the stand-in."""
    objects: tuple[str, ...] | None = None
    """Of the objects that exist there; None: all."""
    count: int = 50
    """Successful demonstrations."""
    style: str = "teleop"
    """How the operator moves: teleop or exact."""
    image_size: int = 96
    """Height and width of a picture [pixels]."""
    seed: int = 0
    num_envs: int = 8
    """Environments side by side; changes no result."""

    def run(self) -> None:
        """See the overview."""
        config = RecordConfig(
            task=self.task,
            domain=self.domain,
            reality=self.reality,
            objects=self.objects,
            count=self.count,
            seed=self.seed,
            image_size=self.image_size,
            style=style(self.style),
        )
        with progress("record", total=self.count, unit="demonstration") as bar:
            report = record_demonstrations(self.folder, config, num_envs=self.num_envs, reporter=bar)
        print(json.dumps(asdict(report), indent=2))


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Arguments of ``rlco generate``."""

    real: Annotated[Path, tyro.conf.Positional]
    """Dataset of the real demonstrations."""
    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """Where the generated dataset is written; needed unless --write-segments is given."""
    task: str = "push-cube"
    count: int = 300
    """Successful demonstrations."""
    objects: tuple[str, ...] | None = None
    """Of the objects in the twin; None: all."""
    plan: PlanConfig = field(default_factory=PlanConfig)
    stable_steps: int = 3
    """Further control steps for which the goal must be met; they are not recorded."""
    attempts_per_layout: int = 6
    """Attempts in one layout before another one takes its place."""
    image_size: int = 96
    """Height and width of a picture [pixels]."""
    seed: int = 0
    num_envs: int = 16
    """Environments side by side; changes no result."""
    json: bool = False
    """Print JSON, every layout cell in it."""
    write_segments: bool = False
    """Only write where the stages of each real demonstration are to REAL/meta/rlco_segments.json, to be corrected by
    hand; later calls use that file."""

    def run(self) -> None:
        """See the overview."""
        config = GenerateConfig(
            task=self.task,
            objects=self.objects,
            count=self.count,
            seed=self.seed,
            image_size=self.image_size,
            plan=self.plan,
            stable_steps=self.stable_steps,
            attempts_per_layout=self.attempts_per_layout,
        )
        real = Dataset.open(self.real)
        if self.write_segments:
            print(propose_segments(real, config, num_envs=self.num_envs))
            return
        if self.folder is None:
            raise ValueError("Say where to write: rlco generate REAL FOLDER.")
        with progress("generate", total=self.count, unit="demonstration") as bar:
            report = generate_demonstrations(self.folder, real, config, num_envs=self.num_envs, reporter=bar)
        from rlco.evals.generation_plot import generation_picture

        picture = self.folder / PICTURE
        generation_picture(asdict(report), picture)
        print(json.dumps(asdict(report), indent=2) if self.json else f"{told(report)}\nBy layout: {picture}")


def told(report: GenerateReport) -> str:
    """Return the figures of a generation in lines for a person."""
    lines = [
        f"{report.count} demonstrations kept of {report.attempts} attempts ({report.success_rate:.0%}), "
        f"{report.mean_length:.0f} control steps each; {report.sources} real demonstrations used, "
        f"of which {report.mean_pruned:.0f} steps each were left out.",
        f"Replayed open loop in the twin, {report.replay_success_rate:.0%} of the real ones succeed.",
    ]
    lines += [f"  episode {number}: {why}" for number, why in (report.replay_failures | report.unused).items()]
    lines += [f"  rejected, {reason}: {count}" for reason, count in sorted(report.rejected.items())]
    lines += [
        f"  {label}: {its['kept']} of {its['attempts']}"
        for label, its in report.labels.items()
        if its["success_rate"] < report.success_rate - 0.1
    ]
    return "\n".join(lines)
