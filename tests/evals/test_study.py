"""How a study compares: which cells, over which states, with which p. Worked out by hand."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from rlco.core.episode import StopReason
from rlco.evals.study import AVERAGE, Contrast, Entry, Place, StudyData, bootstrap_difference, holm, study_json
from rlco.evals.study_page import parts_table, write_study
from tests.evals.samples import RATES, result


def place(row: str, column: str = "push", table: str = "nano") -> Place:
    return Place(table=table, row=row, column=column)


def entry(row: str, *, part: str = "one", column: str = "push", domain: str = "standin", **more: int) -> Entry:
    made = result(row, RATES[row], domain=domain, **more)
    return Entry(place=place(row, column), part=part, seed=0, result=made)


def data(*entries: Entry) -> StudyData:
    return StudyData(name="x", title="X", question="Which?", compared="RL-Co", entries=entries, average=True)


def test_the_smallest_p_is_multiplied_by_their_number_and_none_falls_below_a_smaller_one() -> None:
    # sorted: .01 x 3 = .03; .03 x 2 = .06; .04 x 1, but not below .06
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_a_bootstrap_over_states_has_the_normal_interval_of_their_mean() -> None:
    first = {f"{i:03d}": (True, i < 200) for i in range(400)}  # 1 in half of the states, 1/2 in the others
    second = dict.fromkeys(first, (False, False))
    found = bootstrap_difference(first, second, seed=0)
    assert found.value == pytest.approx(0.75)
    half = 1.96 * 0.25 / np.sqrt(400)  # the states' standard deviation is 1/4
    assert (found.low, found.high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.003)
    assert bootstrap_difference(first, second, seed=0) == found


def test_states_that_all_differ_alike_leave_no_doubt_and_one_state_leaves_all() -> None:
    alike = bootstrap_difference({"a": (True,), "b": (True,)}, {"a": (False,), "b": (False,)}, seed=0)
    assert (alike.low, alike.value, alike.high) == (1.0, 1.0, 1.0)
    alone = bootstrap_difference({"a": (True,), "b": (True,)}, {"a": (False,)}, seed=0)
    assert (alone.low, alone.value, alone.high) == (-1.0, 1.0, 1.0)


def test_a_states_repeats_stay_together() -> None:
    # the same episodes, once as two repeats of 50 states that agree, once as 100 states: half as many say half as much
    pairs = {f"{i}": (i % 2 == 0,) * 2 for i in range(50)}
    single = {f"{i}": (i % 2 == 0,) for i in range(100)}
    wide, narrow = (
        bootstrap_difference(one, {name: (False,) * len(wins) for name, wins in one.items()}, seed=0)
        for one in (pairs, single)
    )
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(np.sqrt(2), rel=0.06)


def test_every_other_row_of_a_column_is_compared_and_the_twin_is_not() -> None:
    entries = [entry(row, column=column) for row in RATES for column in ("push", "open")]
    found = data(*entries, *(entry(row, column="twin", domain="twin") for row in RATES)).comparisons()
    others = [row for row in RATES if row != "RL-Co"]
    assert [c.place for c in found if c.place.column != AVERAGE] == [
        place(row, column) for column in ("push", "open") for row in others
    ]
    adjusted = holm([c.paired.sign_test_p for c in found])
    assert [c.p_holm for c in found] == adjusted
    assert all(c.bootstrap.value == pytest.approx(c.paired.difference.value) for c in found)
    assert all(c.bootstrap.low > 0.1 for c in found if c.place.row == "real-only SFT")


def test_a_cell_is_complete_where_it_has_the_parts_of_the_compared_row() -> None:
    both = [entry("RL-Co", part=part) for part in ("one", "two")]
    found = data(*both, entry("SFT co-training", part="one"))
    assert found.is_complete(place("RL-Co"))
    assert not found.is_complete(place("SFT co-training"))
    assert replace(found, entries=(*found.entries, entry("SFT co-training", part="two"))).is_complete(
        place("SFT co-training")
    )


def test_cells_of_different_columns_are_compared_within_their_draws(tmp_path: Path) -> None:
    few = [replace(entry("RL-Co", part=f"20 of {draw}", column="20"), draw=draw) for draw in ("a", "b")]
    many = [replace(entry("real-only SFT", part=f"200 of {draw}", column="200"), draw=draw) for draw in ("b", "c")]
    contrast = Contrast(ours=place("RL-Co", "20"), other=place("real-only SFT", "200"))
    nothing = Contrast(ours=place("RL-Co", "20"), other=place("RL-Co", "500"))
    found = replace(data(*few, *many), average=False, contrasts=(contrast, nothing))
    (comparison,) = found.comparisons()
    assert (comparison.ours, comparison.place, comparison.is_across) == (contrast.ours, contrast.other, True)
    assert comparison.paired.num_states == 150  # those of draw b alone: a and c have no partner
    one = data(entry("RL-Co"), entry("real-only SFT")).comparisons()[0]
    assert comparison.bootstrap == one.bootstrap
    page = write_study(found, tmp_path)
    assert "Differences across columns stand below (1)." in page.read_text()
    text = (tmp_path / "x.md").read_text()
    assert "| nano: RL-Co, 20 | nano: real-only SFT, 200 | +66.0" in text


def test_all_p_of_a_page_are_adjusted_together() -> None:
    contrast = Contrast(ours=place("RL-Co"), other=place("SFT co-training", "open"))
    entries = [entry(row, column=column) for row in ("RL-Co", "SFT co-training") for column in ("push", "open")]
    found = replace(data(*entries), average=False, contrasts=(contrast,))
    comparisons = found.comparisons()
    assert [c.is_across for c in comparisons] == [False, False, True]
    assert [c.p_holm for c in comparisons] == holm([c.paired.sign_test_p for c in comparisons])


def test_a_table_without_the_compared_row_is_complete_where_it_has_all_of_its_parts() -> None:
    found = data(
        entry("SFT co-training", column="0.1"),
        entry("SFT co-training", column="0.5"),
        entry("SFT co-training", column="0.5", part="two"),
    )
    assert found.is_complete(place("SFT co-training", "0.5"))
    assert not found.is_complete(place("SFT co-training", "0.1"))


def test_every_part_says_what_the_compared_row_gains_there_and_how_many_episodes_were_lost() -> None:
    ours, other = entry("RL-Co", part="one"), entry("real-only SFT", part="one")
    elsewhere = entry("real-only SFT", part="two")
    lost = replace(other.result.outcomes[0], stop_reason=StopReason.LOST)
    other = replace(other, result=replace(other.result, outcomes=(lost, *other.result.outcomes[1:])))
    twin = [entry(row, domain="twin", column="twin") for row in ("RL-Co", "real-only SFT")]
    found = data(ours, other, elsewhere, *twin)
    gap = bootstrap_difference(ours.result.successes(), other.result.successes(), seed=0)
    assert [found.gain(e) for e in found.entries] == [None, gap, None, None, None]
    told = study_json(found, found.comparisons())["parts"]
    assert [(part["part"], part["domain"], part["lost"]) for part in told][:2] == [
        ("one", "standin", 0),
        ("one", "standin", 1),
    ]
    assert [part["gain"] for part in told] == [None, asdict(gap), None, None, None]
    header, *rows = parts_table(found)
    assert header[-2:] == ["episodes", "RL-Co minus it"]
    assert [row[-2] for row in rows] == ["300", "300 (1 lost)", "300", "300", "300"]
    assert rows[1][-1].startswith("+6")
    assert [row[-1] for row in rows[2:]] == [rows[0][-1]] * 3
