"""What a study found: evaluations by table, row and column, and how rows are compared.

A cell of a table holds one evaluation for each part (a task's job with its own seed and reality). Rows of one column
are compared state by state within the same parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from rlco.core.rng import numpy_generator
from rlco.evals.outcome import EvaluationResult, merged
from rlco.evals.report_data import figures
from rlco.evals.statistics import (
    Interval,
    PairedDifference,
    Successes,
    paired_difference,
    state_differences,
    success_rate,
)

RESAMPLES = 10_000
AVERAGE = "average"
"""The column over all the others of a table, every episode counted once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a figure stands in a study's tables."""

    table: str
    row: str
    column: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An evaluation and where it stands."""

    place: Place
    part: str
    """The job that it belongs to: rows are compared within the same parts."""
    seed: int
    """Of training."""
    result: EvaluationResult
    draw: str = ""
    """Which stand-in and which seed: across columns, cells are compared within the same draws."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Success in simulation while a policy learns."""

    line: str
    """Its name in the figure; curves of one name are seeds of it."""
    part: str
    steps: tuple[float, ...]
    """Control steps in all environments."""
    success: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One cell against another."""

    ours: Place
    place: Place
    """Of the other one."""
    paired: PairedDifference
    bootstrap: Interval
    p_holm: float = 1.0
    """The sign test's p, adjusted for all comparisons of the study (Holm)."""

    @property
    def is_across(self) -> bool:
        """Whether the two stand in different columns or tables."""
        return (self.ours.table, self.ours.column) != (self.place.table, self.place.column)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """Two cells that are compared though they stand in different columns."""

    ours: Place
    other: Place


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyData:
    """Everything on a study's page."""

    name: str
    title: str
    question: str
    compared: str
    """The row whose difference to every other one is shown."""
    entries: tuple[Entry, ...]
    contrasts: tuple[Contrast, ...] = ()
    """Of cells in different columns."""
    curves: tuple[Curve, ...] = ()
    missing: tuple[str, ...] = ()
    """Parts that were not run yet."""
    average: bool = False
    """Whether tables have a column over all others."""
    paper: Mapping[Place, float] = field(default_factory=dict)
    """The paper's own figures, on a robot [%]."""
    x_label: str | None = None
    """What a column's number is, where figures are lines over it; None: figures are bars."""
    films: Mapping[str, str] = field(default_factory=dict)
    """mp4 file, from the page's folder -> its caption."""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def tables(self) -> tuple[str, ...]:
        """Return the names of the tables, in order."""
        return tuple(dict.fromkeys(e.place.table for e in self.entries))

    def rows(self, table: str) -> tuple[str, ...]:
        """Return the rows of a table, in order."""
        return tuple(dict.fromkeys(e.place.row for e in self.entries if e.place.table == table))

    def columns(self, table: str) -> tuple[str, ...]:
        """Return the columns of a table, in order; last the average, where there is one."""
        named = tuple(dict.fromkeys(e.place.column for e in self.entries if e.place.table == table))
        return (*named, AVERAGE) if self.average and len(named) > 1 else named

    def cell(self, place: Place) -> EvaluationResult | None:
        """Return a cell's episodes, merged over its parts; None where nothing was run."""
        found = {f"{e.place.column}/{e.part}": e.result for e in self.entries if self._is_in(e.place, place)}
        return merged(found) if found else None

    def rate(self, place: Place) -> Interval:
        """Return a cell's success rate, its parts pooled; of nothing where nothing was run."""
        return success_rate(*(e.result.successes() for e in self.entries if self._is_in(e.place, place)))

    def is_complete(self, place: Place) -> bool:
        """Return whether the cell has every part that the compared row of its column has; without one, its table."""
        parts = {(e.place.column, e.part) for e in self.entries if self._is_in(e.place, place)}
        compared = Place(table=place.table, row=self.compared, column=place.column)
        wanted = {(e.place.column, e.part) for e in self.entries if self._is_in(e.place, compared)}
        if self.compared not in self.rows(place.table):
            wanted = {(place.column, e.part) for e in self.entries if e.place.table == place.table}
        return parts == wanted

    def comparisons(self) -> tuple[Comparison, ...]:
        """Return the compared row against every other row, column by column, and then the contrasts.

        P is adjusted for the number of them all. In the twin nothing is compared: what is won there is no answer.
        """
        found = [*self._within(), *self._across()]
        adjusted = holm([c.paired.sign_test_p for c in found])
        return tuple(replace(c, p_holm=p) for c, p in zip(found, adjusted, strict=True))

    def _within(self) -> Iterator[Comparison]:
        for table in self.tables():
            for column in self.columns(table):
                ours = Place(table=table, row=self.compared, column=column)
                mine = self.cell(ours)
                if mine is None or mine.domain == "twin":
                    continue
                for row in self.rows(table):
                    place = Place(table=table, row=row, column=column)
                    other = self.cell(place)
                    if row != self.compared and other is not None:
                        yield _compared(ours, place, mine.successes(), other.successes())

    def _across(self) -> Iterator[Comparison]:
        for contrast in self.contrasts:
            ours, other = (self._draws(place) for place in (contrast.ours, contrast.other))
            if ours and other and all(result.domain != "twin" for result in ours.values()):
                pair = merged(ours).successes(), merged(other).successes()
                yield _compared(contrast.ours, contrast.other, *pair)

    def gain(self, entry: Entry) -> Interval | None:
        """Return the compared row's difference to an entry within the same part; None where it is not compared."""
        ours = replace(entry.place, row=self.compared)
        found = [e for e in self.entries if (e.place, e.part) == (ours, entry.part)]
        if not found or entry.place == ours or entry.result.domain == "twin":
            return None
        return bootstrap_difference(found[0].result.successes(), entry.result.successes(), seed=0)

    def _draws(self, place: Place) -> dict[str, EvaluationResult]:
        """Return a cell's evaluations by the draw that they belong to."""
        return {e.draw: e.result for e in self.entries if e.place == place}

    @staticmethod
    def _is_in(found: Place, wanted: Place) -> bool:
        is_column = wanted.column in (AVERAGE, found.column)
        return found.table == wanted.table and found.row == wanted.row and is_column


def _compared(ours: Place, place: Place, mine: Successes, other: Successes) -> Comparison:
    paired, bootstrap = paired_difference(mine, other), bootstrap_difference(mine, other, seed=0)
    return Comparison(ours=ours, place=place, paired=paired, bootstrap=bootstrap)


def bootstrap_difference(first: Successes, second: Successes, *, seed: int) -> Interval:
    """Return the mean over shared states of the difference of mean successes, and its percentile bootstrap interval.

    States are drawn again, with replacement, ``RESAMPLES`` times; a state's repeats stay together. Fewer than two
    shared states: the interval is everything.
    """
    deltas = state_differences(first, second)
    if len(deltas) < 2:
        return Interval(value=float(deltas.mean()) if len(deltas) else float("nan"), low=-1.0, high=1.0)
    # a state's difference has few values: drawing how often each occurs is drawing the states
    values, counts = np.unique(deltas, return_counts=True)
    rng = numpy_generator(seed, "bootstrap")
    means = rng.multinomial(len(deltas), counts / len(deltas), size=RESAMPLES) @ values / len(deltas)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(value=float(deltas.mean()), low=float(low), high=float(high))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number: p_(i) becomes max_{j <= i} min(1, (m - j + 1) p_(j)) (Holm)."""
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def study_json(data: StudyData, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return the tables' figures as JSON values."""
    return {
        "name": data.name,
        "title": data.title,
        "question": data.question,
        "compared": data.compared,
        "missing": list(data.missing),
        "provenance": dict(data.provenance),
        "rates": [
            {**asdict(place), "complete": data.is_complete(place), "lost": cell.num_lost, **figures(data.rate(place))}
            for place in places(data)
            if (cell := data.cell(place)) is not None
        ],
        "comparisons": [{**asdict(c.place), **_difference(c)} for c in comparisons if not c.is_across],
        "contrasts": [
            {"ours": asdict(c.ours), "other": asdict(c.place), **_difference(c)} for c in comparisons if c.is_across
        ],
        "parts": [_part(data, entry) for entry in data.entries],
        "curves": [asdict(curve) for curve in data.curves],
    }


def _part(data: StudyData, entry: Entry) -> dict[str, Any]:
    gain = data.gain(entry)
    return {
        "part": entry.part,
        **asdict(entry.place),
        "domain": entry.result.domain,
        "episodes": len(entry.result.outcomes),
        "lost": entry.result.num_lost,
        **figures(entry.result.rate()),
        "gain": None if gain is None else figures(gain),
    }


def _difference(comparison: Comparison) -> dict[str, Any]:
    bootstrap = figures(comparison.bootstrap)
    return {**figures(comparison.paired), "bootstrap": bootstrap, "p_holm": comparison.p_holm}


def places(data: StudyData) -> list[Place]:
    """Return every place of every table."""
    return [
        Place(table=table, row=row, column=column)
        for table in data.tables()
        for row in data.rows(table)
        for column in data.columns(table)
    ]


def episodes_json(entry: Entry) -> dict[str, Any]:
    """Return an entry's episodes, a row each: state, repeat, success, control steps, why it ended."""
    rows = [[o.state, o.repeat, o.success, o.steps, str(o.stop_reason), str(o.ending)] for o in entry.result.outcomes]
    return {
        **asdict(entry.place),
        "part": entry.part,
        "seed": entry.seed,
        "domain": entry.result.domain,
        "columns": ["state", "repeat", "success", "steps", "stop_reason", "ending"],
        "outcomes": rows,
    }
