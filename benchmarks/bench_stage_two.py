"""How much of a Stage II iteration is lost between its parts: the whole against the sum of the parts alone.

    python benchmarks/bench_stage_two.py [--rounds 4] [--num-envs 64] [--decisions 12] [--save FILE] [--compare FILE]

Each round runs one iteration and then, from the same state of the world, the parts by themselves: the world on the
same actions and resets, the policy on the same observations, the update on the same experience.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: spinning threads starve the workers

import torch
from comparison import add_options, conclude, setting

from rlco.core.policy import Observation
from rlco.data.chunks import ChunkDataset
from rlco.policies.checkpoint import base_policy
from rlco.rollout.collect import Collector, Experience
from rlco.train.real_term import RealTerm
from rlco.train.rl import RLConfig, StageTwo
from rlco.worlds.make import make_world

MOST_RATIO = 1.15


class Tape:
    """A world that remembers what it was told."""

    def __init__(self, world: Any) -> None:  # noqa: ANN401
        self.world, self.num_envs = world, world.num_envs
        self.calls: list[tuple[str, Any]] = []

    def reset(self, *, mask: np.ndarray | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.calls.append(("reset", mask))
        return self.world.reset(mask=mask)

    def step_chunk(self, actions: np.ndarray) -> tuple[Any, ...]:
        self.calls.append(("step", actions.copy()))
        return self.world.step_chunk(actions)

    def state(self) -> Any:  # noqa: ANN401
        return self.world.state()

    def play(self) -> None:
        """Tell the world the same again."""
        for kind, value in self.calls:
            self.world.reset(mask=value) if kind == "reset" else self.world.step_chunk(value)


class Keeping(Collector):
    """Keeps the experience it gave last."""

    last: Experience

    def collect(self, *args: Any, **kwargs: Any) -> Experience:  # noqa: ANN401
        self.last = super().collect(*args, **kwargs)
        return self.last


def main() -> int:
    """Measure, print, save and compare; the exit code says whether the target is met."""
    options = _options()
    figures = measure(options)
    is_met = figures["ratio"] <= MOST_RATIO
    return conclude(figures, options, same=("decisions_per_iteration",), is_met=is_met, low={"ratio": figures["ratio"]})


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return seconds of the iteration and of its parts, and their ratio."""
    config = RLConfig(num_envs=options.num_envs, decisions=options.decisions, critic_warmup=0, kl_stop=1e9)
    policy = base_policy("pi05-nano")
    config.prepare(policy)
    real = RealTerm(policy, _demonstrations(policy.horizon), batch_size=config.sft_batch_size, jitter=None, seed=0)
    seconds: dict[str, list[float]] = {name: [] for name in ("iteration", "simulation", "inference", "update")}
    with make_world("push-cube", num_envs=options.num_envs, seed=0, image_size=policy.config.image_size) as world:
        tape = Tape(world)
        collector = Keeping(tape)
        stage = StageTwo(policy, collector, real, config)
        stage.iterate()  # warm-up
        for _ in range(options.rounds):
            before = tape.state()
            tape.calls.clear()
            seconds["iteration"].append(_timed(stage.iterate))
            after = tape.state()
            world.restore(before)
            seconds["simulation"].append(_timed(tape.play))
            world.restore(after)
            seconds["inference"].append(_timed(lambda: _infer(stage, collector.last)))
            seconds["update"].append(_timed(lambda: stage._update(collector.last)))
    parts = [sum(row) for row in zip(*(seconds[n] for n in ("simulation", "inference", "update")), strict=True)]
    ratios = [whole / part for whole, part in zip(seconds["iteration"], parts, strict=True)]
    return {
        **setting(threads=torch.get_num_threads()),
        "decisions_per_iteration": options.num_envs * options.decisions,
        "seconds": {name: round(median(values), 3) for name, values in seconds.items()},
        "ratio": round(median(ratios), 3),
        "ratio_rounds": [round(ratio, 3) for ratio in ratios],
    }


def _infer(stage: StageTwo, experience: Experience) -> None:
    """Sample on every observation in the same batches, and value the last ones."""
    environments = experience.rollout.reward.shape[1]
    rows = torch.arange(len(experience.observation)).split(environments)
    with torch.no_grad():
        for index in rows:
            seen: Observation = experience.observation.select(index)
            stage.policy.sample(seen, explore=True, generator=stage.generator)
        stage.policy.value(experience.observation.select(rows[-1]))


def _demonstrations(horizon: int, *, frames: int = 1500) -> ChunkDataset:
    rng = np.random.default_rng(0)
    return ChunkDataset(
        frames=rng.integers(0, 256, (frames, 96, 96, 3), dtype=np.uint8),
        state=rng.uniform(0, 0.4, (frames, 8)).astype(np.float32),
        action=(0.02 * rng.standard_normal((frames, 7))).astype(np.float32),
        last=np.full(frames, frames - 1),
        instruction=("push the pink cube",) * frames,
        horizon=horizon,
    )


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--decisions", type=int, default=12)
    add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
