"""Seeds of generation: real demonstrations replayed in the twin, cut down to their contact stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from rlco.core.scene import InitialState
from rlco.data.reader import Dataset
from rlco.demos.outcome import why_failed
from rlco.demos.replay import Replayed, Trace, replay
from rlco.demos.segments import Segment, WindowConfig, find_segments
from rlco.demos.targets import commanded_targets
from rlco.tasks import Task

_NO_STATE = "no initial state"
_IDLE_M = 0.002
"""Targets nearer than this to the last kept one are a pause."""
_IDLE_RAD = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One contact stage of one demonstration, K control steps."""

    start: Float[ndarray, " 7"]
    """Commanded TCP pose at the moment the stage begins."""
    targets: Float[ndarray, "K 7"]
    """Commanded TCP poses after each action of the stage: what was asked for, not what was reached."""
    gripper: Float[ndarray, " K"]
    """Gripper command of each action."""
    object_pose: Float[ndarray, " 7"]
    """The reference frame when the stage begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seed:
    """What generation takes from one demonstration."""

    number: int
    """Episode in the seed dataset."""
    stages: tuple[Source, ...]
    """One for each stage of the task."""
    pruned: int
    """Control steps of the demonstration that were left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seeds:
    """All seeds, and how well the demonstrations carry over to the twin."""

    seeds: tuple[Seed, ...]
    segments: tuple[tuple[Segment, ...] | None, ...]
    """Of every demonstration; None where there are none."""
    total: int
    succeeded: int
    """Demonstrations whose actions alone, open loop, solve the task in the twin."""
    failed: dict[str, str]
    """Episode number -> why its replay failed."""
    unused: dict[str, str]
    """Episode number -> why a demonstration whose replay succeeded is no seed."""

    @property
    def success_rate(self) -> float:
        """Share of demonstrations that succeed open loop."""
        return self.succeeded / self.total


def seeds_of(
    world: Any,  # noqa: ANN401
    task: Task,
    demonstrations: Dataset,
    *,
    window: WindowConfig,
    segments: Sequence[tuple[Segment, ...] | None] | None = None,
) -> Seeds:
    """Replay every demonstration in ``world`` (a twin) and return the contact stages of those that succeed.

    ``segments``: a person's, instead of those found. Raises ``ValueError`` if the dataset has no initial states, or if
    no demonstration succeeds.
    """
    initial = known_states(task, demonstrations)
    spans = [demonstrations.episodes[number] for number in initial]
    actions = [demonstrations.action[span.start : span.stop] for span in spans]
    found: list[tuple[Segment, ...] | None] = [None] * len(demonstrations.episodes)
    seeds: list[Seed] = []
    failed: dict[str, str] = {}
    unused = {str(n): _NO_STATE for n, state in enumerate(demonstrations.initial_states) if state is None}
    for number, replayed in zip(initial, replay(world, actions, list(initial.values())), strict=True):
        replayed = replace(replayed, number=number)
        its = find_segments(task, replayed, window) if segments is None else segments[number]
        found[number] = None if isinstance(its, str) else its
        if not replayed.succeeded:
            failed[str(replayed.number)] = why_failed(task, replayed)
        elif its is None or isinstance(its, str):
            unused[str(replayed.number)] = its or "left out by hand"
        elif any(segment.start >= len(replayed.trace) for segment in its):
            unused[str(replayed.number)] = "its replay succeeds before its last stage begins"
        else:
            seeds.append(seed_from(task, replayed, its))
    if not seeds:
        reasons = Counter([*failed.values(), *unused.values()]).most_common(3)
        raise ValueError(
            f"None of the {len(initial)} demonstrations in '{demonstrations.folder}' succeeds in the twin and has all "
            f"stages ({', '.join(f'{reason}: {count}' for reason, count in reasons)})."
        )
    succeeded = len(initial) - len(failed)
    return Seeds(
        seeds=tuple(seeds),
        segments=tuple(found),
        total=len(initial),
        succeeded=succeeded,
        failed=failed,
        unused=unused,
    )


def known_states(task: Task, demonstrations: Dataset) -> dict[int, InitialState]:
    """Return the initial states that are known, by episode.

    Raises ``ValueError`` if there are none, or one is of another task.
    """
    if demonstrations.fps != task.control_hz:
        raise ValueError(
            f"'{demonstrations.folder}' was recorded at {demonstrations.fps} Hz, "
            f"the twin acts at {task.control_hz:g} Hz. Resample it with rlco data convert."
        )
    initial = {n: state for n, state in enumerate(demonstrations.initial_states) if state is not None}
    if not initial:
        raise ValueError(
            f"'{demonstrations.folder}' has no initial states (meta/rlco_initial_states.json) to replay from. "
            f"Find them from the motion: rlco recover '{demonstrations.folder}' NEW_FOLDER --task {task.name}"
        )
    for state in initial.values():
        task.check(state)
    return initial


def seed_from(task: Task, replayed: Replayed, segments: Sequence[Segment]) -> Seed:
    """Return the stages of one demonstration without their pauses."""
    stages = []
    for i, segment in enumerate(segments):
        turned = replayed.trace.object_pose[task.reference_object(replayed.initial, i)][segment.start]
        stages.append(cut(replayed.trace, segment, object_pose=task.reference_pose(turned, i)))
    kept = sum(len(stage.targets) for stage in stages)
    return Seed(number=replayed.number, stages=tuple(stages), pruned=len(replayed.trace) - kept)


def cut(trace: Trace, segment: Segment, *, object_pose: Float[ndarray, " 7"]) -> Source:
    """Return one stage without its pauses; ``object_pose``: its reference frame when it begins."""
    targets = commanded_targets(trace.tcp_pose[0], trace.action)
    first, end = segment.start, min(segment.end, len(trace))
    start = targets[first - 1] if first else trace.tcp_pose[0]
    kept = first + moving(start, targets[first:end], trace.action[first:end, 6])
    # what a stage of pauses alone asks for is its last pose
    kept = kept if len(kept) else np.array([end - 1])
    return Source(start=start, targets=targets[kept], gripper=np.sign(trace.action[kept, 6]), object_pose=object_pose)


def moving(
    start: Float[ndarray, " 7"], targets: Float[ndarray, "K 7"], gripper: Float[ndarray, " K"]
) -> Int[ndarray, " n"]:
    """Return the indices of the targets that are no pause: the pose or the gripper changes."""
    kept, last, grip = [], start, gripper[0] if len(gripper) else 0.0
    for k, target in enumerate(targets):
        turned = 2 * np.arccos(np.clip(abs(float(last[3:] @ target[3:])), 0.0, 1.0))
        still = np.linalg.norm(target[:3] - last[:3]) < _IDLE_M and turned < _IDLE_RAD and gripper[k] == grip
        if not still:
            kept.append(k)
            last, grip = target, gripper[k]
    return np.array(kept, dtype=int)
