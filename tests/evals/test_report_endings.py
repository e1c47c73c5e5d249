"""Endings, stages and the success map in a report, by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from rlco.evals.outcome import Ending, EvaluationResult
from rlco.evals.report import page
from rlco.evals.report_data import MethodResult, ReportData, summary
from rlco.evals.report_endings import endings_lines, endings_table, stages_table, start_map, starts
from rlco.evals.success_map import FAILED, SOLVED, Start, side_by_side_cm, success_map
from tests.evals.samples import report_data
from tests.evals.test_endings import outcome

STANDIN = (Ending.SUCCESS, Ending.DROPPED, Ending.REACHED, Ending.NEVER_REACHED)
TWIN = (Ending.SUCCESS, Ending.SUCCESS, Ending.TIMED_OUT, Ending.NEVER_REACHED)


def result(name: str, endings: Sequence[Ending], *, domain: str) -> EvaluationResult:
    """Return an episode on each of as many states, the same ones in every world."""
    return EvaluationResult(
        policy=name,
        settings={"domain": domain},
        outcomes=tuple(outcome(f"s{i}", ending) for i, ending in enumerate(endings)),
        seconds=1.0,
    )


def method(name: str, standin: Sequence[Ending], twin: Sequence[Ending] | None = None) -> MethodResult:
    return MethodResult(
        name=name,
        standin=result(name, standin, domain="standin"),
        twin=None if twin is None else result(name, twin, domain="twin"),
    )


def report(*methods: MethodResult) -> ReportData:
    return ReportData(title="x", methods=methods, compared=methods[0].name)


def cells(table: str) -> list[list[str]]:
    """Return the texts of a table's body, row by row."""
    body = table[table.index("<tbody>") : table.index("</tbody>")]
    rows = re.findall(r"<tr.*?</tr>", body)
    return [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def test_the_command_lists_what_occurred_with_its_share_of_the_finished_episodes() -> None:
    endings = (Ending.NEVER_REACHED, Ending.SUCCESS, Ending.LOST, Ending.SUCCESS, Ending.SUCCESS)
    assert endings_lines(result("a", endings, domain="twin")) == [
        "  success            3   75.0 %",
        "  never reached      1   25.0 %",
    ]


def widths(bar: str) -> dict[str, float]:
    """Return ending -> width [%] of a stacked bar."""
    return {name: float(width) for width, name in re.findall(r'width:([\d.]+)%.*?title="([a-z ]+):', bar)}


def test_a_bar_has_a_part_for_each_ending_that_occurred_in_each_world() -> None:
    table = endings_table(report(method("a", STANDIN, TWIN)))
    standin, twin = re.findall(r'<div class="stack">.*?</div>', table)
    assert widths(standin) == {"success": 25, "dropped": 25, "reached": 25, "never reached": 25}
    assert widths(twin) == {"success": 50, "timed out": 25, "never reached": 25}
    keys = re.findall(r'class="key"><i .*?></i>([a-z ]+)<', table)
    assert keys == ["success", "timed out", "dropped", "reached", "never reached"]


def test_without_a_twin_there_is_one_bar_a_method() -> None:
    table = endings_table(report(method("a", STANDIN), method("b", STANDIN)))
    assert table.count('class="stack"') == 2
    assert "twin" not in table
    one_twin = endings_table(report(method("a", STANDIN, TWIN), method("b", STANDIN)))
    assert one_twin.count('class="stack"') == 3
    assert cells(one_twin)[1][-2:] == ["\N{EN DASH}", "\N{EN DASH}"]


def test_stages_compare_the_worlds_state_by_state_by_hand() -> None:
    # s0: 4 stages in both; s1: under way against success; s2: reached against under way; s3: none in both
    table = stages_table(report(method("a", STANDIN, TWIN)))
    rows = {row[0]: row[1:] for row in cells(table)}
    assert list(rows) == ["reached", "under way", "success"]  # nobody ended with a grasp
    assert rows["reached"][:2] == ["75.0 %", "75.0 %"]
    assert rows["reached"][2].startswith("+0.0")
    assert rows["under way"][:2] == ["75.0 %", "50.0 %"]
    # differences 0, 0, 1, 0: mean 0.25, sd 0.5, half width 1.96 x 0.5 / 2 = 0.49
    assert rows["under way"][2] == "+25.0 \N{MINUS SIGN}24.0 to +74.0"
    assert rows["success"][:2] == ["50.0 %", "25.0 %"]


def test_a_stage_of_grasping_is_shown_where_an_episode_ended_with_one() -> None:
    rows = cells(stages_table(report(method("a", (Ending.GRASPED, Ending.SUCCESS), (Ending.SUCCESS,) * 2))))
    assert [row[0] for row in rows] == ["reached", "grasped", "under way", "success"]
    assert [row[2] for row in rows] == ["100.0 %", "100.0 %", "50.0 %", "50.0 %"]


def test_the_compared_method_stands_beside_the_best_other_one() -> None:
    weak, best = method("weak", (Ending.REACHED,) * 4, TWIN), method("best", (Ending.SUCCESS,) * 4, TWIN)
    table = stages_table(report(method("ours", STANDIN, TWIN), weak, best))
    assert re.findall(r"<th colspan=3>(\w+)</th>", table) == ["ours", "best"]


def test_results_that_are_not_sorted_or_have_no_twin_have_no_stages() -> None:
    unsorted = (Ending.SUCCESS, Ending.UNSORTED)
    assert stages_table(report(method("a", STANDIN))) == ""
    assert stages_table(report(method("a", unsorted, (Ending.SUCCESS,) * 2))) == ""
    assert stages_table(report(method("a", (Ending.SUCCESS,) * 2, unsorted))) == ""


def test_a_report_of_old_results_shows_what_they_know() -> None:
    def aged(found: EvaluationResult) -> EvaluationResult:
        return replace(
            found,
            outcomes=tuple(
                replace(o, start_m=None, ending=o.ending if o.success else Ending.UNSORTED) for o in found.outcomes
            ),
        )

    data = replace(report_data(), rl={}, sft={})
    old = replace(
        data,
        methods=tuple(
            MethodResult(name=m.name, standin=aged(m.standin), twin=aged(m.twin) if m.twin else None)
            for m in data.methods
        ),
    )
    text = page(old)
    assert "How episodes ended" in text
    assert "</i>failed</span>" in text
    for missing in ("How far they came", "Where it succeeds"):
        assert missing not in text


def test_the_summary_counts_endings_in_each_world() -> None:
    found = summary(report(method("a", STANDIN, TWIN), method("b", STANDIN)))["endings"]
    assert found["a"]["twin"] == {"success": 2, "timed out": 1, "never reached": 1}
    assert found["a"]["standin"] == {"success": 1, "dropped": 1, "reached": 1, "never reached": 1}
    assert list(found["b"]) == ["standin"]


def drawn(svg: str) -> list[tuple[float, float, str]]:
    """Return (right, down, colour) of the first panel's dots."""
    panel = svg[svg.index('id="PathCollection_1"') : svg.index('id="PathCollection_2"')]
    dots = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill: (#\w+)', panel)
    return [(float(x), float(y), colour) for x, y, colour in dots]


def test_a_dot_is_where_its_state_is_and_says_whether_it_was_solved() -> None:
    places = [(0.50, 0.10, 1.0), (0.50, -0.10, 0.0), (0.60, 0.10, 0.5), (0.55, 0.0, 1.0)]
    dots = drawn(success_map({"a": [Start(x_m=x, y_m=y, success=share) for x, y, share in places]}))
    assert [dots[0][2], dots[1][2]] == [SOLVED, FAILED]
    assert dots[2][2] not in (SOLVED, FAILED)
    left_m, ahead_m = np.array([p[1] for p in places]), np.array([p[0] for p in places])
    right, down = np.array([d[0] for d in dots]), np.array([d[1] for d in dots])
    # the robot's left is on the left and forward is up, both at the same scale
    scale = (right[1] - right[0]) / 0.20
    assert scale > 0
    assert right - right[0] == pytest.approx(-scale * (left_m - left_m[0]), abs=0.01)
    assert down - down[0] == pytest.approx(-scale * (ahead_m - ahead_m[0]), abs=0.01)


def test_every_panel_shows_the_same_region() -> None:
    near, far = Start(x_m=0.4, y_m=0.0, success=1.0), Start(x_m=0.6, y_m=0.2, success=0.0)
    alone, both = (drawn(success_map({"a": [near], "b": panel}))[0][:2] for panel in ([far], [near, far]))
    assert alone == pytest.approx(both)


def test_states_at_the_same_place_lie_side_by_side() -> None:
    grid = [Start(x_m=0.05 * i, y_m=0.0, success=1.0) for i in range(3) for _ in range(6)]
    dots = side_by_side_cm(grid)
    apart = np.linalg.norm(dots[:, None] - dots[None], axis=-1) + 9 * np.eye(len(dots))
    assert apart.min() > 0.7
    assert np.linalg.norm(dots - [(100 * s.x_m, 0.0) for s in grid], axis=1).max() < 2.0
    assert dots[0] == pytest.approx([0.0, 0.0])  # the first one is at the place itself


def test_a_state_has_one_dot_with_the_share_over_its_repeats() -> None:
    found = EvaluationResult(
        policy="a",
        settings={"domain": "standin"},
        outcomes=(
            outcome("s0", Ending.SUCCESS),
            outcome("s0", Ending.REACHED, repeat=1),
            outcome("s1", Ending.SUCCESS),
            outcome("s1", Ending.LOST, repeat=1),
            outcome("s2", Ending.LOST),
        ),
        seconds=1.0,
    )
    assert [start.success for start in starts(found)] == [0.5, 1.0]
    assert (starts(found)[0].x_m, starts(found)[0].y_m) == (0.5, 0.1)


def test_methods_without_known_starts_have_no_panel() -> None:
    assert success_map({}) == ""
    known = method("a", STANDIN)
    unknown = replace(known.standin, outcomes=tuple(replace(o, start_m=None) for o in known.standin.outcomes))
    assert start_map(report(MethodResult(name="a", standin=unknown))) == ""
    mixed = start_map(report(known, MethodResult(name="b", standin=unknown)))
    assert "<!-- a -->" in mixed
    assert "<!-- b -->" not in mixed
