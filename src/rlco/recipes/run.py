"""The main job: real demonstrations in, a better policy and a report out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from rlco.core.files import exclusive, require_writable, write_json
from rlco.core.progress import clock, progress
from rlco.data.reader import Dataset
from rlco.demos.generate import GenerateConfig, generate_demonstrations
from rlco.demos.record import RecordConfig, record_demonstrations
from rlco.evals.outcome import EvaluationResult
from rlco.evals.report import write_report
from rlco.evals.report_data import CONFIG, EVALUATIONS, TIMINGS, read_json, read_run, summary
from rlco.recipes.config import RunConfig
from rlco.recipes.films import film_methods
from rlco.recipes.methods import METHODS, NO_REAL_TERM, RLCO, STANDIN, TWIN, Method, Run, World, evaluate, in_order
from rlco.recipes.provenance import commit, noted, versions
from rlco.recipes.references import require_kind
from rlco.train.compute import require_device

T = TypeVar("T")
REPORT = "report.html"
RESULTS = "results.json"


def run_recipe(config: RunConfig, folder: Path, *, device: str = "cpu") -> Path:
    """Run every stage that is not finished yet; return the report's path."""
    require_device("--device", device)
    require_kind(config.base, family=config.family, horizon=config.horizon)
    require_writable(folder)
    run = Run(folder=folder, config=config, device=device)
    with exclusive(folder):
        claim_run(run)
        for name, stage in main_job(run).items():
            timed(run, name, stage)
        return make_report(run.folder)


def main_job(run: Run) -> dict[str, Callable[[], object]]:
    """Return the stages in order."""
    compared = methods_of(run.config)
    return {
        "record": lambda: record(run),
        "generate": lambda: generate(run),
        **{method.stage: partial(method.train, run) for method in in_order(compared)},
        "eval": lambda: evaluate_all(run),
        "videos": lambda: film_methods(run.folder, run.config, methods={m.stage: m.name for m in compared}),
    }


def methods_of(config: RunConfig) -> tuple[Method, ...]:
    """Return those of ``METHODS`` that the main job compares."""
    return tuple(method for method in METHODS if method is not NO_REAL_TERM or config.without_real_term)


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


def evaluate_all(run: Run) -> object:
    """Evaluate every method in both worlds on the same list of initial states."""
    worlds = (World(domain=STANDIN), World(domain=TWIN))
    return [evaluate(run, method, world) for method in methods_of(run.config) for world in worlds]


def make_report(folder: Path, *, compared: str = RLCO.name) -> Path:
    """Write ``report.html`` and ``results.json`` of a run folder; return the report's path."""
    order = tuple(method.name for method in METHODS)
    data = read_run(folder, compared=compared, order=order, unseen=unseen_objects(folder))
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


def timed(run: Run, name: str, stage: Callable[[], T], *, part: str | None = None) -> T:
    """Run a stage; add the time it took to the run's timings, and a line of what was done (``part`` of it)."""
    began = time.monotonic()
    try:
        with noted(run.folder, part or name, device=run.device):
            return stage()
    finally:  # an interrupted stage took time too
        path = run.folder / TIMINGS
        before = read_json(path)
        seconds = float(before.get(name, 0.0)) + time.monotonic() - began
        write_json(path, {**before, name: round(seconds, 1)})
        print(f"{name}: {clock(seconds)}", file=sys.stderr)
