"""How fast demonstrations are generated, against the bound measured in the same run: physics, pictures, encoding.

    python benchmarks/bench_generate.py [--tasks push-cube pick-place] [--count 200] [--save FILE] [--compare FILE]

Records seeds of the exact operator in the twin (not counted), then generates, start of the processes and replay
included. The bound is the same number of control steps of bare physics with the same contacts and bare pictures, and
of bare encoding of the frames that were kept. ``ratio`` is the bound's processor time over the generator's, all its
processes together, so other work on the machine does not count; the least over the tasks. Demonstrations per minute are
by the clock, and by processor time if every core were busy.
"""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's compiled modules carry no type stubs.

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")  # before the GL library is loaded

import mujoco
import numpy as np
from comparison import add_options, conclude, setting

from rlco.data.encoding import encode_part
from rlco.data.reader import Dataset
from rlco.demos.generate import GenerateConfig, generate_demonstrations
from rlco.demos.record import RecordConfig, record_demonstrations, style
from rlco.engines.mujoco.simulation import Simulation
from rlco.tasks import TASKS, task

LEAST_RATIO = 0.5
LEAST_A_MINUTE = 200.0
"""1,000 demonstrations in five minutes, with every core at work on them."""


def main() -> int:
    """Measure, print, save and compare; the exit code says whether the targets are met."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        figures = [measure(Path(folder) / name, name, options) for name in options.tasks]
    told = {
        **setting(),
        "count": options.count,
        "image_size": options.image_size,
        "num_envs": options.num_envs,
        "tasks": dict(zip(options.tasks, figures, strict=True)),
        "steps_per_s": {n: its["steps_per_cpu_s"] for n, its in zip(options.tasks, figures, strict=True)},
        "ratio": min(its["ratio"] for its in figures),
    }
    fast = all(its["demonstrations_a_minute_of_all_cores"] >= LEAST_A_MINUTE for its in figures)
    is_met = fast and told["ratio"] >= LEAST_RATIO
    high = {"ratio": told["ratio"], **told["steps_per_s"]}
    return conclude(told, options, same=("count", "image_size", "num_envs"), is_met=is_met, high=high)


def measure(folder: Path, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one task."""
    seeds = RecordConfig(
        task=name, domain="twin", objects=None, count=options.seeds, seed=1, image_size=32, style=style("exact")
    )
    record_demonstrations(folder / "seeds", seeds)
    config = GenerateConfig(task=name, count=options.count, seed=2, image_size=options.image_size)
    real = Dataset.open(folder / "seeds")
    began, used = time.perf_counter(), _processor_s()
    report = generate_demonstrations(folder / "made", real, config, num_envs=options.num_envs)
    wall, used = time.perf_counter() - began, _processor_s() - used
    step_s, frame_s = bound(Dataset.open(folder / "made"), name, options.image_size, folder=folder)
    least = report.simulated_steps * step_s + round(report.count * report.mean_length) * frame_s
    cores = len(os.sched_getaffinity(0))
    return {
        "success_rate": round(report.success_rate, 3),
        "mean_length": round(report.mean_length, 1),
        "demonstrations_a_minute": round(60 * report.count / wall),
        "demonstrations_a_minute_of_all_cores": round(60 * report.count * cores / used),
        "cpu_ms_per_control_step": round(1e3 * used / report.simulated_steps, 3),
        "bound_ms_per_control_step": round(1e3 * least / report.simulated_steps, 3),
        "steps_per_cpu_s": round(report.simulated_steps / used, 1),
        "ratio": round(least / used, 3),
    }


def bound(made: Dataset, name: str, size: int, *, folder: Path, episodes: int = 10) -> tuple[float, float]:
    """Return the seconds of bare physics and picture of a control step, and of encoding a frame."""
    simulation = Simulation(task(name).scene, num_envs=1, image_size=size)
    pixels, steps, spent, encoding = np.empty((size, size, 3), np.uint8), 0, 0.0, 0.0
    for number in range(min(episodes, len(made.episodes))):
        episode = made.episode(number)
        assert episode.initial_state is not None
        simulation.reset(0, episode.initial_state)
        simulation.render(0, pixels)
        bare = mujoco.MjData(simulation.model(0))
        for action in episode.action:
            # the same moment, with its contacts, in a copy that nobody looks at
            mujoco.mj_copyData(bare, simulation.model(0), simulation.data(0))
            began = time.process_time()
            mujoco.mj_step(simulation.model(0), bare, simulation.ticks_per_step)
            spent += time.process_time() - began
            simulation.control_step(0, action)
            began = time.process_time()
            simulation.render(0, pixels)
            spent += time.process_time() - began
        steps += len(episode)
        began = time.process_time()
        encode_part(folder / "bound.mp4", episode.image, fps=made.fps)
        encoding += time.process_time() - began
    simulation.close()
    return spent / steps, encoding / steps


def _processor_s() -> float:
    """Return the processor time of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(its.ru_utime + its.ru_stime for its in used)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=sorted(TASKS), default=sorted(TASKS))
    parser.add_argument("--count", type=int, default=200, help="demonstrations of each task")
    parser.add_argument("--seeds", type=int, default=25, help="recorded demonstrations")
    parser.add_argument("--image-size", type=int, default=128, help="pixels")
    parser.add_argument("--num-envs", type=int, default=16)
    add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
