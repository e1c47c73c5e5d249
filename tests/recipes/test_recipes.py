"""Recipes: they build, they travel, and a run goes on where it was."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from rlco.data.reader import Dataset
from rlco.data.writer import write_dataset
from rlco.demos.sources import known_states
from rlco.evals.outcome import EvaluationResult
from rlco.evals.report_data import read_json
from rlco.recipes import RECIPES, recipe, stages
from rlco.recipes.films import choose
from rlco.recipes.run import METHODS, Run, claim_run, main_job, run_recipe
from rlco.recipes.stages import Demonstrations, open_policy, policy_folder, weights_fingerprint
from rlco.tasks import task
from tests.data.samples import healthy
from tests.evals.samples import result

DEBUG = "push-cube-pi05-nano-debug"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_pickles_and_is_json(name: str) -> None:
    config = recipe(name)
    assert pickle.loads(pickle.dumps(config)) == config
    assert json.loads(json.dumps(config.to_json()))["task"] == config.task


@pytest.mark.parametrize("name", RECIPES)
def test_a_seed_reaches_every_stage(name: str) -> None:
    config = recipe(name).with_seed(7)
    assert {config.seed, config.real_only.seed, config.cotraining.seed, config.rl.seed} == {7}
    assert config.evaluation("twin").seed == 7


def test_an_impossible_recipe_is_refused_when_it_is_made() -> None:
    config = recipe(DEBUG)
    with pytest.raises(ValueError, match="alpha"):
        replace(config, alpha=1.2)
    with pytest.raises(ValueError, match="num_states must be 1 or more"):
        replace(config, num_states=0)


def test_a_run_folder_of_another_configuration_is_refused_and_left_alone(tmp_path: Path) -> None:
    config = recipe(DEBUG)
    claim_run(Run(folder=tmp_path, config=config))
    before = (tmp_path / "config.json").read_text()
    claim_run(Run(folder=tmp_path, config=config))
    with pytest.raises(ValueError, match=r"another configuration \(differs in: alpha, reality\)"):
        claim_run(Run(folder=tmp_path, config=replace(config, alpha=0.1, reality=2)))
    assert (tmp_path / "config.json").read_text() == before


def test_the_control_runs_after_the_stage_whose_compute_it_matches() -> None:
    names = list(main_job(Run(folder=Path("x"), config=recipe(DEBUG))))
    assert names.index("rl") < names.index("sft-control")
    assert "rl-no-real-term" not in names
    with_ablation = main_job(Run(folder=Path("x"), config=replace(recipe(DEBUG), without_real_term=True)))
    assert set(METHODS) <= set(with_ablation)


def test_alpha_goes_with_two_datasets_and_only_with_two() -> None:
    real, sim = Path("real"), Path("sim")
    Demonstrations(real=real)
    Demonstrations(real=real, sim=sim, alpha=0.5)
    with pytest.raises(ValueError, match="alpha is given exactly"):
        Demonstrations(real=real, alpha=0.5)
    with pytest.raises(ValueError, match="alpha is given exactly"):
        Demonstrations(real=real, sim=sim)
    with pytest.raises(ValueError, match="needs demonstrations"):
        Demonstrations(real=None)
    with pytest.raises(ValueError, match="2 datasets need as many weights"):
        Demonstrations(data=(real, sim), weights=(1.0,))
    with pytest.raises(ValueError, match="either data with weights"):
        Demonstrations(data=(real,), weights=(1.0,), real=real)
    with pytest.raises(ValueError, match="weights belong to data"):
        Demonstrations(real=real, weights=(1.0,))


def test_a_policy_is_a_folder_a_stage_or_a_name(tmp_path: Path) -> None:
    (tmp_path / "stage" / "policy").mkdir(parents=True)
    assert policy_folder(tmp_path / "stage") == tmp_path / "stage" / "policy"
    assert policy_folder(tmp_path / "stage" / "policy") == tmp_path / "stage" / "policy"
    assert policy_folder("pi05-nano") is None
    assert policy_folder("runs/typing-mistake") == Path("runs/typing-mistake")
    assert weights_fingerprint("untrained:pi05-tiny") == "untrained:pi05-tiny"
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        open_policy(tmp_path / "stage")


def test_films_show_failures_of_ours_too() -> None:
    results: dict[str, EvaluationResult] = {"rl": result("RL-Co", 0.7), "sft-real": result("real-only SFT", 0.4)}
    chosen = choose(results, compared="rl")
    assert "RL-Co fails" in chosen.values() or "no method succeeds" in chosen.values()
    assert "only RL-Co succeeds" in chosen.values()
    assert set(chosen) <= {o.state for o in results["rl"].outcomes}


@pytest.mark.sim
@pytest.mark.slow
def test_the_main_job_runs_resumes_and_is_not_done_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(recipe(DEBUG), without_real_term=True)
    folder = tmp_path / "run"

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("rlco.recipes.stages.run_rl", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(config, folder)
    kept = (folder / "sft-cotrain" / "policy" / "model.safetensors").stat().st_mtime_ns
    report = run_recipe(config, folder)
    assert (folder / "sft-cotrain" / "policy" / "model.safetensors").stat().st_mtime_ns == kept
    text = report.read_text()
    for name in METHODS.values():
        assert name in text
    assert "<video" in text
    rates = read_json(folder / "results.json")["rates"]
    assert list(rates) == list(METHODS.values())
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/manifest.json")}
    for broken in ("run_sft", "run_rl", "evaluate"):
        monkeypatch.setattr(f"rlco.recipes.stages.{broken}", stopped)
    run_recipe(config, folder)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(("reward", "ends"), [("sparse", True), ("dense", False)])
def test_success_ends_an_episode_only_where_the_reward_is_not_paid_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, reward: str, ends: bool
) -> None:
    asked = {}

    def world(task_name: str, **options: object) -> object:
        asked.update(options, task=task_name)
        raise ValueError("seen enough")

    monkeypatch.setattr(stages, "make_world", world)
    config = replace(recipe(DEBUG).rl, beta=0.0, reward=reward)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="seen enough"):
        stages.rl(tmp_path / "rl", start="untrained:pi05-tiny", real=None, task_name="pick-place", config=config)
    assert asked["end_on_success"] is ends
    assert asked["reward"] == reward


def test_demonstrations_of_another_rate_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    fast = replace(healthy(0), fps=10)
    write_dataset(tmp_path / "fast", [fast], fps=10, robot_type="panda")
    given = Demonstrations(real=tmp_path / "fast")
    config = recipe(DEBUG).cotraining
    with pytest.raises(ValueError, match="was recorded at 10 Hz, the control rate is 5 Hz"):
        stages.sft(tmp_path / "sft", start="untrained:pi05-tiny", demonstrations=given, config=config)
    with pytest.raises(ValueError, match="was recorded at 10 Hz"):
        known_states(task("push-cube"), Dataset.open(tmp_path / "fast"))
    assert not (tmp_path / "sft" / "policy").exists()
