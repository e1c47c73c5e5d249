"""The main job: real demonstrations in, a better policy and a report out."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from rlco.core.files import exclusive, require_writable, write_json
from rlco.core.progress import clock, progress
from rlco.core.rng import seed_of
from rlco.data.reader import Dataset
from rlco.demos.generate import GenerateConfig, generate_demonstrations
from rlco.demos.record import RecordConfig, record_demonstrations
from rlco.evals.outcome import EvaluationResult
from rlco.evals.report import write_report
from rlco.evals.report_data import CONFIG, EVALUATIONS, TIMINGS, read_json, read_run, summary
from rlco.recipes import stages
from rlco.recipes.config import RunConfig
from rlco.recipes.films import film_methods
from rlco.recipes.references import POLICY, require_kind
from rlco.recipes.stages import Demonstrations

T = TypeVar("T")
REPORT = "report.html"
RESULTS = "results.json"
COMPARED = "RL-Co"
METHODS = {
    "sft-real": "real-only SFT",
    "sft-cotrain": "SFT co-training",
    "sft-control": "compute-matched SFT",
    "rl-no-real-term": "RL without the real term",
    "rl": COMPARED,
}
"""Stage folder -> its name in tables, in the order of tables."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run folder."""

    folder: Path
    config: RunConfig

    @property
    def real(self) -> Path:
        """Folder of the real demonstrations."""
        return self.folder / "record"

    @property
    def sim(self) -> Path:
        """Folder of the generated demonstrations."""
        return self.folder / "generate"

    @property
    def methods(self) -> dict[str, str]:
        """Return those of ``METHODS`` that this run has."""
        return {k: v for k, v in METHODS.items() if k != "rl-no-real-term" or self.config.without_real_term}


def run_recipe(config: RunConfig, folder: Path) -> Path:
    """Run every stage that is not finished yet; return the report's path."""
    require_kind(config.base, family=config.family, horizon=config.horizon)
    require_writable(folder)
    run = Run(folder=folder, config=config)
    with exclusive(folder):
        claim_run(run)
        for name, stage in main_job(run).items():
            timed(run, name, stage)
        return make_report(run.folder)


def main_job(run: Run) -> dict[str, Callable[[], object]]:
    """Return the stages in order."""
    jobs: dict[str, Callable[[], object]] = {
        "record": lambda: record(run),
        "generate": lambda: generate(run),
        "sft-real": lambda: sft_real(run),
        "sft-cotrain": lambda: sft_cotrain(run),
        "rl": lambda: rl(run),
    }
    if run.config.without_real_term:
        jobs["rl-no-real-term"] = lambda: rl_without_real_term(run)
    return jobs | {
        "sft-control": lambda: sft_control(run),
        "eval": lambda: evaluate_all(run),
        "videos": lambda: film_methods(run.folder, run.config, methods=run.methods),
    }


def record(run: Run) -> object:
    """Record real demonstrations in the stand-in."""
    c = run.config
    config = RecordConfig(
        task=c.task,
        reality=c.reality,
        objects=c.real_objects,
        count=c.real_demonstrations,
        seed=c.seed,
        image_size=c.image_size,
    )
    with progress("record", total=c.real_demonstrations, unit="demonstration") as bar:
        return record_demonstrations(run.real, config, num_envs=c.num_envs, reporter=bar)


def generate(run: Run) -> object:
    """Generate demonstrations in the twin from the real ones."""
    c = run.config
    config = GenerateConfig(task=c.task, count=c.sim_demonstrations, seed=c.seed, image_size=c.image_size, plan=c.plan)
    with progress("generate", total=c.sim_demonstrations, unit="demonstration") as bar:
        return generate_demonstrations(run.sim, Dataset.open(run.real), config, num_envs=c.num_envs, reporter=bar)


def sft_real(run: Run) -> object:
    """Train the real-only baseline."""
    demonstrations = Demonstrations(real=run.real)
    return stages.sft(
        run.folder / "sft-real", start=run.config.base, demonstrations=demonstrations, config=run.config.real_only
    )


def sft_cotrain(run: Run) -> object:
    """Train Stage I, which is also the co-training baseline."""
    return stages.sft(
        run.folder / "sft-cotrain", start=run.config.base, demonstrations=both(run), config=run.config.cotraining
    )


def sft_control(run: Run) -> object:
    """Continue Stage I for as many gradient samples as Stage II used."""
    used = json.loads((run.folder / "rl" / "manifest.json").read_text())["outputs"]["gradient_samples"]
    cotraining = run.config.cotraining
    # a seed of its own: Stage I goes on with new draws, it does not see its first ones again
    seed = seed_of(cotraining.seed, "control")
    config = replace(cotraining, steps=-(-used // cotraining.batch_size), seed=seed)
    start = run.folder / "sft-cotrain" / POLICY
    return stages.sft(run.folder / "sft-control", start=start, demonstrations=both(run), config=config)


def rl(run: Run) -> object:
    """Run Stage II."""
    start = run.folder / "sft-cotrain" / POLICY
    return stages.rl(run.folder / "rl", start=start, real=run.real, task_name=run.config.task, config=run.config.rl)


def rl_without_real_term(run: Run) -> object:
    """Run Stage II with beta = 0, everything else equal."""
    config = replace(run.config.rl, beta=0.0)
    start = run.folder / "sft-cotrain" / POLICY
    return stages.rl(run.folder / "rl-no-real-term", start=start, real=None, task_name=run.config.task, config=config)


def both(run: Run) -> Demonstrations:
    """Return the mixture of Stage I."""
    return Demonstrations(real=run.real, sim=run.sim, alpha=run.config.alpha)


def evaluate_all(run: Run) -> object:
    """Evaluate every method in both worlds on the same list of initial states."""
    return [
        stages.evaluation(
            run.folder / "eval" / f"{stage}-{domain}",
            name=name,
            policy=run.folder / stage / POLICY,
            settings=run.config.evaluation(domain),
            num_states=run.config.num_states,
        )
        for stage, name in run.methods.items()
        for domain in ("standin", "twin")
    ]


def make_report(folder: Path, *, compared: str = COMPARED) -> Path:
    """Write ``report.html`` and ``results.json`` of a run folder; return the report's path."""
    data = read_run(folder, compared=compared, order=tuple(METHODS.values()), unseen=unseen_objects(folder))
    write_json(folder / RESULTS, summary(data))
    write_report(data, folder / REPORT)
    return folder / REPORT


def unseen_objects(folder: Path) -> tuple[str, ...]:
    """Return the objects that the evaluation names and the run's real demonstrations do not have."""
    seen = read_json(folder / CONFIG).get("config", {}).get("real_objects")
    results = [EvaluationResult.load(path) for path in folder.glob(EVALUATIONS)]
    named = {o.labels["object"] for result in results for o in result.outcomes if "object" in o.labels}
    return tuple(sorted(named - set(seen))) if seen else ()


def claim_run(run: Run) -> None:
    """Write the resolved configuration and the versions once.

    Raises ``ValueError`` if the folder belongs to a run of another configuration.
    """
    path, now = run.folder / CONFIG, json.loads(json.dumps(run.config.to_json()))
    if path.exists():
        then = json.loads(path.read_text())["config"]
        changed = sorted(k for k in then.keys() | now.keys() if then.get(k) != now.get(k))
        if changed:
            raise ValueError(
                f"'{run.folder}' holds a run of another configuration (differs in: {', '.join(changed)}). "
                "Use another folder, or delete that one."
            )
        return
    write_json(path, {"config": now, "versions": versions(), "commit": commit()})


def timed(run: Run, name: str, stage: Callable[[], T]) -> T:
    """Run a stage; add the time it took to the run's timings."""
    began = time.monotonic()
    try:
        return stage()
    finally:  # an interrupted stage took time too
        path = run.folder / TIMINGS
        before = read_json(path)
        seconds = float(before.get(name, 0.0)) + time.monotonic() - began
        write_json(path, {**before, name: round(seconds, 1)})
        print(f"{name}: {clock(seconds)}", file=sys.stderr)


def versions() -> dict[str, str]:
    """Return what the run was made with."""
    packages = ("rlco", "torch", "mujoco", "numpy", "gymnasium")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def commit() -> str | None:
    """Return the commit of the source tree, or None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        found: Any = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None
