"""The report of a run: one HTML file that needs nothing else.

The page is light, prints well and loads no script, font or picture from anywhere.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from html import escape
from pathlib import Path

from rlco.core.files import write_text
from rlco.core.progress import clock
from rlco.evals.plots import rl_curves, sft_curves
from rlco.evals.report_data import Keep, MethodResult, ReportData, best_other, compared, splits
from rlco.evals.report_endings import WHAT_THE_MAP_IS, endings_table, stages_table, start_map
from rlco.evals.report_style import CSS
from rlco.evals.report_text import NOTHING, percent, points
from rlco.evals.statistics import Interval, PairedDifference, paired_difference

STANDIN_NOTE = (
    "No robot was used. The <b>stand-in</b> takes the robot's place: a second simulated world with another look "
    "(textures, light, clutter, camera, noise) and other dynamics (friction, masses, actuator gains, latency), drawn "
    "once and hidden from training. What holds on the stand-in is a measurement on the stand-in, not on a robot."
)
WHAT_RATES_ARE = (
    "Share of successful episodes with its Wilson 95 % interval; repeats of a state count for what they are "
    "worth. Episodes lost to a crashed world are in no rate."
)
WHY_PAIRED = (
    "Both methods are evaluated on the same named initial states. The difference is the mean over states of the "
    "difference of their mean successes there; its 95 % interval comes from the spread between states, so repeats of a "
    "state add no false certainty. “Better on” counts states; p is the exact two-sided sign test over them."
)


def write_report(data: ReportData, path: Path) -> None:
    """Write the page, atomically."""
    write_text(path, page(data))


def page(data: ReportData) -> str:
    """Return the whole page."""
    parts = (
        f"<h1>{escape(data.title)}</h1>",
        subtitle(data),
        f'<p class="headline">{headline(data)}</p>',
        note(data),
        section("Success rates", results_table(data)),
        section(f"{escape(data.compared)} against every other method", differences_table(data)),
        section("How episodes ended", endings_table(data)),
        section(f"How far they came: twin and {data.outside}", stages_table(data)),
        section(f"Where it succeeds on the {data.outside}: the start of each episode", start_section(data)),
        section("Stage II: reinforcement learning with the real term", figure(rl_curves(data.rl), "Stage II curves")),
        section("Supervised training", figure(sft_curves(data.sft), "Learning curves of the supervised stages")),
        section("The same initial state, every method, both worlds", clips(data)),
        section("Time", timings_table(data.seconds)),
        section("Configuration", configuration(data)),
    )
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    name = data.title if data.policy is None else f"{data.title} ({data.policy})"
    head = f"<head>{meta}<title>{escape(name)}</title><style>{CSS}</style></head>"
    body = "\n".join(part for part in parts if part)
    return f'<!doctype html>\n<html lang="en">{head}\n<body><main>{body}</main></body></html>\n'


def subtitle(data: ReportData) -> str:
    """Return which policy the methods train."""
    return "" if data.policy is None else f"<p class=caption>Every method starts from <b>{escape(data.policy)}</b>.</p>"


def headline(data: ReportData) -> str:
    """Return the answer in one sentence: the compared method against the best of the others."""
    ours, best = compared(data), best_other(data)
    rate = percent(ours.standin.rate().value)
    if best is None:
        return f"On the stand-in, {escape(ours.name)} succeeds in {rate} of the episodes."
    gap = paired_difference(ours.standin.successes(), best.standin.successes()).difference
    claim = "beats" if gap.low > 0 else "loses to" if gap.high < 0 else "is not told apart from"
    return (
        f"On the stand-in, {escape(ours.name)} ({rate}) {claim} the best other method, {escape(best.name)} "
        f"({percent(best.standin.rate().value)}): {points(gap.value)} points, 95 % interval {points(gap.low)} to "
        f"{points(gap.high)}."
    )


def note(data: ReportData) -> str:
    """Return what the results are about; results on a real robot carry no note about the stand-in."""
    return "" if data.outside == "robot" else f'<p class="note">{STANDIN_NOTE}</p>'


def section(title: str, content: str) -> str:
    """Return a titled part; an empty one disappears."""
    return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def results_table(data: ReportData) -> str:
    """Return method x (stand-in splits, twin), each with its interval as text and as a bar."""
    columns = splits(data.unseen)
    has_twin = any(m.twin for m in data.methods)
    group = (
        f'<tr><th></th><th colspan="{len(columns)}">stand-in</th>{"<th>twin</th>" if has_twin else ""}<th></th></tr>'
    )
    names = "".join(f"<th>{name}</th>" for name in columns) + ("<th>all</th>" if has_twin else "")
    rows = "".join(results_row(m, data, columns=columns, has_twin=has_twin) for m in data.methods)
    caption = (
        "Share of successful episodes with its Wilson 95 % interval. Lost episodes (a crashed world) are in no rate."
    )
    return (
        f'<table class="rates"><thead>{group}<tr><th>method</th>{names}<th>episodes</th></tr></thead>'
        f"<tbody>{rows}</tbody></table><p class=caption>{caption}</p>"
    )


def results_row(method: MethodResult, data: ReportData, *, columns: Mapping[str, Keep], has_twin: bool) -> str:
    """Return one method's rates."""
    cells = "".join(rate_cell(method.standin.rate(keep)) for keep in columns.values())
    if has_twin:
        cells += rate_cell(method.twin.rate()) if method.twin else f"<td>{NOTHING}</td>"
    lost = f" ({method.standin.num_lost} lost)" if method.standin.num_lost else ""
    mark = ' class="ours"' if method.name == data.compared else ""
    episodes = f"{len(method.standin.outcomes)}{lost}"
    return f'<tr{mark}><th>{escape(method.name)}</th>{cells}<td class="small">{episodes}</td></tr>'


def rate_cell(rate: Interval) -> str:
    """Return a rate with its interval, and both as a bar from 0 to 100 %."""
    if math.isnan(rate.value):
        return f"<td>{NOTHING}</td>"
    bar = (
        f'<i class="bar"><i class="fill" style="width:{100 * rate.value:.1f}%"></i>'
        f'<i class="whisker" style="left:{100 * rate.low:.1f}%;width:{100 * (rate.high - rate.low):.1f}%"></i></i>'
    )
    interval = f"{100 * rate.low:.1f} to {100 * rate.high:.1f}"
    return f'<td><b>{percent(rate.value)}</b> <span class="small">{interval}</span>{bar}</td>'


def differences_table(data: ReportData) -> str:
    """Return the paired difference of the compared method to each other one, for each split."""
    ours = compared(data)
    others = [m for m in data.methods if m is not ours]
    columns = splits(data.unseen)
    rows = "".join(
        f"<tr><th>{escape(data.compared)} minus {escape(other.name)}</th>"
        + "".join(
            difference_cell(paired_difference(ours.standin.successes(keep), other.standin.successes(keep)))
            for keep in columns.values()
        )
        + "</tr>"
        for other in others
    )
    names = "".join(f"<th>stand-in, {name}</th>" for name in columns)
    table = f"<table><thead><tr><th>points</th>{names}</tr></thead><tbody>{rows}</tbody></table>"
    return f"{table}<p class=caption>{WHY_PAIRED}</p>" if others else ""


def difference_cell(paired: PairedDifference) -> str:
    """Return a difference in points; bold where the interval excludes 0."""
    gap = paired.difference
    if math.isnan(gap.value):
        return f"<td>{NOTHING}</td>"
    value = points(gap.value)
    kind = "better" if gap.low > 0 else "worse" if gap.high < 0 else "unsure"
    p = "p &lt; 0.001" if paired.sign_test_p < 0.001 else f"p = {paired.sign_test_p:.3f}"
    counts = f"better on {paired.wins}, worse on {paired.losses} of {paired.num_states}<br>{p}"
    interval = f"{points(gap.low)} to {points(gap.high)}"
    return f'<td><b class="{kind}">{value}</b> <span class="small">{interval}<br>{counts}</span></td>'


def start_section(data: ReportData) -> str:
    """Return the success map with what it shows."""
    picture = figure(start_map(data), "Success over the initial region")
    return f"{picture}<p class=caption>{WHAT_THE_MAP_IS}</p>" if picture else ""


def figure(svg: str, alternative: str) -> str:
    """Embed an SVG as an image, so that its ids stay its own."""
    data = base64.b64encode(svg.encode()).decode()
    return f'<img class="plot" alt="{escape(alternative)}" src="data:image/svg+xml;base64,{data}">' if svg else ""


def clips(data: ReportData) -> str:
    """Return the films; a green frame marks success, a red one failure."""
    films = "".join(
        f'<figure><video controls autoplay loop muted playsinline preload="metadata" '
        f'src="data:video/mp4;base64,{base64.b64encode(c.mp4).decode()}"></video>'
        f"<figcaption>{escape(c.caption)}</figcaption></figure>"
        for c in data.clips
    )
    legend = "<p class=caption>A picture turns green when its episode succeeds and red when it fails.</p>"
    return f'<div class="films">{films}</div>{legend}' if films else ""


def timings_table(seconds: Mapping[str, float]) -> str:
    """Return how long each stage took."""
    if not seconds:
        return ""
    rows = "".join(f"<tr><th>{escape(n)}</th><td>{clock(s)}</td></tr>" for n, s in seconds.items())
    total = f'<tr class="ours"><th>total</th><td>{clock(sum(seconds.values()))}</td></tr>'
    return f'<table class="narrow"><tbody>{rows}{total}</tbody></table>'


def configuration(data: ReportData) -> str:
    """Return the resolved configuration and the evaluation protocol, folded."""
    protocol = {f"{m.name}, stand-in": dict(m.standin.settings) for m in data.methods}
    parts = {"run": data.configuration, "evaluation": protocol}
    return "".join(
        f"<details><summary>{name}</summary><pre>{escape(json.dumps(value, indent=2, default=str))}</pre></details>"
        for name, value in parts.items()
        if value
    )
