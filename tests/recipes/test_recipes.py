"""Recipes: they build, they travel, and a run goes on where it was."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rlco.data.reader import Dataset
from rlco.data.writer import write_dataset
from rlco.demos.sources import known_states
from rlco.evals.outcome import EvaluationResult
from rlco.evals.report_data import read_json
from rlco.policies import checkpoint
from rlco.policies.checkpoint import save_policy
from rlco.policies.families import CONFIGS
from rlco.policies.openvla.config import OpenVlaConfig
from rlco.recipes import DEMOS, RECIPES, demo, recipe, stages
from rlco.recipes.budgets import BUDGETS
from rlco.recipes.films import choose
from rlco.recipes.methods import METHODS, NO_REAL_TERM, Run
from rlco.recipes.references import open_policy, policy_config, policy_folder, require_kind, weights_fingerprint
from rlco.recipes.run import claim_run, main_job, methods_of, run_recipe
from rlco.recipes.stages import Demonstrations
from rlco.tasks import TASKS, task
from tests.data.samples import healthy
from tests.evals.samples import result

DEBUG = "push-cube-pi05-nano-debug"
TRAINING = ("sft-real", "sft-cotrain", "rl", "rl-no-real-term", "sft-control")
EVERY_BASE = pytest.mark.parametrize("base", BUDGETS)


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


def test_there_is_a_recipe_of_every_task_for_every_policy() -> None:
    assert DEMOS.keys() == TASKS.keys()
    assert all(job().task == name for name, job in DEMOS.items())
    of_policies = {f"{name}-{base}{kind}" for name in TASKS for base in BUDGETS for kind in ("", "-debug")}
    assert RECIPES.keys() == of_policies | {f"{name}-demo" for name in TASKS}


@EVERY_BASE
def test_a_policy_changes_what_is_spent_on_training_and_nothing_else_of_a_job(base: str) -> None:
    for name, job in DEMOS.items():
        own = asdict(demo(name, base))
        assert own["base"] == base
        changed = {key for key, value in asdict(job()).items() if own[key] != value}
        assert changed <= {"base", "real_only", "cotraining", "rl"}
    assert demo("close-drawer", "pi05-nano") == DEMOS["close-drawer"]()


@EVERY_BASE
def test_what_is_reported_and_what_takes_seconds_are_the_demos_job(base: str) -> None:
    own, reported, few = (recipe(f"push-cube-{name}") for name in ("demo", base, f"{base}-debug"))
    budget = demo("push-cube", base)
    assert reported == replace(budget, num_states=300, repeats=1, without_real_term=True)
    assert few.base == f"untrained:{base.removesuffix('-nano')}-tiny"
    assert (few.task, few.real_objects, few.alpha) == (own.task, own.real_objects, own.alpha)


def test_a_demo_for_a_policy_that_has_none_names_the_nearest() -> None:
    with pytest.raises(LookupError, match=r"'openvla_nano'.* Did you mean 'openvla-nano'"):
        demo("push-cube", "openvla_nano")


@EVERY_BASE
def test_every_sentence_of_every_task_fits_the_policys_prompt(base: str) -> None:
    preprocessor = open_policy(f"untrained:{base}").preprocessor
    for one in TASKS.values():
        states = [s for shift in (None, *one.shifts) for s in one.fixed_states(30, seed=0, prefix="test", shift=shift)]
        preprocessor.require_fits({text for s in states for text in (s.instruction, *one.paraphrases(s))})


def test_an_impossible_recipe_is_refused_when_it_is_made() -> None:
    config = recipe(DEBUG)
    with pytest.raises(LookupError, match=r"No policy family named 'openvlaa'.* Did you mean 'openvla'"):
        replace(config, family="openvlaa")
    assert replace(config, family="openvla").family == "openvla"
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
    assert {method.stage for method in METHODS} <= set(with_ablation)


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


def test_the_same_weights_answering_in_another_way_are_another_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path)
    with pytest.raises(LookupError, match="'openvla-oft-nano' has no weights here"):
        weights_fingerprint("openvla-oft-nano")
    save_policy(tmp_path / "openvla-nano", open_policy("untrained:openvla-nano"), provenance={})
    step, chunk = "openvla-nano", "openvla-oft-nano"
    assert policy_config(step) == open_policy(step).config == CONFIGS[step]()
    assert policy_config(chunk) == open_policy(chunk).config == CONFIGS[chunk]()
    prints = {name: weights_fingerprint(name) for name in (step, chunk)}
    assert prints[step] != prints[chunk]
    # as a folder it is described as what it answers as
    save_policy(tmp_path / "saved", open_policy(chunk), provenance={"from": step})
    assert weights_fingerprint(tmp_path / "saved") == prints[chunk]
    assert weights_fingerprint(tmp_path / step) == prints[step]
    # a field that configurations get later is not in the folder, and makes no other policy of either
    described = json.loads((tmp_path / step / "config.json").read_text())
    del described["rms_norm_eps"]
    (tmp_path / step / "config.json").write_text(json.dumps(described))
    older = {name: weights_fingerprint(name) for name in (step, chunk)}
    with monkeypatch.context() as patch:
        patch.setattr(OpenVlaConfig, "to_json", lambda config: {**asdict(config), "younger": 1})
        assert {name: weights_fingerprint(name) for name in (step, chunk)} == older
    require_kind(chunk, family="openvla", horizon=8)
    with pytest.raises(ValueError, match=f"'openvla-nano' has horizon {CONFIGS[step]().horizon}, the recipe wants 8"):
        require_kind(step, family="openvla", horizon=8)
    with pytest.raises(ValueError, match="has family openvla, the recipe wants pi05"):
        require_kind(chunk, family="pi05", horizon=8)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openvla-nano").rename(tmp_path / chunk)
    assert policy_config(chunk) == CONFIGS[step]()  # a folder comes before a name


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], None]:
    """Return what puts a task's two debug datasets into a run's folder; they are made once."""

    def give(name: str, folder: Path) -> None:
        source = tmp_path_factory.getbasetemp() / f"demonstrated-{name}"
        jobs = main_job(Run(folder=source, config=recipe(f"{name}-pi05-nano-debug")))
        for stage in ("record", "generate"):
            if not (source / stage).is_dir():
                jobs[stage]()
            shutil.copytree(source / stage, folder / stage)

    return give


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "base"), [(name, "pi05-nano") for name in TASKS] + [("open-drawer", base) for base in BUDGETS][1:]
)
def test_every_task_and_every_policy_is_trained_by_every_method(
    tmp_path: Path, demonstrated: Callable[[str, Path], None], name: str, base: str
) -> None:
    config = replace(recipe(f"{name}-{base}-debug"), without_real_term=True)
    demonstrated(name, tmp_path)
    jobs = main_job(Run(folder=tmp_path, config=config))
    for stage in ("record", "generate", *TRAINING):
        jobs[stage]()
    wanted = policy_config(config.base)
    for stage in TRAINING:
        trained = policy_config(tmp_path / stage)
        assert (trained.family, trained.horizon, trained.executed) == (wanted.family, wanted.horizon, wanted.executed)
    assert len({weights_fingerprint(tmp_path / stage) for stage in TRAINING}) == len(TRAINING)


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.parametrize("name", [DEBUG, "push-cube-openvla-nano-debug"])
def test_the_main_job_runs_resumes_and_is_not_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = replace(recipe(name), without_real_term=name == DEBUG)
    compared = methods_of(config)
    assert (NO_REAL_TERM in compared) == (name == DEBUG)
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
    for method in compared:
        assert method.name in text
    assert "<video" in text
    assert f"<b>{config.base}</b>" in text
    (caption,) = folder.glob("videos/*.txt")
    assert caption.read_text().startswith(f"{config.base}: push the ")
    results = read_json(folder / "results.json")
    assert results["policy"] == config.base
    assert list(results["rates"]) == [method.name for method in compared]
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
