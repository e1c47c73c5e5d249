"""Studies: what they want, what they run, and what their page says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

import pytest

from rlco.cli import main
from rlco.cli.studies import tell
from rlco.core.files import FullDiskError
from rlco.evals.study import Place
from rlco.recipes.budgets import BUDGETS, debug, reduced
from rlco.recipes.methods import (
    CONTROL,
    COTRAINING,
    REAL_ONLY,
    RLCO,
    Method,
    Reinforced,
    Run,
    World,
    evaluation_folder,
    in_order,
)
from rlco.recipes.provenance import read_made
from rlco.recipes.references import policy_config
from rlco.recipes.stages import require_whole_episodes
from rlco.recipes.studies import STUDIES, study
from rlco.recipes.studies.definitions import DRAWS, SIM_ONLY, job
from rlco.recipes.studies.measure import Learned, Measured, Study, job_name
from rlco.recipes.studies.run import chosen, collect, is_finished, make_page, parts, run_job, run_jobs

ALL = sorted(STUDIES)


@pytest.mark.parametrize("name", ALL)
def test_no_two_figures_of_a_study_are_the_same_measurement(name: str) -> None:
    found = study(name)
    where = [(job_name(f.job), evaluation_folder(f.method.stage, f.world), f.place) for f in found.figures]
    assert len(set(where)) == len(where)
    assert len({(job, folder) for job, folder, _ in where}) == len(where)


def test_studies_share_jobs_and_never_disagree_about_one() -> None:
    jobs: dict[str, object] = {}
    stages: dict[tuple[str, str], object] = {}
    for name in ALL:
        found = study(name)
        for job_, config in found.jobs().items():
            assert jobs.setdefault(job_, config) == config
            for method in found.methods(job_):
                if isinstance(method, Reinforced):
                    assert stages.setdefault((job_, method.stage), method.config(config.rl)) == method.config(config.rl)
    assert len(jobs) < sum(len(study(name).jobs()) for name in ALL)


def test_no_two_methods_of_a_job_have_one_name_whichever_study_trains_them() -> None:
    names: dict[tuple[str, str], str] = {}
    for name in ALL:
        for figure in study(name).figures:
            key = (job_name(figure.job), figure.method.name)
            assert names.setdefault(key, figure.method.stage) == figure.method.stage
    assert len(names) > 100


@pytest.mark.parametrize(("name", "count"), [("fig4", 12), ("fig7", 2)])
def test_what_stands_in_different_columns_is_compared_where_the_question_is_there(name: str, count: int) -> None:
    found = study(name)
    places = {figure.place for figure in found.figures}
    assert len(found.contrasts) == len(set(found.contrasts)) == count
    assert all({contrast.ours, contrast.other} <= places for contrast in found.contrasts)
    assert all(contrast.ours.column != contrast.other.column for contrast in found.contrasts)


def test_every_figure_is_measured_on_300_states_four_times_and_tables_have_three_draws() -> None:
    for name in ALL:
        assert all((f.job.num_states, f.job.repeats, f.job.twin_repeats) == (300, 4, 1) for f in study(name).figures)
    draws = {(f.job.reality, f.job.seed, f.job.rl.seed) for f in study("table1").figures}
    assert draws == {(reality, seed, seed) for reality, seed in DRAWS}


@pytest.mark.parametrize("name", ALL)
def test_a_study_of_another_policy_is_the_same_study_on_another_page(name: str) -> None:
    usual, other = study(name), study(name, policy="openvla-nano")
    assert other.name == f"{name}-openvla-nano"
    assert {f.job.base for f in other.figures} == {"openvla-nano"}
    both = 2 if name == "table1" else 1  # the table has both families
    assert len(other.figures) * both == len(usual.figures)
    assert {f.method.stage for f in other.figures} == {f.method.stage for f in usual.figures}
    assert name == "table1" or not other.paper  # the paper's figures are of pi0.5
    with pytest.raises(LookupError, match="Did you mean 'openvla-nano'"):
        study(name, policy="openvla-nan")


@pytest.mark.parametrize("base", BUDGETS)
def test_grpo_plays_whole_episodes_and_as_many_steps(base: str) -> None:
    found = study("beyond", policy=base)
    of_grpo = {f.job.task: (f.job.rl, f.method.config(f.job.rl)) for f in found.figures if is_grpo(f.method)}
    assert set(of_grpo) == {"push-cube", "open-drawer"}
    for task, (ours, other) in of_grpo.items():
        require_whole_episodes(task, policy_config(base), other)
        assert other.iterations * other.decisions == ours.iterations * ours.decisions


def is_grpo(method: Method) -> TypeGuard[Reinforced]:
    return isinstance(method, Reinforced) and method.stage == "rl-grpo"


def test_what_a_method_needs_is_trained_before_it() -> None:
    stages = [m.stage for m in in_order((CONTROL, RLCO, REAL_ONLY))]
    assert stages == ["sft-cotrain", "rl", "sft-control", "sft-real"]
    figure_6 = [m.stage for m in study("fig6").methods("open-drawer-pi05-nano-real20-reality0-seed0")]
    assert figure_6.index("sft-sim") < figure_6.index("rl-after-sim")


def test_simulated_only_training_sees_no_real_demonstration() -> None:
    demonstrations = SIM_ONLY.data(Run(folder=Path("x"), config=job("push-cube", "pi05-nano", reality=0, seed=0)))
    assert demonstrations.real is None
    assert demonstrations.sim == Path("x/generate")


def test_a_budget_does_less_of_everything_and_keeps_the_real_demonstrations() -> None:
    whole = job("open-drawer", "openvla-nano", reality=1, seed=1)
    tenth = reduced(whole, 0.1)
    assert tenth.cotraining.steps == whole.cotraining.steps // 10
    assert tenth.rl.iterations == whole.rl.iterations // 10
    assert tenth.rl.lr_warmup == whole.rl.lr_warmup // 10 == 2
    assert tenth.cotraining.warmup_steps == whole.cotraining.warmup_steps // 10 > 0
    assert study("fig7", budget=0.1).name == "fig7-budget0.1"
    assert tenth.num_states == 30
    assert tenth.real_demonstrations == whole.real_demonstrations
    assert "At a budget of 0.1: that share of updates" in study("fig7", budget=0.1).question
    assert "budget" not in study("fig7").question
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        study("table1", budget=1.5)


def test_two_jobs_of_one_name_are_refused() -> None:
    first = job("push-cube", "pi05-nano", reality=0, seed=0)
    place = Place(table="t", row="r", column="c")
    figures = tuple(Measured(place=place, job=c, method=RLCO) for c in (first, replace(first, alpha=0.9)))
    with pytest.raises(ValueError, match="two different jobs of the name 'push-cube-pi05-nano-real20-reality0-seed0'"):
        Study(name="s", title="t", question="q", figures=figures).jobs()


def test_a_name_in_no_job_is_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LookupError, match="No job of 'fig7' has 'pick' in its name"):
        chosen(study("fig7"), "pick")
    assert main(["study", "fig8"]) == 1
    assert "Did you mean 'fig" in capsys.readouterr().err


def test_a_study_runs_resumes_and_shows_what_is_finished(tmp_path: Path) -> None:
    jobs = [replace(debug(job("push-cube", "pi05-nano", reality=r, seed=r)), num_states=2) for r in (0, 1)]
    worlds = {"as it is": World(), "in the dark": World(shift="lighting")}
    small = Study(
        name="small",
        title="Small",
        question="Does it run?",
        figures=tuple(
            Measured(place=Place(table="push", row=m.name, column=c), job=j, method=m, world=w)
            for j in jobs
            for c, w in worlds.items()
            for m in (COTRAINING, RLCO)
            if c == "as it is" or m is RLCO
        ),
        curves=(Learned(line="RL-Co", job=jobs[0], method=RLCO),),
        average=True,
        paper={Place(table="push", row="RL-Co", column="as it is"): 18.4},
    )
    with pytest.raises(FileNotFoundError, match="Nothing of the study 'small' is finished"):
        make_page(small, tmp_path)
    first, second = small.jobs()
    run_job(small, first, tmp_path)
    assert is_finished(small, first, tmp_path)
    assert not is_finished(small, second, tmp_path)
    results = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert len(results) == 3
    run_job(small, first, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in results} == results

    # what was kept was not made again
    made = [line.stage for line in read_made(tmp_path / "jobs" / first) if line.stage in parts(small, first)]
    assert sorted(made) == sorted(parts(small, first))
    assert collect(small, tmp_path).provenance["machines"].endswith(" CPUs")
    assert list((tmp_path / "jobs" / first / "videos" / "small").glob("*.mp4"))

    page = make_page(small, tmp_path).read_text()
    assert f"Not run yet: {second}." in page
    assert "paper 18.4" in page
    told = json.loads((tmp_path / "small" / "small.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "small" / "small-episodes.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == ["SFT co-training", "RL-Co", "RL-Co"]
    assert [row[0] for row in lines[0]["outcomes"]] == ["push-cube/eval/0000", "push-cube/eval/0001"]
    assert told["missing"] == [second]
    curve = collect(small, tmp_path).curves[0]
    rl = jobs[0].rl
    assert curve.steps == tuple(float(i * rl.num_envs * rl.decisions * 4) for i in (1, 2))[: len(curve.steps)]
    assert (tmp_path / "small" / "small.md").read_text().startswith("# Small\n")
    assert (tmp_path / "small" / "small-push.svg").read_text().startswith("<?xml")


def test_a_job_that_fails_does_not_stop_the_others_and_a_full_disk_stops_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found, begun = study("fig7"), list[str]()
    first, second, third = names = tuple(found.jobs())[:3]
    error: Exception = ValueError("that folder is another run's")

    def run(_: Study, name: str, __: Path, *, device: str) -> None:
        assert device == "cpu"
        begun.append(name)
        if name == second:
            raise error

    monkeypatch.setattr("rlco.recipes.studies.run.run_job", run)
    assert run_jobs(found, tmp_path, names=names, told=tell) == [second]
    assert begun == [first, second, third]
    assert capsys.readouterr().err == f"rlco: {second}: that folder is another run's\n"  # one line, no traceback
    error = TypeError("a fault of ours")
    run_jobs(found, tmp_path, names=names, told=tell)
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert f"rlco: {second}: a fault of ours\n" in said
    monkeypatch.setattr("rlco.recipes.studies.run.make_page", lambda *_: "page")
    assert main(["study", "fig7", "--folder", str(tmp_path)]) == 1
    assert f"Failed: {second}" in capsys.readouterr().err
    begun.clear()
    error = ValueError("that folder is another run's")
    with pytest.raises(ValueError, match="another run's"):
        run_jobs(found, tmp_path, names=(second,), told=tell)
    begun.clear()
    error = FullDiskError("no room")
    with pytest.raises(FullDiskError):
        run_jobs(found, tmp_path, names=names, told=tell)
    assert begun == [first, second]
