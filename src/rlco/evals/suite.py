"""Evaluate a policy on named initial states.

The answer depends on the policy, the states, the repeats and the seed. How many environments share the work changes it
by rounding only: an episode draws its noise from a generator of its own, named by (seed, state, repeat). An environment
starts the next episode as soon as its own has ended.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy import ndarray
from torch import Tensor

from rlco.core.episode import StopReason
from rlco.core.policy import Observation, Sample
from rlco.core.progress import Reporter, Silent
from rlco.core.rng import seed_of
from rlco.core.scene import Facts, InitialState
from rlco.evals.outcome import Ending, EpisodeOutcome, EvaluationResult
from rlco.tasks.contract import Stage
from rlco.tasks.progress import Progress, is_moved

States = Literal["eval", "dev"]
_MOST_TRIES = 5
"""Of an episode whose process dies: what kills so many may be the episode itself."""


@runtime_checkable
class EvaluatedPolicy(Protocol):
    """What an evaluation needs of ``rlco.core.policy.Policy``."""

    @property
    def executed(self) -> int:
        """How many control steps of a chunk are executed."""
        ...

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the standard normal numbers that decide one sample."""
        ...

    def sample(
        self, observation: Observation, *, explore: bool, generator: torch.Generator, noise: Tensor | None
    ) -> Sample:
        """Draw chunks from the noise given."""
        ...


@runtime_checkable
class EvaluatedTask(Protocol):
    """What sorting failures needs of ``rlco.tasks.Task``."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The contact stages."""
        ...

    def reference_object(self, state: InitialState, stage: int) -> str:
        """Return the thing that a stage is about."""
        ...

    def progress(self, facts: Facts) -> Int[ndarray, " E"]:
        """Return how far the robot is at this moment."""
        ...


@runtime_checkable
class EvaluatedWorld(Protocol):
    """What an evaluation needs of a world; ``mask`` says which environments a reset concerns."""

    num_envs: int

    @property
    def workers_lost(self) -> int:
        """Return how many processes died so far, and were replaced."""
        ...

    @property
    def task(self) -> EvaluatedTask:
        """What is to be done there."""
        ...

    def reset(self, *, initial_states: Sequence[InitialState], mask: np.ndarray) -> tuple[dict[str, Any], dict]:
        """Start the masked environments; ``initial_states`` names one for each of them, in order."""
        ...

    def step_chunk(
        self, actions: np.ndarray, *, render: str | None = None
    ) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, dict]:
        """Run (E, h, 7) actions; with ``render="all"``, ``info["images"]`` holds what is seen after every step."""
        ...

    def facts(self) -> Facts:
        """Return where everything is."""
        ...

    def close(self) -> None:
        """Stop the worker processes."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationSettings:
    """The world and the protocol of an evaluation."""

    task: str
    domain: str
    """twin, standin or robot."""
    reality: int = 0
    """Which hidden draw of the stand-in; the twin ignores it."""
    image_size: int = 96
    num_envs: int = 8
    repeats: int = 2
    """Episodes on each initial state."""
    seed: int = 0
    shift: str | None = None
    """The task's distribution shift that the initial states are drawn under."""
    temperature: float | None = None
    """At which a policy that draws tokens draws them. None: the policy's own."""
    states: States = "eval"
    """Which fixed list of initial states: ``eval`` is reported, on ``dev`` settings are chosen."""

    def __post_init__(self) -> None:
        for name in ("image_size", "num_envs", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"EvaluationSettings.{name} must be 1 or more, got {getattr(self, name)}.")
        if self.temperature is not None and not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"EvaluationSettings.temperature must be 0 or more, finite, got {self.temperature}.")


@dataclass(kw_only=True, slots=True)
class Running:
    """The episode that an environment is in."""

    state: InitialState
    repeat: int
    generator: torch.Generator
    """Draws this episode's noise and nobody else's."""
    things: tuple[str, ...]
    """That belong to the task; the first is the named one."""
    steps: int = 0
    furthest: Progress = Progress.AWAY
    now: Progress = Progress.AWAY
    moved_other: bool = False
    """Whether something that does not belong to the task was moved."""
    shift_m: tuple[float, float] | None = None
    """Of the named thing, from its start."""

    def follow(self, facts: Facts, e: int, progress: Progress) -> None:
        """Take notice of what is so now in environment ``e``."""
        named, start = self.things[0], self.state.object_pose
        self.now, self.furthest = progress, max(self.furthest, progress)
        self.moved_other |= any(is_moved(facts, e, name) for name in start if name not in self.things)
        x, y = (facts.object_pose[named][e, :2] - np.array(start[named][:2])).tolist()
        self.shift_m = (x, y)


def evaluate(
    policy: EvaluatedPolicy,
    *,
    name: str,
    settings: EvaluationSettings,
    initial_states: Sequence[InitialState],
    make_world: Callable[..., EvaluatedWorld],
    reporter: Reporter | None = None,
) -> EvaluationResult:
    """Run every initial state ``settings.repeats`` times; ``name`` is the method's name in tables.

    ``make_world`` is ``rlco.worlds.make_world``, or a function like it.
    """
    require_distinct(initial_states)
    began = time.monotonic()
    jobs = deque((state, repeat) for repeat in range(settings.repeats) for state in initial_states)
    world = make_world(
        settings.task,
        domain=settings.domain,
        num_envs=min(settings.num_envs, len(jobs)),
        seed=settings.seed,
        reality=settings.reality,
        image_size=settings.image_size,
    )
    try:
        outcomes = Suite(policy, world, jobs=jobs, settings=settings).run(reporter or Silent())
    finally:
        world.close()
    order = {state.name: i for i, state in enumerate(initial_states)}
    return EvaluationResult(
        policy=name,
        settings=asdict(settings),
        outcomes=tuple(sorted(outcomes, key=lambda o: (order[o.state], o.repeat))),
        seconds=time.monotonic() - began,
    )


class Suite:
    """The episodes still to run, spread over the environments of one world."""

    def __init__(
        self,
        policy: EvaluatedPolicy,
        world: EvaluatedWorld,
        *,
        jobs: deque[tuple[InitialState, int]],
        settings: EvaluationSettings,
    ) -> None:
        self.policy = policy
        self.world = world
        self.jobs = jobs
        self.settings = settings
        self.running: dict[int, Running] = {}
        """Environment -> its episode."""
        self.outcomes: list[EpisodeOutcome] = []
        self.workers_lost = world.workers_lost
        self.tries: Counter[tuple[str, int]] = Counter()

    def run(self, reporter: Reporter) -> list[EpisodeOutcome]:
        """Run to the last episode."""
        observation = self.start_idle({})
        while self.running:
            actions = self.act(observation)
            observation, _, terminated, truncated, info = self.world.step_chunk(actions)
            ended = self.note(info, over=np.any(terminated | truncated, axis=1))
            observation = self.start_idle(observation)
            if ended:
                solved = sum(o.success for o in self.outcomes)
                reporter.advance(ended, note=f"success {solved / len(self.outcomes):.2f}")
        return self.outcomes

    def start_idle(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Start the next episodes in the environments that have none."""
        idle = [e for e in range(self.world.num_envs) if e not in self.running][: len(self.jobs)]
        if not idle:
            return observation
        mask = np.isin(np.arange(self.world.num_envs), idle)
        for e in idle:
            state, repeat = self.jobs.popleft()
            seed = seed_of(self.settings.seed, "evaluation", state.name, repeat)
            self.running[e] = Running(
                state=state,
                repeat=repeat,
                generator=torch.Generator().manual_seed(seed),
                things=things_of(self.world.task, state),
            )
        states = [self.running[e].state for e in idle]
        return self.world.reset(initial_states=states, mask=mask)[0]

    def act(self, observation: Mapping[str, Any]) -> np.ndarray:
        """Return the actions to send; an environment without an episode gets zeros."""
        rows = sorted(self.running)
        noise = torch.stack([torch.randn(self.policy.noise_shape, generator=self.running[e].generator) for e in rows])
        chunk = chunk_of(self.policy, observation, rows=rows, noise=noise)
        actions = np.zeros((self.world.num_envs, *chunk.shape[1:]), dtype=np.float32)
        actions[rows] = chunk
        return actions

    def note(self, info: Mapping[str, Any], *, over: Bool[ndarray, " E"]) -> int:
        """Follow the running episodes; file those that ended and return how many did.

        An episode that was lost with its process is run again: its draws are its own, so that it is the same one.
        """
        facts = self.world.facts()
        progress = self.world.task.progress(facts)
        before, died = len(self.outcomes), self.world.workers_lost > self.workers_lost
        self.workers_lost = self.world.workers_lost
        for e, episode in list(self.running.items()):
            lost = bool(info["lost"][e])
            if lost and died and self.is_tried_again(episode):
                self.jobs.appendleft((episode.state, episode.repeat))
                del self.running[e]
                continue
            episode.steps += int(info["valid"][e].sum())
            if not lost:
                episode.follow(facts, e, Progress(int(progress[e])))
            if lost or over[e]:
                reason = StopReason.TIME_LIMIT
                if lost or info["success"][e]:
                    reason = StopReason.LOST if lost else StopReason.SUCCESS
                self.outcomes.append(outcome_of(episode, reason))
                del self.running[e]
        return len(self.outcomes) - before

    def is_tried_again(self, episode: Running) -> bool:
        """Count one more try of an episode; return whether it is not its last."""
        key = episode.state.name, episode.repeat
        self.tries[key] += 1
        return self.tries[key] < _MOST_TRIES


def chunk_of(
    policy: EvaluatedPolicy, observation: Mapping[str, Any], *, rows: Sequence[int], noise: Tensor
) -> np.ndarray:
    """Return the executed part of the chunks that the policy draws for some rows of a world's observation."""
    seen = Observation(
        image=torch.from_numpy(np.ascontiguousarray(observation["image"][rows])),
        state=torch.from_numpy(np.ascontiguousarray(observation["state"][rows], dtype=np.float32)),
        instruction=tuple(observation["instruction"][e] for e in rows),
    )
    with torch.inference_mode():
        sample = policy.sample(seen, explore=False, generator=torch.Generator().manual_seed(0), noise=noise)
    return sample.action[:, : policy.executed].cpu().numpy()


def things_of(task: EvaluatedTask, state: InitialState) -> tuple[str, ...]:
    """Return what belongs to the task, the named thing first."""
    return tuple(task.reference_object(state, i) for i in range(len(task.stages)))


def ending(episode: Running, reason: StopReason) -> Ending:
    """Return how the episode ended: the furthest that was seen, and whether it was kept."""
    if reason in (StopReason.SUCCESS, StopReason.LOST):
        return Ending.SUCCESS if reason is StopReason.SUCCESS else Ending.LOST
    if episode.moved_other and episode.furthest < Progress.GRASPED:
        return Ending.WRONG_OBJECT
    if episode.furthest is Progress.UNDER_WAY:
        return Ending.DROPPED if episode.now < Progress.GRASPED else Ending.TIMED_OUT
    return _FURTHEST[episode.furthest]


_FURTHEST = {
    Progress.AWAY: Ending.NEVER_REACHED,
    Progress.REACHED: Ending.REACHED,
    Progress.GRASPED: Ending.GRASPED,
}


def outcome_of(episode: Running, reason: StopReason) -> EpisodeOutcome:
    """Return the record of an episode that ended."""
    x, y = episode.state.object_pose[episode.things[0]][:2]
    return EpisodeOutcome(
        state=episode.state.name,
        repeat=episode.repeat,
        stop_reason=reason,
        steps=episode.steps,
        ending=ending(episode, reason),
        start_m=(float(x), float(y)),
        shift_m=None if reason is StopReason.LOST else episode.shift_m,
        labels=dict(episode.state.labels),
    )


def require_distinct(states: Sequence[InitialState]) -> None:
    """Raise ``ValueError`` for an empty list of states or a name that occurs twice."""
    if not states:
        raise ValueError("An evaluation needs at least one initial state.")
    names = [state.name for state in states]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Initial states must have distinct names; these occur twice: {', '.join(twice[:5])}.")
