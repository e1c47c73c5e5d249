"""Generate demonstrations in the twin from real seeds (MimicGen-style, free space pruned)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from rlco.core.episode import Episode
from rlco.core.files import write_json, write_manifest
from rlco.core.progress import Reporter, Silent
from rlco.core.rng import numpy_generator
from rlco.core.scene import ACTION_DIM, Facts, InitialState
from rlco.data import layout
from rlco.data.reader import Dataset
from rlco.data.writer import write_dataset
from rlco.demos.keep import Keeper, finished_report
from rlco.demos.plan import Plan, PlanConfig, choose, plan
from rlco.demos.sources import Replay, Source, replay
from rlco.demos.targets import action_between, moved
from rlco.rollout.record import record
from rlco.tasks import Task, task
from rlco.worlds.make import make_world

_ATTEMPTS_PER_DEMONSTRATION = 4
"""Below a success rate of one in this many, the seeds do not fit the twin: give up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateReport:
    """What generation did; also in the dataset's manifest."""

    count: int
    attempts: int
    """Up to and including the last kept one."""
    success_rate: float
    replay_success_rate: float
    """Share of the real demonstrations whose actions alone succeed in the twin."""
    sources: int
    mean_length: float
    """Control steps of a kept demonstration."""
    rejected: dict[str, int]
    """Reason -> attempts."""
    lost: int
    success_rate_by_label: dict[str, float]
    """Such as ``place=left`` -> share of the attempts there that succeed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateConfig:
    """What is generated. Everything here changes the result; how many environments run does not."""

    task: str
    colours: tuple[str, ...] | None = None
    """Of the objects in the twin; None: all."""
    count: int = 300
    """Successful demonstrations."""
    seed: int = 0
    image_size: int = 96
    plan: PlanConfig = field(default_factory=PlanConfig)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"GenerateConfig.count must be 1 or more, got {self.count}.")


class Generator:
    """An actor that follows plans. What it does in attempt n depends on the seed and n alone."""

    def __init__(self, task: Task, sources: Sequence[Source], *, num_envs: int, seed: int, config: PlanConfig) -> None:
        self._task, self._sources, self._seed, self._config = task, sources, seed, config
        self._running: list[_Run | None] = [None] * num_envs
        self.runs: dict[int, _Run] = {}
        """By attempt; the caller takes out what it has read."""

    def start(self, e: int, initial: InitialState, number: int) -> None:
        """Begin attempt ``number``."""
        run = _Run(number=number, initial=initial, rng=numpy_generator(self._seed, "generate", number))
        self._running[e] = self.runs[number] = run

    def finish(self, e: int) -> None:
        """Let go of environment ``e``."""
        self._running[e] = None

    def act(self, facts: Facts, observation: Mapping[str, Any]) -> Float[ndarray, "E 7"]:
        """Return the next action of each plan; a plan is made at an attempt's first step."""
        del observation
        actions = np.zeros((len(self._running), ACTION_DIM), dtype=np.float32)
        for e, run in enumerate(self._running):
            if run is not None:
                if run.plan is None:
                    self._plan(run, facts, e)
                actions[e] = run.act(self._config)
        return actions

    def stops(self) -> Bool[ndarray, " E"]:
        """Return where the plan is at its end."""
        return np.array([run is not None and run.is_over for run in self._running])

    def _plan(self, run: _Run, facts: Facts, e: int) -> None:
        stage = next(i for i, s in enumerate(self._task.stages) if not s.free_space)
        turned = facts.object_pose[self._task.reference_object(run.initial, stage)][e]
        object_pose = self._task.reference_pose(turned, stage)
        start = run.target = facts.tcp_pose[e].copy()
        source = choose(self._sources, object_pose, config=self._config, rng=run.rng)
        run.plan = plan(source, start=start, object_pose=object_pose, config=self._config, rng=run.rng)


@dataclass(slots=True)
class _Run:
    """One attempt."""

    number: int
    initial: InitialState
    rng: np.random.Generator
    plan: Plan | None = None
    target: Float[ndarray, " 7"] | None = None
    """Commanded pose now, noise included."""
    step: int = 0
    labels: list[Float[ndarray, " 7"]] = field(default_factory=list)
    """The actions without their noise."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the attempt's motion comes from."""
        assert self.plan is not None
        return self.plan.provenance

    @property
    def is_over(self) -> bool:
        return self.plan is not None and self.step >= len(self.plan.targets)

    def act(self, config: PlanConfig) -> Float[ndarray, " 7"]:
        assert self.plan is not None
        assert self.target is not None
        step = min(self.step, len(self.plan.targets) - 1)
        clean = action_between(self.target, self.plan.targets[step], gripper=self.plan.gripper[step])
        action = clean.astype(np.float32)
        # on the arm only: noise on a gripper command would open the hand
        action[:3] += self.rng.normal(size=3).astype(np.float32) * config.noise_m
        self.target = moved(self.target, action)
        self.step += 1
        self.labels.append(clean.astype(np.float32))
        return action


def generate_demonstrations(
    folder: Path,
    demonstrations: Dataset,
    config: GenerateConfig,
    *,
    num_envs: int = 8,
    reporter: Reporter | None = None,
) -> GenerateReport:
    """Write demonstrations generated in the twin from real ones to ``folder``; a finished dataset is kept.

    The same seed gives the same demonstrations on any number of environments. Raises ``ValueError`` in one line if
    ``demonstrations`` cannot be replayed, does not fit the twin, or ``folder`` holds something else.
    """
    inputs = {"demonstrations": demonstrations.fingerprint, **asdict(config)}
    done = finished_report(folder, inputs=inputs)
    if done is not None:
        return GenerateReport(**done)
    with make_world(
        config.task, domain="twin", num_envs=num_envs, seed=config.seed, image_size=config.image_size
    ) as world:
        replayed = replay(world, task(config.task), demonstrations)
        return _generate(folder, replayed, config, world=world, inputs=inputs, reporter=reporter or Silent())


def _generate(
    folder: Path,
    replayed: Replay,
    config: GenerateConfig,
    *,
    world: Any,  # noqa: ANN401
    inputs: dict[str, Any],
    reporter: Reporter,
) -> GenerateReport:
    the_task, keeper = task(config.task), Keeper(count=config.count)
    provenance: list[dict[str, Any]] = []
    actor = Generator(the_task, replayed.sources, num_envs=world.num_envs, seed=config.seed, config=config.plan)
    attempts = _ATTEMPTS_PER_DEMONSTRATION * config.count + 20
    states = the_task.fixed_states(attempts, seed=config.seed, prefix="generate", colours=config.colours)

    def kept() -> Iterator[Episode]:
        for attempt, episode in keeper.successes(record(world, actor, states), reporter):
            run = actor.runs.pop(attempt)
            provenance.append({"attempt": attempt, **run.provenance})
            yield replace(episode, action=np.stack(run.labels)) if config.plan.clean_label else episode

    def finish(root: Path) -> None:
        write_json(root / layout.PROVENANCE_PATH, {"episodes": provenance})
        write_manifest(root, inputs=inputs, outputs=asdict(_report(keeper, replayed)))

    fps = round(the_task.control_hz)
    write_dataset(folder, kept(), fps=fps, robot_type="panda-twin", sidecar=True, finish=finish)
    return _report(keeper, replayed)


def _report(keeper: Keeper, replayed: Replay) -> GenerateReport:
    return GenerateReport(
        count=keeper.count,
        attempts=keeper.attempts,
        success_rate=keeper.success_rate,
        replay_success_rate=replayed.success_rate,
        sources=len(replayed.sources),
        mean_length=keeper.mean_length,
        rejected=dict(keeper.rejected),
        lost=keeper.lost,
        success_rate_by_label=keeper.success_rate_by_label,
    )
