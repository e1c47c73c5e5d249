"""A study's results as one page: Markdown for reading in a repository, HTML that needs nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from rlco.core.files import write_json, write_text
from rlco.evals.report import NOTHING, STANDIN_NOTE, figure, points, section
from rlco.evals.report_style import CSS
from rlco.evals.statistics import Interval
from rlco.evals.study import AVERAGE, Comparison, Place, StudyData, episodes_json, study_json
from rlco.evals.study_plots import study_figures

HOW = (
    "Share of successful episodes with its Wilson 95 % interval (repeats of a state count for what they are worth), "
    "every method on the same named initial states. Differences are means over states; their 95 % interval is a "
    "bootstrap over states (a state's repeats stay together), p an exact two-sided sign test over states, adjusted for "
    "all comparisons on this page (Holm). Intervals are over initial states, not over training seeds: every seed and "
    "reality stands below."
)
PARTS, ACROSS = "Every seed and reality", "Across columns"


def write_study(data: StudyData, folder: Path) -> Path:
    """Write ``NAME.json``, ``NAME-episodes.jsonl`` (a line an evaluation), ``NAME.md``, ``NAME.html`` and figures.

    Returns the HTML page's path.
    """
    figures, comparisons = study_figures(data), data.comparisons()
    write_json(folder / f"{data.name}.json", study_json(data, comparisons))
    lines = (json.dumps(episodes_json(entry)) for entry in data.entries)
    write_text(folder / f"{data.name}-episodes.jsonl", "".join(f"{line}\n" for line in lines))
    for name, svg in figures.items():
        write_text(folder / f"{data.name}-{name}.svg", svg)
    write_text(folder / f"{data.name}.md", markdown(data, figures, comparisons))
    write_text(folder / f"{data.name}.html", html(data, figures, comparisons))
    return folder / f"{data.name}.html"


Cells = Sequence[Sequence[str]]


def rates_table(data: StudyData, table: str) -> Cells:
    """Return a header and the rows: rate, interval, and the paper's figure where it has one."""
    columns = data.columns(table)
    rows = (
        [row, *(_rate(data, Place(table=table, row=row, column=column)) for column in columns)]
        for row in data.rows(table)
    )
    return [["success [%]", *columns], *rows]


def _rate(data: StudyData, place: Place) -> str:
    cell = data.cell(place)
    paper = data.paper.get(place)
    told = "" if paper is None else f"; paper {paper:g}"
    if cell is None:
        return f"{NOTHING}{told}"
    rate = data.rate(place)
    mark = "" if data.is_complete(place) else " *"
    return f"{_hundred(rate.value)} ({_hundred(rate.low)} to {_hundred(rate.high)}){mark}{told}"


def _hundred(share: float) -> str:
    return NOTHING if math.isnan(share) else f"{100 * share:.1f}"


def differences_table(data: StudyData, table: str, found: Mapping[Place, Comparison]) -> Cells:
    """Return a header and one row for each other method: difference, interval, adjusted p."""
    columns = data.columns(table)
    rows = [[f"{data.compared} minus", *columns]]
    for row in data.rows(table):
        if row != data.compared:
            places = [Place(table=table, row=row, column=column) for column in columns]
            rows.append([row, *(_difference(found.get(place)) for place in places)])
    return rows


def cells_of(data: StudyData, table: str, found: Mapping[Place, Comparison]) -> list[Cells]:
    """Return the rates of a table, and the differences where something is compared in it."""
    is_compared = any(place.table == table for place in found)
    return [rates_table(data, table), *([differences_table(data, table, found)] if is_compared else [])]


def _difference(comparison: Comparison | None) -> str:
    if comparison is None:
        return NOTHING
    p = "p < 0.001" if comparison.p_holm < 0.001 else f"p = {comparison.p_holm:.3f}"
    return f"{_points(comparison.bootstrap)}, {p}"


def _points(gap: Interval | None) -> str:
    return NOTHING if gap is None else f"{points(gap.value)} ({points(gap.low)} to {points(gap.high)})"


def parts_table(data: StudyData) -> Cells:
    """Return a header and one row for each entry: what was trained, its rate, and what the compared row gains on it."""
    rows = [["part", "table", "row", "column", "success [%]", "episodes", f"{data.compared} minus it"]]
    for entry in data.entries:
        rate, place, lost = entry.result.rate(), entry.place, entry.result.num_lost
        told = f"{_hundred(rate.value)} ({_hundred(rate.low)} to {_hundred(rate.high)})"
        episodes = f"{len(entry.result.outcomes)}{f' ({lost} lost)' if lost else ''}"
        rows.append([entry.part, place.table, place.row, place.column, told, episodes, _points(data.gain(entry))])
    return rows


def contrasts_table(comparisons: Sequence[Comparison]) -> Cells:
    """Return a header and a row for each comparison across columns: which cell minus which, interval, adjusted p."""
    rows = [[_called(c.ours), _called(c.place), _difference(c)] for c in comparisons if c.is_across]
    return [["", "minus", "difference"], *rows]


def _called(place: Place) -> str:
    return f"{place.table}: {place.row}, {place.column}"


def headline(data: StudyData, comparisons: Sequence[Comparison]) -> str:
    """Return the smallest difference of the compared row, in one sentence."""
    across = sum(c.is_across for c in comparisons)
    found = [c for c in comparisons if not c.is_across and c.place.column != AVERAGE]
    if not found:
        return f"Differences across columns stand below ({across})." if across else "Nothing to compare yet."
    better = sum(c.bootstrap.low > 0 for c in found)
    worse = sum(c.bootstrap.high < 0 for c in found)
    return (
        f"{data.compared} against {len(found)} other figures: better in {better}, worse in {worse}, not told apart in "
        f"{len(found) - better - worse} (95 % intervals)."
    )


def markdown(data: StudyData, figures: Mapping[str, str], comparisons: Sequence[Comparison]) -> str:
    """Return the page as Markdown; figures are files beside it."""
    found = {c.place: c for c in comparisons if not c.is_across}
    parts = [f"# {data.title}", data.question, f"**{headline(data, comparisons)}**", *_remarks(data)]
    for table in data.tables():
        parts += [f"## {table}", *(_pipes(cells) for cells in cells_of(data, table, found))]
    parts += [f"![{name}]({data.name}-{name}.svg)" for name in figures]
    if len(contrasts := contrasts_table(comparisons)) > 1:
        parts += [f"## {ACROSS}", _pipes(contrasts)]
    parts += [HOW, f"## {PARTS}", _pipes(parts_table(data))]
    if data.films:
        parts += ["## Films", "\n".join(f"- [{caption}]({path})" for path, caption in data.films.items())]
    return "\n\n".join(parts) + "\n"


def html(data: StudyData, figures: Mapping[str, str], comparisons: Sequence[Comparison]) -> str:
    """Return the page as HTML."""
    found = {c.place: c for c in comparisons if not c.is_across}
    contrasts = contrasts_table(comparisons)
    tables = [section(escape(t), "".join(_rows(cells) for cells in cells_of(data, t, found))) for t in data.tables()]
    body = (
        f"<h1>{escape(data.title)}</h1><p>{escape(data.question)}</p>",
        f'<p class="headline">{escape(headline(data, comparisons))}</p><p class="note">{STANDIN_NOTE}</p>',
        *(f"<p>{escape(remark)}</p>" for remark in _remarks(data)),
        *(section("", figure(svg, name)) or "" for name, svg in figures.items()),
        *tables,
        section(ACROSS, _rows(contrasts)) if len(contrasts) > 1 else "",
        f"<p class=caption>{HOW}</p>",
        section(PARTS, _rows(parts_table(data))),
        section("Films", _films(data)),
    )
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head = f"<head>{meta}<title>{escape(data.title)}</title><style>{CSS}</style></head>"
    return f'<!doctype html>\n<html lang="en">{head}\n<body><main>{"".join(body)}</main></body></html>\n'


def _films(data: StudyData) -> str:
    return "".join(
        f'<figure><video controls muted playsinline preload="none" src="{escape(path)}"></video>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for path, caption in data.films.items()
    )


def _remarks(data: StudyData) -> list[str]:
    told = "; ".join(f"{name}: {value}" for name, value in data.provenance.items())
    remarks = ["Stand-in results: nothing here was run on a robot." + (f" {told}." if told else "")]
    if data.missing:
        remarks.append(
            f"Not run yet: {', '.join(data.missing)}. A figure marked * lacks parts: its row is not compared fairly."
        )
    return remarks


def _pipes(cells: Cells) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * len(cells[0]), *lines[1:]])


def _rows(cells: Cells) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in cells[0])
    body = "".join(
        f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(value)}</td>' for value in row[1:])}</tr>"
        for row in cells[1:]
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
