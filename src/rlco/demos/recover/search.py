"""Search for the starts from which recorded actions succeed in the twin; many demonstrations side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.progress import Reporter
from rlco.core.rng import numpy_generator
from rlco.core.scene import InitialState
from rlco.demos.outcome import why_failed
from rlco.demos.recover.agreement import Agreement, agreement
from rlco.demos.recover.candidates import Candidate, Spread, fresh, near
from rlco.demos.recover.recorded import replayed_motion
from rlco.demos.replay import Replayed, replay
from rlco.tasks import Task
from rlco.tasks.motion import Guess, Motion, Recoverable, UnreadableMotionError

_LESS_LIKELY_M = 0.0003
"""By how much a guess must agree better than the one before it to be preferred."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """How much is tried. Everything here changes the result."""

    budget: int = 28
    """Starts of one demonstration that are replayed, at most."""
    guesses: int = 6
    """Of them guesses from the recorded motion, at most, and as many from the twin's own motion."""
    batch: int = 6
    """Starts near the guesses that a demonstration without a success tries at a time."""
    refine: int = 2
    """Starts near the best success that are tried to agree better."""
    spread: Spread = field(
        default_factory=lambda: Spread(position_m=0.005, yaw_rad=float(np.deg2rad(3.0)), opening_m=0.003)
    )
    """Around a guess; wider from batch to batch."""
    growth: float = 1.5
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.budget, self.guesses, self.batch) < 1 or self.refine < 0:
            raise ValueError(f"SearchConfig needs at least one guess and a batch of one, got {self}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """A start that was replayed, and what came of it."""

    candidate: Candidate
    succeeded: bool
    agreement: Agreement
    reason: str
    motion: Motion
    """With the poses that the twin's robot reached."""

    @property
    def order(self) -> tuple[bool, float]:
        """Return what sorts the better first."""
        return not self.succeeded, self.agreement.total_m + self.candidate.away_m


@dataclass(slots=True)
class Demonstration:
    """One that is being searched."""

    number: int
    motion: Motion
    action: Float[ndarray, "T 7"]
    instruction: str
    put: Callable[[InitialState], InitialState]
    """Adds name and robot start."""
    guesses: tuple[Guess, ...]
    tried: list[Tried] = field(default_factory=list)

    @property
    def best(self) -> Tried:
        """Return the success that agrees best, or the nearest failure."""
        return min(self.tried, key=lambda its: its.order)

    @property
    def solved(self) -> bool:
        """Return whether a start has succeeded."""
        return any(its.succeeded for its in self.tried)


def search(
    world: Any,  # noqa: ANN401
    task: Task,
    demonstrations: Sequence[Demonstration],
    config: SearchConfig,
    *,
    reporter: Reporter,
) -> None:
    """Fill in ``tried`` of each demonstration.

    The guesses come first, then those from where the twin's own gripper goes, then starts near them, wider and wider,
    until one succeeds. Among successes the agreement decides, so some near the best one are tried as well.
    """
    active, rounds = list(demonstrations), 0
    while active:
        wanted = {its.number: _next(task, its, config, rounds) for its in active}
        _try(world, task, active, wanted, reporter=reporter)
        # the first three rounds are the guesses, the twin's guesses, and the first batch or the refinement
        left = [its for its in active if rounds < 2 or (not its.solved and len(its.tried) < config.budget)]
        reporter.advance(len(active) - len(left))
        active, rounds = left, rounds + 1


def _next(task: Task, its: Demonstration, config: SearchConfig, rounds: int) -> list[Candidate]:
    """Return what a demonstration tries in this round."""
    tried, room = [done.candidate for done in its.tried], config.budget - len(its.tried)
    if rounds == 0:
        return fresh(_guessed(its, its.guesses), tried)[: min(config.guesses, room)]
    if rounds == 1:
        return [] if its.solved else fresh(_twins(task, its), tried)[: min(config.guesses, room)]
    rng = numpy_generator(config.seed, "recover", task.name, its.number, rounds)
    best = its.best.candidate
    if its.solved:
        spread = config.spread.grown(0.5)
        return [near(task, best, rng, spread) for _ in range(min(config.refine, room))]
    spread = config.spread.grown(config.growth ** (rounds - 2))
    # around the guesses in turn, and around what came nearest
    centres = [done for done in tried if done.by != "search"]
    return [
        near(task, best if i % 2 else centres[i // 2 % len(centres)], rng, spread)
        for i in range(min(config.batch, room))
    ]


def _guessed(its: Demonstration, guesses: Sequence[Guess]) -> list[Candidate]:
    return [
        Candidate(state=its.put(guess.state), by=guess.by, away_m=i * _LESS_LIKELY_M) for i, guess in enumerate(guesses)
    ]


def _twins(task: Task, its: Demonstration) -> list[Candidate]:
    """Return the guesses from where the twin's gripper goes: it lags less, or more, than the real one."""
    assert isinstance(task, Recoverable)
    try:
        guesses = task.guesses(its.tried[0].motion, its.instruction)
    except UnreadableMotionError:
        return []
    return [replace(done, by=f"{done.by}, in the twin") for done in _guessed(its, guesses)]


def _try(
    world: Any,  # noqa: ANN401
    task: Task,
    demonstrations: Sequence[Demonstration],
    wanted: dict[int, list[Candidate]],
    *,
    reporter: Reporter,
) -> None:
    """Replay all candidates and note what came of them."""
    jobs = [(its, candidate) for its in demonstrations for candidate in wanted[its.number]]
    actions, states = [its.action for its, _ in jobs], [candidate.state for _, candidate in jobs]
    for done in replay(world, actions, states):
        its, candidate = jobs[done.number]
        its.tried.append(_judged(task, its, candidate, done))
        reporter.advance(0, note=f"start {done.number + 1} of {len(jobs)} for {len(demonstrations)} demonstrations")


def _judged(task: Task, its: Demonstration, candidate: Candidate, replayed: Replayed) -> Tried:
    return Tried(
        candidate=candidate,
        succeeded=replayed.succeeded,
        agreement=agreement(its.motion, replayed),
        reason=why_failed(task, replayed),
        motion=replayed_motion(its.motion, replayed),
    )
