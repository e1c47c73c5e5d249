"""What a report shows, and how it is read from a run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlco.core.files import MANIFEST, read_manifest
from rlco.evals.outcome import EvaluationResult
from rlco.evals.plots import Records

EVALUATIONS = "eval"
"""Sub-folder of a run: one JSON file per evaluation."""
CLIPS = "videos"
"""Sub-folder of a run: mp4 files, each with a caption in a .txt of the same name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodResult:
    """One row of the results table."""

    name: str
    standin: EvaluationResult
    twin: EvaluationResult | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A film of several policies on one initial state."""

    caption: str
    mp4: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportData:
    """Everything in a report."""

    title: str
    methods: tuple[MethodResult, ...]
    """In the order of the table."""
    compared: str
    """The method whose difference to every other one is shown."""
    unseen: tuple[str, ...] = ()
    """Colours that the real demonstrations do not contain."""
    rl: Records = ()
    sft: Mapping[str, Records] = field(default_factory=dict)
    """Stage name -> its metrics."""
    clips: tuple[Clip, ...] = ()
    configuration: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Stage name -> how long it took."""

    def __post_init__(self) -> None:
        names = [m.name for m in self.methods]
        if self.compared not in names:
            raise ValueError(f"ReportData.compared is '{self.compared}', but the methods are: {', '.join(names)}.")


def read_run(folder: Path, *, compared: str = "RL-Co", unseen: tuple[str, ...] = ()) -> ReportData:
    """Return what a finished run folder holds.

    ``eval/*.json`` are evaluations, ``<stage>/metrics.jsonl`` curves, ``<stage>/manifest.json`` timings,
    ``config.json`` the configuration, ``videos/*.mp4`` clips. Raises ``FileNotFoundError`` if nothing was evaluated.
    """
    files = sorted((folder / EVALUATIONS).glob("*.json"))
    results = [EvaluationResult.load(path) for path in files if path.name != MANIFEST]
    if not results:
        raise FileNotFoundError(f"'{folder}' holds no evaluations ('{EVALUATIONS}/*.json'). Run its eval stage first.")
    curves = {path.parent.name: read_lines(path) for path in stage_files(folder, "metrics.jsonl")}
    config = folder / "config.json"
    return ReportData(
        title=folder.name,
        methods=methods(results),
        compared=compared,
        unseen=unseen,
        rl=next((lines for lines in curves.values() if any("rl/loss_rl" in line for line in lines)), ()),
        sft={name: lines for name, lines in curves.items() if any("sft/loss" in line for line in lines)},
        clips=tuple(clip(path) for path in sorted((folder / CLIPS).glob("*.mp4"))),
        configuration=json.loads(config.read_text()) if config.exists() else {},
        seconds=timings(folder),
    )


def methods(results: list[EvaluationResult]) -> tuple[MethodResult, ...]:
    """Pair the evaluations of each method; the order is that of the results on the stand-in."""
    twins = {r.policy: r for r in results if r.domain == "twin"}
    outside = [r for r in results if r.domain != "twin"]
    return tuple(MethodResult(name=r.policy, standin=r, twin=twins.get(r.policy)) for r in outside)


def clip(path: Path) -> Clip:
    """Return an mp4 file and its caption."""
    caption = path.with_suffix(".txt")
    return Clip(caption=caption.read_text().strip() if caption.exists() else path.stem, mp4=path.read_bytes())


def timings(folder: Path) -> dict[str, float]:
    """Return how long each stage took, in the order in which they finished."""
    manifests = sorted(stage_files(folder, MANIFEST), key=lambda path: path.stat().st_mtime)
    found = {path.parent.name: (read_manifest(path.parent) or {}).get("outputs", {}) for path in manifests}
    return {name: float(outputs["seconds"]) for name, outputs in found.items() if "seconds" in outputs}


def stage_files(folder: Path, name: str) -> list[Path]:
    """Return the files of that name in the stage folders of a run, in the order of their names."""
    return sorted(folder.glob(f"*/{name}"))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a JSON-lines file (a killed run may leave half of the last one)."""
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
