"""Recording, generating and looking at demonstrations."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from rlco.core.progress import progress
from rlco.data.reader import Dataset
from rlco.demos.generate import GenerateConfig, generate_demonstrations
from rlco.demos.plan import PlanConfig
from rlco.demos.record import RecordConfig, record_demonstrations, style


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
    colours: tuple[str, ...] | None = None
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
            colours=self.colours,
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
    folder: Annotated[Path, tyro.conf.Positional]
    """Where the generated dataset is written."""
    task: str = "push-cube"
    count: int = 300
    """Successful demonstrations."""
    colours: tuple[str, ...] | None = None
    """Of the objects in the twin; None: all."""
    plan: PlanConfig = field(default_factory=PlanConfig)
    image_size: int = 96
    """Height and width of a picture [pixels]."""
    seed: int = 0
    num_envs: int = 8
    """Environments side by side; changes no result."""

    def run(self) -> None:
        """See the overview."""
        config = GenerateConfig(
            task=self.task,
            colours=self.colours,
            count=self.count,
            seed=self.seed,
            image_size=self.image_size,
            plan=self.plan,
        )
        with progress("generate", total=self.count, unit="demonstration") as bar:
            report = generate_demonstrations(
                self.folder, Dataset.open(self.real), config, num_envs=self.num_envs, reporter=bar
            )
        print(json.dumps(asdict(report), indent=2))


@dataclass(frozen=True, kw_only=True)
class Info:
    """What a dataset holds; every file of it is checked."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A LeRobot dataset."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """See the overview."""
        found = describe(Dataset.open(self.folder))
        print(json.dumps(found, indent=2) if self.json else "\n".join(f"{k}: {v}" for k, v in found.items()))


@dataclass(frozen=True, kw_only=True)
class Data:
    """Arguments of ``rlco data``."""

    command: tyro.conf.OmitArgPrefixes[
        Annotated[Info, tyro.conf.subcommand("info", prefix_name=False)] | Annotated[None, tyro.conf.Suppress]
    ]

    def run(self) -> None:
        """See the overview."""
        if self.command is not None:
            self.command.run()


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return what a person wants to know of a dataset."""
    lengths = [len(span) for span in dataset.episodes]
    return {
        "folder": str(dataset.folder),
        "fingerprint": dataset.fingerprint,
        "episodes": len(lengths),
        "frames": len(dataset),
        "control rate [Hz]": dataset.fps,
        "episode length [steps]": f"{min(lengths)} to {max(lengths)}, mean {sum(lengths) / len(lengths):.1f}",
        "picture [pixels]": f"{dataset.tables.height} x {dataset.tables.width}",
        "state": dataset.state.shape[1],
        "action": dataset.action.shape[1],
        "initial states known": sum(state is not None for state in dataset.initial_states),
        "instructions": dict(Counter(span.task for span in dataset.episodes)),
    }
