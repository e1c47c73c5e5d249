"""The part of a report that says why a rate is bad: how episodes ended, how far they came, and from where."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from rlco.evals.outcome import STAGES, Ending, EvaluationResult
from rlco.evals.report_data import ReportData, best_other, compared
from rlco.evals.report_style import ENDING_COLOURS
from rlco.evals.report_text import NOTHING, percent, points
from rlco.evals.statistics import paired_difference, success_rate
from rlco.evals.success_map import Start, success_map

WHAT_ENDINGS_ARE = (
    "A failure is named after the furthest that the robot came with the thing it was asked for, as seen at the end of "
    "every chunk. <b>Timed out</b>: it was under way to the goal when the time was up. <b>Dropped</b>: it was under "
    "way and was lost again. <b>Grasped</b>: held, never under way. <b>Reached</b>: the hand was there, no more. "
    "<b>Wrong object</b>: another thing was moved instead. What the words mean for each task is in docs/tasks.md."
)
WHAT_STAGES_ARE = (
    "Share of finished episodes that got at least so far. Both worlds start from the same named states, so the "
    "difference is paired by state (in points, with its 95 % interval; bold where that excludes 0). The stage at which "
    "it grows is the one at which the worlds part."
)
WHAT_THE_MAP_IS = (
    "Where the thing that the instruction names was at the start, base frame, as the robot looks at it: forward is up, "
    "its left is left. One dot a state, coloured by the share of its episodes that succeeded; states that start at the "
    "same place are drawn side by side."
)


def endings_lines(result: EvaluationResult) -> list[str]:
    """Return a line for each ending of the finished episodes that occurred: name, count, share."""
    finished = max(len(result.outcomes) - result.num_lost, 1)
    return [
        f"  {ending.value:<14} {count:>5}  {percent(count / finished):>7}"
        for ending, count in result.endings.items()
        if count and ending is not Ending.LOST
    ]


def endings_table(data: ReportData) -> str:
    """Return for each method the share of episodes of each ending as a stacked bar, for each world."""
    worlds = {data.outside: [m.standin for m in data.methods], "twin": [m.twin for m in data.methods]}
    shown = {name: results for name, results in worlds.items() if any(results)}
    rows = "".join(
        f"<tr{' class=ours' if m.name == data.compared else ''}><th>{escape(m.name)}</th>"
        + "".join(bar_cells(results[i]) for results in shown.values())
        + "</tr>"
        for i, m in enumerate(data.methods)
    )
    found = {kind for results in shown.values() for r in results if r for kind, share in shares(r).items() if share}
    keys = "".join(
        f'<span class="key"><i style="background:{ENDING_COLOURS[kind]}"></i>{kind.value}</span>'
        for kind in Ending
        if kind in found
    )
    heads = "".join(f"<th>{name}: share of episodes, %</th><th>steps to success</th>" for name in shown)
    return (
        f"<table><thead><tr><th>method</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        f"<p class=keys>{keys}</p><p class=caption>{WHAT_ENDINGS_ARE}</p>"
    )


def bar_cells(result: EvaluationResult | None) -> str:
    """Return a method's bar in one world and how fast its successes were."""
    if result is None:
        return f"<td>{NOTHING}</td><td>{NOTHING}</td>"
    return f"<td class=wide>{stacked(shares(result))}</td><td class=small>{mean_steps(result)}</td>"


def shares(result: EvaluationResult) -> dict[Ending, float]:
    """Return how often an episode ended how."""
    count = max(len(result.outcomes), 1)
    return {ending: number / count for ending, number in result.endings.items()}


def stacked(parts: Mapping[Ending, float]) -> str:
    """Return shares as one bar; a part wide enough shows its percentage."""
    pieces = "".join(piece(kind, share) for kind, share in parts.items() if share > 0)
    return f'<div class="stack">{pieces}</div>'


def piece(kind: Ending, share: float) -> str:
    """Return one part of a stacked bar."""
    style = f"width:{100 * share:.2f}%;background:{ENDING_COLOURS[kind]}"
    text = f"{100 * share:.0f}" if share > 0.06 else ""
    return f'<i style="{style}" title="{kind.value}: {percent(share)}">{text}</i>'


def mean_steps(result: EvaluationResult) -> str:
    """Return the mean number of control steps of a successful episode."""
    steps = [o.steps for o in result.outcomes if o.success]
    return f"{sum(steps) / len(steps):.1f}" if steps else NOTHING


def stages_table(data: ReportData) -> str:
    """Return how far episodes came in both worlds: the compared method, and the best of the others."""
    both = [m for m in (compared(data), best_other(data)) if m and m.twin]
    pairs = {m.name: (m.twin, m.standin) for m in both if m.twin and m.twin.is_sorted and m.standin.is_sorted}
    if not pairs:
        return ""
    # where no episode ends with a grasp, "grasped" would repeat "under way"
    has_grasps = any(result.endings[Ending.GRASPED] for pair in pairs.values() for result in pair)
    stages = [stage for stage in STAGES if stage != "grasped" or has_grasps]
    rows = "".join(
        f"<tr><th>{stage}</th>" + "".join(stage_cells(stage, *pair) for pair in pairs.values()) + "</tr>"
        for stage in stages
    )
    names = "".join(f"<th colspan=3>{escape(name)}</th>" for name in pairs)
    heads = f"<th>twin</th><th>{data.outside}</th><th>twin minus {data.outside}</th>" * len(pairs)
    return (
        f"<table><thead><tr><th></th>{names}</tr><tr><th>at least</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        f"<p class=caption>{WHAT_STAGES_ARE}</p>"
    )


def stage_cells(stage: str, twin: EvaluationResult, outside: EvaluationResult) -> str:
    """Return a method's shares of one stage in both worlds and their difference, bold where it is not 0."""
    there, here = twin.reaching(stage), outside.reaching(stage)
    gap = paired_difference(there, here).difference
    value = f"<b>{points(gap.value)}</b>" if gap.low > 0 or gap.high < 0 else points(gap.value)
    rates = "".join(f"<td>{percent(success_rate(found).value)}</td>" for found in (there, here))
    return f'{rates}<td>{value} <span class="small">{points(gap.low)} to {points(gap.high)}</span></td>'


def start_map(data: ReportData) -> str:
    """Return the success map over the initial region, or nothing if no start is known, as SVG."""
    panels = {m.name: starts(m.standin) for m in data.methods}
    return success_map({name: dots for name, dots in panels.items() if dots})


def starts(result: EvaluationResult) -> tuple[Start, ...]:
    """Return where each finished state started and how often it was solved."""
    places = result.starts
    return tuple(
        Start(x_m=places[name][0], y_m=places[name][1], success=sum(solved) / len(solved))
        for name, solved in result.successes().items()
        if name in places
    )
