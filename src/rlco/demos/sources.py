"""Seeds of generation: real demonstrations replayed in the twin, cut down to their contact stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from rlco.core.episode import StopReason
from rlco.core.scene import ACTION_DIM, Facts, InitialState
from rlco.data.reader import Dataset
from rlco.demos.targets import commanded_targets
from rlco.rollout.record import record
from rlco.tasks import Task

_MOVED_M = 0.004
"""An object that moved more than this has been touched."""
_IDLE_M = 0.002
"""Targets nearer than this to the last kept one are a pause."""
_IDLE_RAD = 0.01
_WAIT_STEPS = 5
"""Control steps that the twin may still take after the last replayed action."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The contact stage of one demonstration, K control steps."""

    number: int
    """Episode in the seed dataset."""
    start: Float[ndarray, " 7"]
    """Commanded TCP pose at the moment the stage begins."""
    targets: Float[ndarray, "K 7"]
    """Commanded TCP poses after each action of the stage: what was asked for, not what was reached."""
    gripper: Float[ndarray, " K"]
    """Gripper command of each action."""
    object_pose: Float[ndarray, " 7"]
    """The reference object when the stage begins."""
    pruned: int
    """Control steps of the demonstration that were left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """What a replay in the twin showed, T control steps, each read before the action."""

    tcp_pose: Float[ndarray, "T 7"]
    object_pose: Float[ndarray, "T 7"]
    in_contact: Bool[ndarray, " T"]
    """Whether the robot was in a stage that is not free space."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """All seeds, and how well the demonstrations carry over to the twin."""

    sources: tuple[Source, ...]
    total: int
    succeeded: int
    """Demonstrations whose actions alone, open loop, solve the task in the twin."""

    @property
    def success_rate(self) -> float:
        """Share of demonstrations that succeed open loop."""
        return self.succeeded / self.total


def replay(world: Any, task: Task, demonstrations: Dataset) -> Replay:  # noqa: ANN401
    """Replay every demonstration in ``world`` (a twin) and return the contact stages of those that succeed.

    Raises ``ValueError`` if the dataset has no initial states, or if no demonstration succeeds.
    """
    initial = [state for state in demonstrations.initial_states if state is not None]
    if len(initial) < len(demonstrations.episodes):
        raise ValueError(
            f"'{demonstrations.folder}' lacks the initial state of {len(demonstrations.episodes) - len(initial)} "
            "episodes (meta/rlco_initial_states.json): they cannot be replayed."
        )
    for state in initial:
        task.check(state)
    actions = [demonstrations.action[span.start : span.stop] for span in demonstrations.episodes]
    actor = _Player(task, actions, num_envs=world.num_envs)
    sources, succeeded = [], 0
    for number, episode in enumerate(record(world, actor, initial)):
        if episode.stop_reason == StopReason.SUCCESS:
            succeeded += 1
            source = cut(actor.trace(number), episode.action, number=number)
            sources += [] if source is None else [source]
    if not sources:
        raise ValueError(
            f"None of the {len(initial)} demonstrations in '{demonstrations.folder}' succeeds in the twin."
        )
    return Replay(sources=tuple(sources), total=len(initial), succeeded=succeeded)


def cut(trace: Trace, actions: Float[ndarray, "T 7"], *, number: int) -> Source | None:
    """Return the contact stage without its pauses, or None if there is none."""
    first = contact_start(trace)
    if first is None:
        return None
    targets = commanded_targets(trace.tcp_pose[0], actions)
    start = targets[first - 1] if first else trace.tcp_pose[0]
    kept = first + moving(start, targets[first:], actions[first:, 6])
    return Source(
        number=number,
        start=start,
        targets=targets[kept],
        gripper=actions[kept, 6].astype(np.float64),
        object_pose=trace.object_pose[first],
        pruned=len(actions) - len(kept),
    )


def contact_start(trace: Trace) -> int | None:
    """Return the step at which the robot last enters the contact stage before the object first moves.

    What came before is free space and is pruned; an earlier visit that touched nothing was free space too.
    """
    way = np.linalg.norm(trace.object_pose[:, :3] - trace.object_pose[0, :3], axis=1)
    untouched = np.flatnonzero(way <= _MOVED_M)[-1] + 1 if (way <= _MOVED_M).all() else int((way > _MOVED_M).argmax())
    inside = trace.in_contact[: untouched + 1]
    entries = np.flatnonzero(inside & ~np.concatenate([[False], inside[:-1]]))
    return int(entries[-1]) if len(entries) else None


def moving(start: Float[ndarray, " 7"], targets: Float[ndarray, "K 7"], gripper: Float[ndarray, " K"]) -> Any:  # noqa: ANN401  (an integer array; its length is what the function decides)
    """Return the indices of the targets that are no pause: the pose or the gripper changes."""
    kept, last, grip = [], start, gripper[0] if len(gripper) else 0.0
    for k, target in enumerate(targets):
        turned = 2 * np.arccos(np.clip(abs(float(last[3:] @ target[3:])), 0.0, 1.0))
        still = np.linalg.norm(target[:3] - last[:3]) < _IDLE_M and turned < _IDLE_RAD and gripper[k] == grip
        if not still:
            kept.append(k)
            last, grip = target, gripper[k]
    return np.array(kept, dtype=int)


@dataclass(slots=True)
class _Log:
    tcp_pose: list[ndarray] = field(default_factory=list)
    object_pose: list[ndarray] = field(default_factory=list)
    in_contact: list[bool] = field(default_factory=list)


class _Player:
    """An actor that sends recorded actions, open loop, and writes down what happens."""

    def __init__(self, task: Task, actions: Sequence[Float[ndarray, "_ 7"]], *, num_envs: int) -> None:
        self._task, self._actions = task, actions
        self._number: list[int | None] = [None] * num_envs
        self._initial: list[InitialState | None] = [None] * num_envs
        self._logs: dict[int, _Log] = {}

    def start(self, e: int, initial: InitialState, number: int) -> None:
        self._number[e], self._initial[e] = number, initial
        self._logs[number] = _Log()

    def finish(self, e: int) -> None:
        self._number[e] = None

    def act(self, facts: Facts, observation: Mapping[str, Any]) -> Float[ndarray, "E 7"]:
        del observation
        actions = np.zeros((len(self._number), ACTION_DIM), dtype=np.float32)
        stages = self._task.stage(facts)
        for e, (number, initial) in enumerate(zip(self._number, self._initial, strict=True)):
            if number is None or initial is None:
                continue
            log, stage = self._logs[number], int(stages[e])
            t = len(log.tcp_pose)
            log.tcp_pose.append(facts.tcp_pose[e].copy())
            reference = facts.object_pose[self._task.reference_object(initial, stage)][e]
            log.object_pose.append(self._task.reference_pose(reference, stage))
            log.in_contact.append(not self._task.stages[stage].free_space)
            actions[e] = self._actions[number][min(t, len(self._actions[number]) - 1)]
            if t >= len(self._actions[number]):
                actions[e, :6] = 0.0
        return actions

    def stops(self) -> Bool[ndarray, " E"]:
        return np.array(
            [
                number is not None and len(self._logs[number].tcp_pose) >= len(self._actions[number]) + _WAIT_STEPS
                for number in self._number
            ]
        )

    def trace(self, number: int) -> Trace:
        """Return what episode ``number`` showed."""
        log = self._logs.pop(number)
        return Trace(
            tcp_pose=np.stack(log.tcp_pose), object_pose=np.stack(log.object_pose), in_contact=np.array(log.in_contact)
        )
