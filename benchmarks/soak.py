"""A short Stage II that is killed again and again must end with the figures of one that was left alone.

    python benchmarks/soak.py FOLDER [--kills 50] [--seed 0]       kill -9 of the trainer or of a worker of its world
    python benchmarks/soak.py FOLDER --memory-minutes 5            memory of an undisturbed run over time instead

FOLDER must be new. A killed trainer is started again by the same command. Exit code 1 where the outcome differs, where
a process is left behind, or where memory is not flat within 3 %.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from rlco.core.rng import numpy_generator
from rlco.train.log import read_metrics

PROGRAM = (sys.executable, "-m", "rlco.cli")
DEAD_AT_START = ("A process of the world died while it started", "A worker process of the world could not start")
"""Of a worker that is killed before there is anything to repeat the command ends; it is given again."""
WARM_SHARE = 0.3
"""Of a measurement of memory: caches and allocators fill in it."""
MOST_GROWTH = 0.03
FEW = "--num-envs 4 --decisions 4 --minibatch 8 --sft-batch-size 8 --save-every 2"


@dataclass(slots=True)
class Outcome:
    """What a disturbed run went through."""

    trainer_kills: int = 0
    worker_kills: int = 0
    starts: int = 0
    longest_wait_s: float = 12.0
    """A kill of the trainer comes up to this long after the last one: while it starts, plays, learns or saves."""
    left_behind: list[int] = field(default_factory=list)
    """Workers that outlived their trainer."""

    @property
    def kills(self) -> int:
        """Return how often something was killed."""
        return self.trainer_kills + self.worker_kills


def record(folder: Path) -> None:
    """Record two demonstrations for the real term."""
    few = ("--count", "2", "--image-size", "32", "--num-envs", "2")
    subprocess.run([*PROGRAM, "record", str(folder), *few], check=True, stdout=subprocess.DEVNULL)


def stage_two(folder: Path, *, real: Path, iterations: int) -> list[str]:
    """Return the command of a small Stage II."""
    words = f"--start untrained:pi05-tiny --real {real} --iterations {iterations} {FEW}".split()
    return [*PROGRAM, "rl", str(folder), *words]


def figures(folder: Path) -> list[dict[str, Any]]:
    """Return every line of a stage's metrics, without the times, and what its weights are."""
    lines = [{k: v for k, v in line.items() if not k.startswith("time/")} for line in read_metrics(folder)]
    weights = hashlib.sha256((folder / "policy" / "model.safetensors").read_bytes()).hexdigest()
    return [*lines, {"weights": weights}]


def disturb(command: Sequence[str], *, kills: int, rng: np.random.Generator, outcome: Outcome, log: Path) -> None:
    """Run ``command`` to its end through at most ``kills`` kills -9, half of them of a worker.

    Raises ``subprocess.CalledProcessError`` where it ends otherwise.
    """
    until = outcome.kills + kills
    while True:
        with log.open("a") as file:
            trainer = psutil.Popen(command, stdout=file, stderr=file)
        outcome.starts += 1
        while outcome.kills < until and trainer.poll() is None:
            if rng.random() < 0.5:
                kill_trainer(trainer, rng, outcome)
            else:
                kill_worker(trainer, rng, outcome)
        if trainer.wait() == 0:
            return
        if trainer.returncode > 0 and not any(said in log.read_text()[-500:] for said in DEAD_AT_START):
            raise subprocess.CalledProcessError(trainer.returncode, command)


def kill_trainer(trainer: psutil.Popen, rng: np.random.Generator, outcome: Outcome) -> None:
    """Kill it while it starts, plays, learns or saves."""
    if ended(trainer, within_s=rng.uniform(0.2, outcome.longest_wait_s)):
        return
    workers = workers_of(trainer)
    trainer.kill()
    trainer.wait()
    outcome.trainer_kills += 1
    _, alive = psutil.wait_procs(workers, timeout=20)
    outcome.left_behind += [worker.pid for worker in alive]


def kill_worker(trainer: psutil.Popen, rng: np.random.Generator, outcome: Outcome) -> None:
    """Kill one of its workers, soon after there are some."""
    while not workers_of(trainer):
        if ended(trainer, within_s=0.1):
            return
    if not ended(trainer, within_s=rng.uniform(0.0, outcome.longest_wait_s / 4)) and (workers := workers_of(trainer)):
        workers[rng.integers(len(workers))].kill()
        outcome.worker_kills += 1


def workers_of(trainer: psutil.Popen) -> list[psutil.Process]:
    """Return the processes of its world."""
    return [child for child in trainer.children() if child.is_running()] if trainer.is_running() else []


def ended(trainer: psutil.Popen, *, within_s: float) -> bool:
    """Wait; return whether it has ended."""
    try:
        trainer.wait(within_s)
    except psutil.TimeoutExpired:
        return False
    return True


def soak(folder: Path, *, kills: int, iterations: int, seed: int) -> dict[str, Any]:
    """Disturb runs until there were ``kills``; return what happened and whether every run ended as the straight one."""
    real, rng, outcome = folder / "real", numpy_generator(seed, "soak"), Outcome()
    record(real)
    began = time.monotonic()
    subprocess.run(stage_two(folder / "straight", real=real, iterations=iterations), check=True, capture_output=True)
    straight_s, wanted, equal = time.monotonic() - began, figures(folder / "straight"), []
    outcome.longest_wait_s = straight_s  # however slow the machine is, a trainer may get through all of it
    while outcome.kills < kills:
        run = folder / f"disturbed-{len(equal)}"
        command = stage_two(run, real=real, iterations=iterations)
        disturb(command, kills=kills - outcome.kills, rng=rng, outcome=outcome, log=folder / "log.txt")
        equal.append(figures(run) == wanted)
    return {
        "trainer_kills": outcome.trainer_kills,
        "worker_kills": outcome.worker_kills,
        "starts": outcome.starts,
        "left_behind": outcome.left_behind,
        "repeated_collections": (folder / "log.txt").read_text().count("its work is done again"),
        "runs": len(equal),
        "equal": all(equal),
        "straight_s": round(straight_s, 1),
        "total_s": round(time.monotonic() - began, 1),
    }


def memory(folder: Path, *, minutes: float) -> dict[str, Any]:
    """Return how much the resident memory of the trainer and of its workers grows, per cent of the mean.

    From the straight line through what is seen once a second, over the whole time after the warm-up.
    """
    real = folder / "real"
    record(real)
    with (folder / "log.txt").open("w") as file:
        trainer = psutil.Popen(stage_two(folder / "run", real=real, iterations=10**6), stdout=file, stderr=file)
    seen: list[tuple[float, float, float]] = []
    began = time.monotonic()
    try:
        while time.monotonic() - began < 60 * minutes:
            time.sleep(1.0)
            workers = sum(child.memory_info().rss for child in trainer.children(recursive=True))
            seen.append((time.monotonic() - began, trainer.memory_info().rss / 1e6, workers / 1e6))
    finally:
        trainer.terminate()
        code = trainer.wait()
    at_s, *kinds = np.array([row for row in seen if row[0] > WARM_SHARE * 60 * minutes]).T
    growth = {
        name: float(np.polyfit(at_s, mb, 1)[0] * np.ptp(at_s) / mb.mean())
        for name, mb in zip(("trainer", "workers"), kinds, strict=True)
    }
    return {
        "growth": {name: round(value, 4) for name, value in growth.items()},
        "quarters_mb": {
            name: [round(float(part.mean()), 1) for part in np.array_split(mb, 4)]
            for name, mb in zip(growth, kinds, strict=True)
        },
        "seconds": round(float(np.ptp(at_s))),
        "iterations": read_metrics(folder / "run")[-1]["step"],
        "exit_code_of_sigterm": code,
    }


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory-minutes", type=float)
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    if options.memory_minutes:
        found = memory(options.folder, minutes=options.memory_minutes)
        is_well = max(found["growth"].values()) <= MOST_GROWTH
    else:
        found = soak(options.folder, kills=options.kills, iterations=options.iterations, seed=options.seed)
        is_well = found["equal"] and not found["left_behind"]
    print(json.dumps(found, indent=2))
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
