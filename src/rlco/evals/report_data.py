"""What a report shows, and how it is read from a run folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlco.evals.outcome import EpisodeOutcome, EvaluationResult, labelled, not_labelled
from rlco.evals.plots import Records
from rlco.evals.statistics import Interval, PairedDifference, paired_difference
from rlco.train.log import read_metrics

Keep = Callable[[EpisodeOutcome], bool]
EVALUATIONS = "eval/*/result.json"
"""In a run folder: the evaluations, a folder each."""
CONFIG = "config.json"
"""In a run folder: the resolved configuration, versions and commit."""
TIMINGS = "timings.json"
"""In a run folder: stage name -> seconds."""
CLIPS = "videos"
"""Sub-folder of a run: mp4 files, each with a caption in a .txt of the same name; a study's in a folder of its own."""


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
    policy: str | None = None
    """What every method starts from, where it is known: two policies' reports are not to be confused."""
    methods: tuple[MethodResult, ...]
    """In the order of the table."""
    compared: str
    """The method whose difference to every other one is shown."""
    unseen: tuple[str, ...] = ()
    """Objects that the real demonstrations do not contain."""
    rl: Mapping[str, Records] = field(default_factory=dict)
    """Stage name -> its metrics."""
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

    @property
    def outside(self) -> str:
        """Return in words where the methods are compared: on the stand-in or a robot."""
        return "robot" if any(m.standin.domain == "robot" for m in self.methods) else "stand-in"


def compared(data: ReportData) -> MethodResult:
    """Return the method that the others are compared with."""
    return next(m for m in data.methods if m.name == data.compared)


def best_other(data: ReportData) -> MethodResult | None:
    """Return the most successful of the other methods, None if there is none."""
    others = [m for m in data.methods if m.name != data.compared]
    return max(others, key=lambda m: m.standin.rate().value, default=None)


def read_run(
    folder: Path, *, compared: str = "RL-Co", order: Sequence[str] = (), unseen: tuple[str, ...] = ()
) -> ReportData:
    """Return what a finished run folder holds; ``order`` names the rows of the table that come first.

    ``eval/*/result.json`` are evaluations, ``<stage>/metrics.jsonl`` curves, ``timings.json`` and ``config.json`` what
    they say, ``videos/*.mp4`` clips. Raises ``FileNotFoundError`` if nothing was evaluated.
    """
    results = [EvaluationResult.load(path) for path in sorted(folder.glob(EVALUATIONS))]
    if not results:
        raise FileNotFoundError(f"'{folder}' holds no evaluations ('{EVALUATIONS}'). Run its eval stage first.")
    configuration = read_json(folder / CONFIG)
    curves = {path.parent.name: read_metrics(path.parent) for path in sorted(folder.glob("*/metrics.jsonl"))}
    return ReportData(
        title=folder.name,
        policy=configuration.get("config", {}).get("base"),
        methods=methods(results, order=order),
        compared=compared,
        unseen=unseen,
        rl={name: lines for name, lines in curves.items() if any("rl/loss_rl" in line for line in lines)},
        sft={name: lines for name, lines in curves.items() if any("sft/loss" in line for line in lines)},
        clips=tuple(clip(path) for path in sorted((folder / CLIPS).rglob("*.mp4"))),
        configuration=configuration,
        seconds=read_json(folder / TIMINGS),
    )


def methods(results: list[EvaluationResult], *, order: Sequence[str] = ()) -> tuple[MethodResult, ...]:
    """Pair the evaluations of each method. Raises ``ValueError`` if a method was evaluated twice in a world."""
    worlds = [(r.policy, r.domain) for r in results]
    if len(set(worlds)) < len(worlds):
        raise ValueError(f"A method was evaluated more than once in the same world: {sorted(worlds)}.")
    twins = {r.policy: r for r in results if r.domain == "twin"}
    rank = {name: i for i, name in enumerate(order)}
    outside = sorted((r for r in results if r.domain != "twin"), key=lambda r: rank.get(r.policy, len(rank)))
    return tuple(MethodResult(name=r.policy, standin=r, twin=twins.get(r.policy)) for r in outside)


def clip(path: Path) -> Clip:
    """Return an mp4 file and its caption."""
    caption = path.with_suffix(".txt")
    return Clip(caption=caption.read_text().strip() if caption.exists() else path.stem, mp4=path.read_bytes())


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty if there is no such file."""
    return json.loads(path.read_text()) if path.exists() else {}


def splits(unseen: Collection[str]) -> dict[str, Keep]:
    """Return the columns of a table: all, and seen and unseen objects where some are unseen."""
    every: dict[str, Keep] = {"all": lambda _: True}
    if not unseen:
        return every
    return every | {"seen objects": not_labelled("object", unseen), "unseen objects": labelled("object", unseen)}


def figures(value: Interval | PairedDifference) -> dict[str, Any]:
    """Return the fields as JSON values: what is not known is None."""
    return json.loads(json.dumps(asdict(value)), parse_constant=lambda _: None)


def summary(data: ReportData) -> dict[str, Any]:
    """Return the figures of the report's tables as JSON values."""
    ours = compared(data)
    columns = splits(data.unseen)
    return {
        "title": data.title,
        "policy": data.policy,
        "compared": data.compared,
        "rates": {
            m.name: {name: figures(m.standin.rate(keep)) for name, keep in columns.items()}
            | ({"twin": figures(m.twin.rate())} if m.twin else {})
            | {"episodes": len(m.standin.outcomes), "lost": m.standin.num_lost}
            for m in data.methods
        },
        "paired_differences": {
            m.name: {
                name: figures(paired_difference(ours.standin.successes(keep), m.standin.successes(keep)))
                for name, keep in columns.items()
            }
            for m in data.methods
            if m is not ours
        },
        "endings": {
            m.name: {r.domain: {k.value: n for k, n in r.endings.items() if n} for r in (m.standin, m.twin) if r}
            for m in data.methods
        },
        "seconds": dict(data.seconds),
    }
