"""The report says what the data say, and needs nothing but itself."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rlco.evals.outcome import Ending
from rlco.evals.plots import mixed_only, rl_curves, running_mean, sft_curves
from rlco.evals.report import headline, page, write_report
from rlco.evals.report_data import MethodResult, ReportData, read_run, summary
from rlco.evals.report_endings import shares
from rlco.evals.report_text import points
from tests.evals.samples import RATES, clip, report_data, result, rl_records, sft_records


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data(with_clip=True)


@pytest.fixture(scope="module")
def text(data: ReportData) -> str:
    return page(data)


def test_the_page_loads_nothing_from_anywhere(text: str) -> None:
    loaded = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]+)""", text)
    assert loaded
    assert all(address.startswith("data:") for address in loaded)
    assert "<script" not in text
    assert "@import" not in text


def test_every_method_and_every_section_is_there(text: str) -> None:
    for name in RATES:
        assert f"<th>{name}</th>" in text
    for title in (
        "Success rates",
        "How episodes ended",
        "How far they came",
        "Where it succeeds",
        "Stage II",
        "Supervised",
        "Time",
        "Configuration",
        "<video",
    ):
        assert title in text


def test_rates_in_the_page_are_those_of_the_results(text: str) -> None:
    rate = result("RL-Co", RATES["RL-Co"]).rate()
    assert f"<b>{100 * rate.value:.1f} %</b>" in text
    assert f"{100 * rate.low:.1f} to {100 * rate.high:.1f}" in text


def test_the_stand_in_is_named_wherever_results_are_not_from_a_robot(text: str) -> None:
    assert "No robot was used" in text
    assert headline(report_data()).startswith("On the stand-in, RL-Co")


@pytest.mark.parametrize(("rate", "claim"), [(0.9, "beats"), (0.57, "is not told apart from"), (0.1, "loses to")])
def test_the_headline_claims_only_what_the_interval_shows(rate: float, claim: str) -> None:
    data = ReportData(
        title="x",
        methods=(
            MethodResult(name="control", standin=result("control", 0.55)),
            MethodResult(name="RL-Co", standin=result("RL-Co", rate)),
        ),
        compared="RL-Co",
    )
    assert claim in headline(data)


def test_the_page_and_its_figures_say_which_policy_was_trained() -> None:
    data = replace(report_data(), title="demo", policy="openvla-nano")
    text = page(data)
    assert "<title>demo (openvla-nano)</title>" in text
    assert "Every method starts from <b>openvla-nano</b>." in text
    assert summary(data)["policy"] == "openvla-nano"
    unknown = replace(data, policy=None)
    assert "<title>demo</title>" in page(unknown)
    assert "starts from" not in page(unknown)
    assert summary(unknown)["policy"] is None


def test_names_cannot_inject_markup() -> None:
    data = replace(report_data(), title="<b>x</b>", policy="<script>", clips=(replace(clip(), caption="<script>"),))
    text = page(data)
    assert "<script" not in text
    assert "&lt;b&gt;x&lt;/b&gt;" in text


def test_a_report_of_evaluations_alone_leaves_the_rest_out() -> None:
    text = page(ReportData(title="x", methods=(MethodResult(name="a", standin=result("a", 0.5)),), compared="a"))
    for missing in ("Stage II", "Supervised training", "<video", "against every other", "unseen"):
        assert missing not in text


def test_comparing_a_method_that_was_not_evaluated_is_refused() -> None:
    with pytest.raises(ValueError, match="compared is 'RL-Co', but the methods are: a"):
        ReportData(title="x", methods=(MethodResult(name="a", standin=result("a", 0.5)),), compared="RL-Co")


def test_lost_episodes_are_counted_and_in_no_rate() -> None:
    some = result("a", 0.5, lost=4)
    assert shares(some)[Ending.LOST] == pytest.approx(4 / 300)
    text = page(ReportData(title="x", methods=(MethodResult(name="a", standin=some),), compared="a"))
    assert "300 (4 lost)" in text
    assert sum(len(s) for s in some.successes().values()) == 296


def test_a_minus_is_a_minus_sign() -> None:
    assert points(-0.123) == "\N{MINUS SIGN}12.3"
    assert points(0.05) == "+5.0"


def test_the_same_data_give_the_same_page(data: ReportData, text: str) -> None:
    assert page(data) == text


def test_panels_without_metrics_are_left_out() -> None:
    only_kl = [{"step": r["step"], "rl/kl": r["rl/kl"]} for r in rl_records()]
    assert len(rl_curves({"rl": only_kl})) < len(rl_curves({"rl": rl_records()}))
    assert rl_curves({"sft": [{"step": 1, "sft/loss": 0.1}]}) == ""
    assert sft_curves({"rl": rl_records()}) == ""


def test_the_share_of_a_dataset_is_shown_only_where_there_are_two() -> None:
    alone = [{k: v for k, v in r.items() if k != "sft/fraction_1"} for r in sft_records(0)]
    assert all("sft/fraction_0" not in r for r in mixed_only(alone))
    assert mixed_only(sft_records(0)) == sft_records(0)


def test_the_running_mean_looks_back_only() -> None:
    import numpy as np

    assert running_mean(np.array([1.0, 3.0, 5.0, 7.0]), width=2).tolist() == [1.0, 2.0, 4.0, 6.0]


def make_run(folder: Path) -> None:
    """Write a run folder as the stages leave it."""
    for i, (name, rate) in enumerate(RATES.items()):
        for domain in ("standin", "twin"):
            result(name, rate, domain=domain, states=10).save(folder / "eval" / f"{3 - i}-{domain}" / "result.json")
    for stage, records in {"sft-real": sft_records(0), "rl": rl_records()}.items():
        (folder / stage).mkdir()
        lines = "".join(json.dumps(r) + "\n" for r in records)
        (folder / stage / "metrics.jsonl").write_text(lines + '{"step": 999, "half a li')
    (folder / "timings.json").write_text('{"rl": 12.5, "sft-real": 3.5}')
    (folder / "config.json").write_text('{"alpha": 0.5}')
    (folder / "videos").mkdir()
    (folder / "videos" / "0.mp4").write_bytes(b"film")
    (folder / "videos" / "0.txt").write_text("push the pink cube\n")


def test_a_run_folder_reads_back_whole(tmp_path: Path) -> None:
    make_run(tmp_path)
    data = read_run(tmp_path, order=tuple(RATES), unseen=("orange", "green"))
    assert [m.name for m in data.methods] == list(RATES)
    assert all(m.twin is not None and m.twin.domain == "twin" for m in data.methods)
    assert data.rl == {"rl": rl_records()}
    assert data.sft == {"sft-real": sft_records(0)}
    assert data.seconds == {"rl": 12.5, "sft-real": 3.5}
    assert data.configuration == {"alpha": 0.5}
    assert [(c.caption, c.mp4) for c in data.clips] == [("push the pink cube", b"film")]
    write_report(data, tmp_path / "report.html")
    assert "RL-Co" in (tmp_path / "report.html").read_text()


def test_a_run_without_evaluations_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no evaluations"):
        read_run(tmp_path)


def test_two_evaluations_of_one_method_in_one_world_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path)
    result("RL-Co", 0.5, states=10).save(tmp_path / "eval" / "again" / "result.json")
    with pytest.raises(ValueError, match="more than once in the same world"):
        read_run(tmp_path)


def test_the_summary_holds_the_figures_of_the_tables() -> None:
    data = report_data()
    found = summary(data)
    assert list(found["rates"]) == list(RATES)
    assert found["rates"]["RL-Co"]["all"]["value"] == result("RL-Co", RATES["RL-Co"]).rate().value
    assert set(found["paired_differences"]) == set(RATES) - {"RL-Co"}
    gap = found["paired_differences"]["SFT co-training"]["unseen objects"]
    assert gap["num_states"] == 60
    assert gap["difference"]["low"] < gap["difference"]["value"] < gap["difference"]["high"]
    json.dumps(found, allow_nan=False)
