"""Looking into datasets and bringing those of other people into our form."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from rlco.cli.validation import Validate
from rlco.core.progress import progress
from rlco.data.convert import convert
from rlco.data.features import size_of
from rlco.data.reader import Dataset
from rlco.data.reading import Reading
from rlco.data.stored import Stored, read_stored


@dataclass(frozen=True, kw_only=True)
class Info:
    """What a dataset holds, ours or not: LeRobot v3.0, v2.1 or v2.0. Every file of one in our form is checked."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A LeRobot dataset."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """See the overview."""
        found = describe(self.folder)
        print(json.dumps(found, indent=2) if self.json else "\n".join(f"{k}: {_text(v)}" for k, v in found.items()))


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Write a dataset of somebody else in our form: LeRobot v3.0, our features, actions, units and control rate.

    The options say what its numbers mean; their defaults are our own form.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """A LeRobot dataset: v3.0, v2.1 or v2.0. Nothing in it is changed."""
    destination: Annotated[Path, tyro.conf.Positional]
    """Where the dataset is written; must not exist."""
    reading: Annotated[Reading, tyro.conf.arg(name="")] = field(default_factory=Reading)
    json: bool = False
    """Print the report as JSON."""

    def run(self) -> None:
        """See the overview."""
        total = read_stored(self.source).info["total_episodes"]
        with progress("convert", total=total, unit="episode") as bar:
            report = convert(self.source, self.destination, self.reading, reporter=bar).to_json()
        print(json.dumps(report, indent=2) if self.json else "\n".join(f"{k}: {v}" for k, v in report.items()))


# A further subcommand is a dataclass with ``run() -> int | None``, added to this union.
Subcommand = (
    Annotated[Info, tyro.conf.subcommand("info", prefix_name=False)]
    | Annotated[Convert, tyro.conf.subcommand("convert", prefix_name=False)]
    | Annotated[Validate, tyro.conf.subcommand("validate", prefix_name=False)]
)


@dataclass(frozen=True, kw_only=True)
class Data:
    """Arguments of ``rlco data``."""

    command: Annotated[Subcommand, tyro.conf.arg(name="")]

    def run(self) -> int | None:
        """See the overview."""
        return self.command.run()


def describe(folder: Path) -> dict[str, Any]:
    """Return what a person wants to know of a dataset. One that is not in our form says so and how to convert it.

    Raises ``ValueError`` in one line if files of it are missing or broken.
    """
    stored = read_stored(folder)
    try:
        dataset = Dataset.open(folder)
    except (ValueError, LookupError) as error:
        stored.check_times()
        return _outline(stored, "no") | {"why not": str(error)}
    return _outline(stored, "yes") | {
        "fingerprint": dataset.fingerprint,
        "picture [pixels]": f"{dataset.tables.height} x {dataset.tables.width}",
        "state": dataset.state.shape[1],
        "action": dataset.action.shape[1],
        "initial states known": sum(state is not None for state in dataset.initial_states),
    }


def _outline(stored: Stored, is_ours: str) -> dict[str, Any]:
    lengths = [len(episode) for episode in stored.episodes]
    tasks = Counter(task for tasks in stored.tasks() for task in tasks)
    return {
        "folder": str(stored.folder),
        "format": f"LeRobot {stored.version}",
        "in our form": is_ours,
        "robot": stored.info.get("robot_type"),
        "episodes": len(lengths),
        "frames": sum(lengths),
        "control rate [Hz]": stored.info["fps"],
        "episode length [steps]": f"{min(lengths)} to {max(lengths)}, mean {sum(lengths) / len(lengths):.1f}",
        "cameras": {name: "{} x {}".format(*size_of(stored.features[name])) for name in stored.cameras},
        "features": {name: _feature(feature) for name, feature in stored.features.items()},
        "instructions": dict(tasks),
    }


def _feature(feature: Any) -> str:  # noqa: ANN401  (of info.json)
    names = feature.get("names")
    told = f" {', '.join(map(str, names))}" if isinstance(names, list) and names else ""
    return f"{feature['dtype']} {list(feature['shape'])}{told}"


def _text(value: object) -> str:
    if not isinstance(value, dict):
        return str(value)
    return "".join(f"\n  {name}: {each}" for name, each in value.items()) or "none"
