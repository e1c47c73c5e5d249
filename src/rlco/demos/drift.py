"""How far the twin drifts from a recording when the same actions are sent to it, open loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.scene import InitialState
from rlco.data.reader import Dataset
from rlco.demos.outcome import why_failed
from rlco.demos.recover.agreement import angle_rad, distance_m
from rlco.demos.recover.recorded import home_pose, recorded_motion, robot_start
from rlco.demos.replay import replay, steps_for
from rlco.tasks import Task
from rlco.tasks import task as task_of
from rlco.tasks.motion import Motion, Recoverable, UnreadableMotionError
from rlco.worlds.make import make_world


class Poses(StrEnum):
    """Where the objects of a replay come from."""

    SIDECAR = "sidecar"
    GUESSED = "guessed"
    """The likeliest guess from the motion, without a search."""
    ANY = "any"
    """Nothing is known: only the robot's own motion can be compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """One episode: the twin's TCP against the recorded one, before each of the T control steps that both have."""

    number: int
    position_m: Float[ndarray, " T"]
    angle_rad: Float[ndarray, " T"]
    poses: Poses
    succeeded: bool | None
    """Whether the goal was met in the twin; None where the objects' places are unknown."""
    reason: str
    """Why not; empty if it was, or is unknown."""


def drift(
    dataset: Dataset, task_name: str, episodes: Sequence[int] | None = None, *, num_envs: int = 16
) -> list[Drift]:
    """Replay ``episodes`` (all by default) in the twin and return how far it drifts.

    Raises ``ValueError`` in one line if there is no such episode, the control rate is another one, an initial state is
    of another task, or a recording starts where the twin cannot.
    """
    task = task_of(task_name)
    chosen = list(range(len(dataset.episodes))) if episodes is None else list(episodes)
    for number in chosen:
        if not 0 <= number < len(dataset.episodes):
            raise ValueError(f"'{dataset.folder}' has {len(dataset.episodes)} episodes, there is no episode {number}.")
    if dataset.fps != round(task.control_hz):
        raise ValueError(f"'{dataset.folder}' has {dataset.fps} Hz, '{task_name}' {task.control_hz:g} Hz.")
    motions = [recorded_motion(dataset, number) for number in chosen]
    spans = [dataset.episodes[number] for number in chosen]
    clock = steps_for([len(span) for span in spans], least=task.max_steps)
    with make_world(task, num_envs=min(num_envs, max(len(chosen), 1)), render="none", max_steps=clock) as world:
        home = home_pose(world, task)
        starts = [_start(dataset, task, n, m, home=home) for n, m in zip(chosen, motions, strict=True)]
        actions = [np.asarray(dataset.action[span.start : span.stop], dtype=np.float64) for span in spans]
        found = []
        for done in replay(world, actions, [state for state, _ in starts]):
            poses, theirs = starts[done.number][1], motions[done.number].tcp_pose
            steps = min(len(theirs), len(done.trace.tcp_pose))
            ours, known = done.trace.tcp_pose[:steps], poses != Poses.ANY
            found.append(
                Drift(
                    number=chosen[done.number],
                    position_m=distance_m(ours, theirs[:steps]),
                    angle_rad=angle_rad(ours, theirs[:steps]),
                    poses=poses,
                    succeeded=done.succeeded if known else None,
                    reason=why_failed(task, done) if known else "",
                )
            )
    return found


def drift_summary(found: Sequence[Drift]) -> dict[str, Any]:
    """Return the figures of all episodes together, as JSON values. Lengths in metres, angles in radians."""
    if not found:
        return {"episodes": 0}
    known = [its for its in found if its.succeeded is not None]
    ends = np.array([its.position_m[-1] for its in found])
    position, angle = (np.concatenate([getattr(its, name) for its in found]) for name in ("position_m", "angle_rad"))
    return {
        "episodes": len(found),
        "poses": dict(Counter(str(its.poses) for its in found)),
        "succeeded": sum(bool(its.succeeded) for its in known),
        "of": len(known),
        "position_m": {"median": float(np.median(position)), "p95": float(np.percentile(position, 95))},
        "angle_rad": {"median": float(np.median(angle)), "p95": float(np.percentile(angle, 95))},
        "position_at_the_end_m": {"median": float(np.median(ends)), "worst": float(ends.max())},
        "worst_episode": int(found[int(np.argmax([its.position_m.max() for its in found]))].number),
        "failed": {str(its.number): its.reason for its in known if not its.succeeded},
    }


def _start(
    dataset: Dataset, task: Task, number: int, motion: Motion, *, home: Float[ndarray, " 7"]
) -> tuple[InitialState, Poses]:
    """Return where the replay of an episode starts."""
    known = dataset.initial_states[number]
    if known is not None:
        task.check(known)
        return known, Poses.SIDECAR
    instruction, name = dataset.episodes[number].task, f"{task.name}/replay/{number:04d}"
    try:
        robot = robot_start(motion.tcp_pose[0], home=home)
    except UnreadableMotionError as error:
        raise ValueError(f"'{dataset.folder}', episode {number}: {error}.") from None
    if isinstance(task, Recoverable):
        try:
            return robot.put(task.guesses(motion, instruction)[0].state, name=name), Poses.GUESSED
        except UnreadableMotionError:
            pass
    anything = replace(task.fixed_states(1, seed=0, prefix="replay")[0], instruction=instruction)
    return robot.put(anything, name=name), Poses.ANY
