"""Record demonstrations of the scripted operator as a LeRobot dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rlco.core.episode import Episode, StopReason
from rlco.core.errors import unknown_name
from rlco.core.files import write_manifest
from rlco.core.progress import Reporter, Silent
from rlco.core.scene import InitialState
from rlco.data.writer import DatasetWriter
from rlco.demos.keep import finished_report
from rlco.demos.operator import STYLES, TELEOP, Operator, TeleopStyle
from rlco.demos.tally import Tally
from rlco.rollout.record import record
from rlco.tasks import task, task_fingerprint
from rlco.worlds.make import make_world
from rlco.worlds.world import World

_ATTEMPTS_PER_DEMONSTRATION = 2
"""An operator that fails more often than one in this many is not recorded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordReport:
    """What recording did; also in the dataset's manifest."""

    count: int
    attempts: int
    """Up to and including the last kept one."""
    success_rate: float
    """Of the operator."""
    mean_length: float
    """Control steps of a kept demonstration."""
    rejected: dict[str, int]
    """Reason -> attempts."""
    lost: int
    success_rate_by_label: dict[str, float]
    """Such as ``place=left`` -> share of the attempts there that succeed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordConfig:
    """What is recorded. Everything here changes the result; how many environments run does not."""

    task: str
    domain: str = "standin"
    reality: int = 0
    objects: tuple[str, ...] | None
    """Of the objects that exist there; None: all."""
    count: int = 50
    """Successful demonstrations."""
    seed: int = 0
    image_size: int = 96
    style: TeleopStyle = TELEOP

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"RecordConfig.count must be 1 or more, got {self.count}.")


def style(name: str) -> TeleopStyle:
    """Return the operator's style of that name. Raises ``LookupError`` naming the nearest one."""
    if name not in STYLES:
        raise unknown_name("operator style", name, STYLES)
    return STYLES[name]


def record_demonstrations(
    folder: Path, config: RecordConfig, *, num_envs: int = 8, reporter: Reporter | None = None
) -> RecordReport:
    """Write successful demonstrations of the scripted operator to ``folder``; a finished recording is kept.

    An interrupted one goes on where it was. Initial states go into a sidecar of the dataset. Raises ``ValueError`` in
    one line before anything is recorded if ``folder`` holds something else.
    """
    inputs = {**json.loads(json.dumps(asdict(config))), "scene": task_fingerprint(config.task)}
    done = finished_report(folder, inputs=inputs)
    if done is not None:
        return RecordReport(**done)
    the_task = task(config.task)
    attempts = _ATTEMPTS_PER_DEMONSTRATION * config.count + 10
    states = the_task.fixed_states(attempts, seed=config.seed, prefix="record", objects=config.objects)
    writer = DatasetWriter(
        folder, fps=round(the_task.control_hz), robot_type=f"panda-{config.domain}", inputs=inputs, sidecar=True
    )
    with writer, _world(config, num_envs=num_envs) as world:
        operator = Operator(the_task, num_envs=num_envs, seed=config.seed, style=config.style)
        tally = _record(writer, partial(record, world, operator), states, config.count, reporter or Silent())
        report = _report(tally)
        writer.finish(lambda root: write_manifest(root, inputs=inputs, outputs=asdict(report)))
    return report


def _world(config: RecordConfig, *, num_envs: int) -> World:
    return make_world(
        config.task,
        domain=config.domain,
        reality=config.reality,
        num_envs=num_envs,
        seed=config.seed,
        image_size=config.image_size,
    )


def _record(
    writer: DatasetWriter,
    episodes: Callable[..., Iterator[Episode]],
    states: Sequence[InitialState],
    count: int,
    reporter: Reporter,
) -> Tally:
    """Add successes to ``writer`` until there are ``count``, from where an interrupted recording was."""
    first, tally = 0, Tally()
    if writer.finished:
        extra = writer.finished[-1].extra
        assert extra is not None
        first, tally = extra["attempt"] + 1, Tally.from_json(extra["tally"])
        reporter.reach(writer.count, count)
    if writer.count == count:
        return tally
    for attempt, episode in enumerate(episodes(states[first:], first=first), first):
        if not _count(tally, states[attempt], episode):
            continue
        writer.add(episode, extra={"attempt": attempt, "tally": tally.to_json()})
        reporter.advance(note=f"success rate {tally.total.kept / tally.total.attempts:.2f}")
        if writer.count == count:
            return tally
    raise ValueError(
        f"Only {writer.count} of {count} demonstrations after {tally.total.attempts} attempts "
        f"(rejected: {dict(tally.total.rejected)}, lost: {tally.lost}): the operator does not fit this world."
    )


def _count(tally: Tally, initial: InitialState, episode: Episode) -> bool:
    """Count an attempt; return whether it is kept."""
    if episode.stop_reason == StopReason.LOST:
        tally.lost += 1
        return False
    succeeded = episode.stop_reason == StopReason.SUCCESS
    tally.attempt(initial, None if succeeded else episode.stop_reason.value)
    tally.steps += len(episode) if succeeded else 0
    return succeeded


def _report(tally: Tally) -> RecordReport:
    total = tally.total
    return RecordReport(
        count=total.kept,
        attempts=total.attempts,
        success_rate=total.kept / max(total.attempts, 1),
        mean_length=tally.steps / max(total.kept, 1),
        rejected=dict(total.rejected),
        lost=tally.lost,
        success_rate_by_label={
            label: its.kept / its.attempts for label, its in sorted(tally.by_label.items()) if its.attempts
        },
    )
