"""Run a study: job by job, each resumable, and its page from whatever is finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlco.core.files import MANIFEST, FullDiskError, exclusive, require_writable
from rlco.core.progress import clock
from rlco.evals.outcome import EvaluationResult
from rlco.evals.report_data import CLIPS
from rlco.evals.study import Curve, Entry, StudyData
from rlco.evals.study_page import write_study
from rlco.recipes.films import film_methods
from rlco.recipes.methods import RLCO, Run, World, evaluate, evaluation_folder
from rlco.recipes.provenance import read_made
from rlco.recipes.references import policy_config
from rlco.recipes.run import claim_run, generate, record, timed
from rlco.recipes.stages import RESULT
from rlco.recipes.studies.measure import Learned, Study, job_name
from rlco.train.log import read_metrics


def run_jobs(
    study: Study, root: Path, *, names: tuple[str, ...], told: Callable[[str, Exception], None], device: str = "cpu"
) -> list[str]:
    """Run some of a study's jobs one after the other; what is finished is kept, whichever study finished it.

    One that fails does not stop the others: ``told`` gets its name and its error, and it is among those returned.
    Raises what the only job raised, and ``FullDiskError``, which would meet every other one.
    """
    failed = []
    for name in names:
        try:
            run_job(study, name, root, device=device)
        except FullDiskError:
            raise
        except Exception as error:
            if len(names) == 1:
                raise
            told(name, error)
            failed.append(name)
    return failed


def run_job(study: Study, name: str, root: Path, *, device: str = "cpu") -> None:
    """Run what a study needs of one job; studies share its folder."""
    run = Run(folder=root / "jobs" / name, config=study.jobs()[name], device=device)
    require_writable(run.folder)
    with exclusive(run.folder):
        claim_run(run)
        timed(run, "record", lambda: record(run))
        timed(run, "generate", lambda: generate(run))
        for method in study.methods(name):
            timed(run, method.stage, lambda method=method: method.train(run))
        for figure in study.figures_of(name):
            part = evaluation_folder(figure.method.stage, figure.world)
            timed(run, "eval", lambda figure=figure: evaluate(run, figure.method, figure.world), part=part)
        timed(run, "videos", lambda: film_job(study, name, run), part=f"{CLIPS}/{study.name}")


def film_job(study: Study, name: str, run: Run) -> None:
    """Film what a job's methods do on the same starts, where there is Stage II among them to compare with."""
    methods = {f.method.stage: f.method.name for f in study.figures_of(name) if f.world == World()}
    if RLCO.stage in methods:
        film_methods(run.folder, run.config, methods=methods, series=study.name)


def chosen(study: Study, only: str | None) -> tuple[str, ...]:
    """Return the names of the jobs that contain ``only``. Raises ``LookupError`` where there is none."""
    names = tuple(name for name in study.jobs() if only is None or only in name)
    if not names:
        raise LookupError(f"No job of '{study.name}' has '{only}' in its name. They are: {', '.join(study.jobs())}.")
    return names


def is_finished(study: Study, name: str, root: Path) -> bool:
    """Return whether everything that the study wants of a job is on disk."""
    folder = root / "jobs" / name
    figures = (evaluation_folder(figure.method.stage, figure.world) for figure in study.figures_of(name))
    curves = (curve.method.stage for curve in study.curves_of(name))
    return all((folder / stage / MANIFEST).exists() for stage in (*figures, *curves))


def make_page(study: Study, root: Path) -> Path:
    """Write the study's page from what is finished; return its path. Raises ``FileNotFoundError`` if nothing is."""
    data = collect(study, root)
    if not data.entries:
        raise FileNotFoundError(f"Nothing of the study '{study.name}' is finished in '{root}'. Run it first.")
    return write_study(data, root / study.name)


def collect(study: Study, root: Path) -> StudyData:
    """Return what is finished of a study."""
    found = [
        (figure, root / "jobs" / job_name(figure.job) / evaluation_folder(figure.method.stage, figure.world))
        for figure in study.figures
    ]
    entries = tuple(
        Entry(
            place=figure.place,
            part=job_name(figure.job),
            seed=figure.job.seed,
            draw=f"reality {figure.job.reality}, seed {figure.job.seed}",
            result=EvaluationResult.load(folder / RESULT),
        )
        for figure, folder in found
        if (folder / MANIFEST).exists()
    )
    return StudyData(
        name=study.name,
        title=study.title,
        question=study.question,
        compared=study.compared,
        entries=entries,
        contrasts=study.contrasts,
        curves=tuple(curve(learned, root) for learned in study.curves),
        missing=tuple(name for name in study.jobs() if not is_finished(study, name, root)),
        average=study.average,
        paper=study.paper,
        x_label=study.x_label,
        films=films(study, root),
        provenance=provenance(study, root),
    )


def films(study: Study, root: Path) -> dict[str, str]:
    """Return the films of the study's jobs, seen from the page's folder -> their captions."""
    folders = [root / "jobs" / name / CLIPS / study.name for name in study.jobs()]
    found = [path for folder in folders for path in sorted(folder.glob("*.mp4"))]
    return {f"../{path.relative_to(root)}": path.with_suffix(".txt").read_text().strip() for path in found}


def curve(learned: Learned, root: Path) -> Curve:
    """Return success while exploring over control steps in all environments, as far as the stage has come."""
    job, rl = learned.job, learned.job.rl
    lines = [
        line for line in read_metrics(root / "jobs" / job_name(job) / learned.method.stage) if "rl/success" in line
    ]
    per_iteration = rl.num_envs * rl.decisions * policy_config(job.base).executed
    return Curve(
        line=learned.line,
        part=job_name(job),
        steps=tuple(float(line["step"] * per_iteration) for line in lines),
        success=tuple(float(line["rl/success"]) for line in lines),
    )


def provenance(study: Study, root: Path) -> dict[str, Any]:
    """Return the commands, commits and machines that made what the page shows, and the time that it took."""
    lines = [
        line for name in study.jobs() for line in read_made(root / "jobs" / name) if line.stage in parts(study, name)
    ]
    return {
        "command": study.command,
        "commits": ", ".join(sorted({line.commit for line in lines})),
        "machines": "; ".join(sorted({line.machine for line in lines})),
        "time of all jobs": clock(sum((line.seconds for line in lines), start=0.0)),
    }


def parts(study: Study, name: str) -> set[str]:
    """Return what of a job a study shows, its films left out."""
    figures = {str(evaluation_folder(figure.method.stage, figure.world)) for figure in study.figures_of(name)}
    return {"record", "generate"} | {method.stage for method in study.methods(name)} | figures
