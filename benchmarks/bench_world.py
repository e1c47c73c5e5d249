"""How fast a world is, against the bound measured in the same run: bare physics plus bare rendering.

    python benchmarks/bench_world.py [--task push-cube] [--domain twin] [--save FILE] [--compare FILE]
    python benchmarks/bench_world.py --task all

The bound runs the same model, the same number of physics ticks and the same picture on the same number of processes,
with no controller, no reward and nobody to send the result to. World and bound take turns, so that a machine that
slows down slows both.
"""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's compiled modules carry no type stubs.

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import numpy as np
from comparison import add_options, conclude, setting

from rlco.core.scene import InitialState
from rlco.tasks import TASKS, task
from rlco.worlds.make import make_world
from rlco.worlds.world import World

ALL = "all"
LEAST_RATIO = 0.7
_NEVER = 1_000_000
"""Control steps after which an episode is cut: an ended episode costs nothing and would flatter the figures."""


def main() -> int:
    """Measure, print, save and compare; the exit code says whether the targets are met."""
    options = _options()
    same = ("task", "domain", "image_size", "num_envs", "num_workers")
    codes = []
    for name in TASKS if options.task == ALL else [options.task]:
        figures = measure(name, options)
        rates = {way: rate for way, rate in figures["steps_per_s"].items() if way != "bound"}
        high, is_met = {"ratio": figures["ratio"], **rates}, figures["ratio"] >= LEAST_RATIO
        codes.append(conclude(figures, options, same=same, is_met=is_met, high=high))
    return max(codes)


def measure(task_name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return environment steps per second, by way of rendering, and the ratio to the bound."""
    bound, starts = Bound(task_name, options), [_start(task_name)] * options.num_envs
    arguments = {"domain": options.domain, "num_envs": options.num_envs, "num_workers": options.num_workers}
    with make_world(task_name, image_size=options.image_size, max_steps=_NEVER, **arguments) as world:
        ways: dict[str, Callable[[], None]] = {
            "step": lambda: _step(world),
            "chunk4_all": lambda: _chunk(world, render="all"),
            "chunk4_last": lambda: _chunk(world, render="last"),
            "chunk4_none": lambda: _chunk(world, render="none"),
        }
        rates: dict[str, list[float]] = {name: [] for name in [*ways, "bound"]}
        for _ in range(options.rounds):
            for name, once in ways.items():
                world.reset(initial_states=starts)
                rates[name].append(_rate(once, steps=options.num_envs * 8, seconds=options.seconds))
                if name == "step":
                    rates["bound"].append(bound.rate(options.seconds))
    bound.close()
    ratios = [mine / most for mine, most in zip(rates["step"], rates["bound"], strict=True)]
    return {
        **setting(),
        "load_average": round(os.getloadavg()[0], 1),
        "task": task_name,
        "domain": options.domain,
        "image_size": options.image_size,
        "num_envs": options.num_envs,
        "num_workers": options.num_workers,
        "steps_per_s": {name: round(median(values), 1) for name, values in rates.items()},
        "ms_per_step_and_worker": {
            name: round(1e3 * options.num_workers / median(values), 3) for name, values in rates.items()
        },
        "ratio": round(median(ratios), 3),
        "ratio_rounds": [round(ratio, 3) for ratio in ratios],
    }


def _start(task_name: str) -> InitialState:
    """Return where world and bound begin: the same things on the table, so the same model."""
    return task(task_name).fixed_states(1, seed=0, prefix="bench")[0]


class Bound:
    """Processes that step and render the bare model when told to."""

    def __init__(self, task_name: str, options: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        shares = [len(part) for part in np.array_split(np.arange(options.num_envs), options.num_workers)]
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ["LP_NUM_THREADS"] = "0"
        self._pipes, self._processes = [], []
        for share in shares:
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, task_name, options.domain, share, options.image_size)
            )
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def rate(self, seconds: float) -> float:
        """Return steps per second of all processes together."""
        for pipe in self._pipes:
            pipe.send(seconds)
        return sum(pipe.recv() for pipe in self._pipes)

    def close(self) -> None:
        """End the processes."""
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(None)
            process.join()


def _serve(pipe: Connection, task_name: str, domain: str, num_envs: int, image_size: int) -> None:
    import mujoco  # in this process only

    from rlco.engines.mujoco.simulation import Simulation
    from rlco.worlds import standin

    chosen = task(task_name)
    drawn = standin.draw(0) if domain == "standin" else standin.StandIn()
    simulation = Simulation(
        chosen.scene, num_envs=1, image_size=image_size, appearance=drawn.appearance, dynamics=drawn.dynamics
    )
    simulation.reset(0, _start(task_name))
    model, first = simulation.model(0), simulation.data(0)
    states = []
    for _ in range(num_envs):
        data = mujoco.MjData(model)
        mujoco.mj_copyData(data, model, first)  # all of it: where a drawer stands is no joint's value
        states.append(data)
    context, camera, option = mujoco.MjrContext(model, 50), mujoco.MjvCamera(), mujoco.MjvOption()
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, context)
    scene, view = mujoco.MjvScene(model, maxgeom=200), mujoco.MjrRect(0, 0, image_size, image_size)
    for flag in (mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_SKYBOX, mujoco.mjtRndFlag.mjRND_HAZE):
        scene.flags[flag] = False
    scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = drawn.appearance.shadows
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
    pixels = np.empty((image_size, image_size, 3), np.uint8)
    everything = mujoco.mjtCatBit.mjCAT_ALL.value

    def once() -> None:
        for data in states:
            mujoco.mj_step(model, data, simulation.ticks_per_step)
            mujoco.mjv_updateScene(model, data, option, None, camera, everything, scene)
            mujoco.mjr_render(view, scene, context)
            mujoco.mjr_readPixels(pixels, None, view, context)

    pipe.send("ready")
    while (seconds := pipe.recv()) is not None:
        pipe.send(_rate(once, steps=num_envs, seconds=seconds))


def _step(world: World) -> None:
    """Eight control steps above the table, one at a time."""
    for action in _hover(world, steps=8).swapaxes(0, 1):
        world.step(action)


def _chunk(world: World, *, render: str) -> None:
    """Eight control steps in two chunks."""
    for _ in range(2):
        world.step_chunk(_hover(world, steps=4), render=render)


def _hover(world: World, *, steps: int) -> np.ndarray:
    actions = np.zeros((world.num_envs, steps, 7), np.float32)
    actions[:, ::2, 0], actions[:, 1::2, 0] = 0.02, -0.02
    actions[..., 6] = -1.0
    return actions


def _rate(once: Callable[[], None], *, steps: int, seconds: float) -> float:
    """Return ``steps`` times the number of calls of ``once`` per second."""
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        once()
        calls += 1
    return steps * calls / elapsed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=(*TASKS, ALL), default="push-cube")
    parser.add_argument("--domain", choices=("twin", "standin"), default="twin")
    parser.add_argument("--image-size", type=int, default=128, help="pixels")
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--num-workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7, help="turns of world and bound; medians are reported")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one measurement")
    add_options(parser)
    options = parser.parse_args()
    if options.task == ALL and (options.save or options.compare):
        parser.error("a file holds the figures of one task: --save and --compare need one --task")
    return options


if __name__ == "__main__":
    sys.exit(main())
