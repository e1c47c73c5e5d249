"""Where the stages of a demonstration begin and end, found from a replay's trace or corrected by a person in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from rlco.core.files import write_json
from rlco.demos.replay import Replayed, Trace
from rlco.tasks import Stage, Task
from rlco.tasks.contract import Ends

SEGMENTS_PATH = "meta/rlco_segments.json"
"""Sidecar of a seed dataset: per episode a list of {stage, start, end}, or null for one that is not to be used."""
_MOVED_M = 0.004
"""An object that moved more than this has been touched."""
_FLICKER_STEPS = 2
"""A grasp that is not seen for at most so many control steps goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Control steps ``start`` to ``end`` - 1 of a demonstration: one contact stage."""

    stage: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowConfig:
    """How much of a demonstration belongs to a stage; the rest is free space and is pruned."""

    near_m: float = 0.05
    """A stage begins where the hand last comes this near to where it will touch: sideways if it grasps or lets go."""
    above_m: float = 0.10
    """There the way down belongs to the stage too, from at most this far above."""
    retreat_steps: int = 4
    """Control steps after the gripper opened that still belong to the stage."""

    def __post_init__(self) -> None:
        if min(self.near_m, self.above_m) <= 0 or self.retreat_steps < 0:
            raise ValueError(f"WindowConfig needs near_m, above_m > 0 and retreat_steps >= 0, got {self}.")


def find_segments(task: Task, replayed: Replayed, window: WindowConfig) -> tuple[Segment, ...] | str:
    """Return the stages of one replayed demonstration in order, or in a few words why there are none.

    ``GRASP`` ends when the object is first seen between the fingers, of the grasp in which it is carried farthest;
    ``RELEASE`` some steps after the gripper opens; ``EPISODE`` with the trace. Ends are exclusive.
    """
    trace, found, after = replayed.trace, [], 0
    held: str | None = None
    for i, stage in enumerate(task.stages):
        reference = task.reference_object(replayed.initial, i)
        if stage.ends == Ends.GRASP:
            end = anchor = _grasp(trace, reference, after)
            held = reference
        elif stage.ends == Ends.RELEASE:
            anchor = _opening(trace, after)
            end = None if anchor is None else min(anchor + 1 + window.retreat_steps, len(trace))
        else:
            end, anchor = len(trace), _touch(trace, reference, after)
        if end is None or anchor is None:
            return _missing(stage, reference, held)
        start = _entry(trace.tcp_pose[after : anchor + 1, :3], window, is_vertical=stage.ends != Ends.EPISODE)
        start += after
        found.append(Segment(stage=stage.name, start=start, end=end))
        after = end
    return tuple(found)


def _missing(stage: Stage, reference: str, held: str | None) -> str:
    if stage.ends == Ends.GRASP:
        return f"never grasped the {reference}"
    if stage.ends == Ends.RELEASE:
        return f"never released the {held or reference}"
    return f"never touched the {reference}"


def _grasp(trace: Trace, name: str, after: int) -> int | None:
    """Return how many control steps lead to the grasp in which the object is carried farthest."""
    place, best, farthest = trace.object_pose[name][:, :3], None, -1.0
    for first, last in spells(trace.grasped[name]):
        carried = float(np.linalg.norm(place[last] - place[first]))
        if first > after and carried > farthest:
            best, farthest = first, carried
    return best


def _opening(trace: Trace, after: int) -> int | None:
    """Return the first control step from ``after`` on whose command opens the gripper."""
    opens = np.flatnonzero(trace.action[after:, 6] > 0)
    return after + int(opens[0]) if len(opens) else None


def _touch(trace: Trace, name: str, after: int) -> int | None:
    """Return the moment at which the thing is first touched or has moved."""
    place = trace.object_pose[name][:, :3]
    touched = trace.touching[name] | (np.linalg.norm(place - place[after], axis=1) > _MOVED_M)
    moments = np.flatnonzero(touched[after : len(trace)])
    return after + int(moments[0]) if len(moments) else None


def _entry(tcp_m: Float[ndarray, "n 3"], window: WindowConfig, *, is_vertical: bool) -> int:
    """Return the moment at which the hand last comes near to where it is at the last of these moments.

    An earlier visit that touched nothing was free space.
    """
    off = tcp_m - tcp_m[-1]
    far = np.linalg.norm(off[:, : 2 if is_vertical else 3], axis=1) > window.near_m
    if is_vertical:
        far |= off[:, 2] > window.above_m
    return int(np.flatnonzero(far)[-1]) + 1 if far.any() else 0


def spells(held: Bool[ndarray, " T1"]) -> list[tuple[int, int]]:
    """Return (first, last) moment of each time that something is held; short gaps do not end one."""
    found: list[tuple[int, int]] = []
    for t in np.flatnonzero(held).tolist():
        if found and t - found[-1][1] <= _FLICKER_STEPS + 1:
            found[-1] = (found[-1][0], t)
        else:
            found.append((t, t))
    return found


def write_segments(folder: Path, task: Task, segments: Sequence[Sequence[Segment] | None]) -> Path:
    """Write a proposal for a person to correct into the dataset ``folder``; return the file's path.

    Raises ``ValueError`` if the file exists: somebody may have corrected it.
    """
    path = folder / SEGMENTS_PATH
    if path.exists():
        raise ValueError(f"'{path}' exists and may have been corrected: delete it to have a new proposal written.")
    episodes = [None if its is None else [asdict(segment) for segment in its] for its in segments]
    write_json(path, {"task": task.name, "episodes": episodes})
    return path


def read_segments(folder: Path, task: Task, *, lengths: Sequence[int]) -> list[tuple[Segment, ...] | None] | None:
    """Return the segments of the dataset's sidecar, or None if it has none.

    ``lengths``: control steps of each episode. Raises ``ValueError`` in one line that names the episode.
    """
    path = folder / SEGMENTS_PATH
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text())
        name, episodes = value["task"], list(value["episodes"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' is no file of segments: {error}.") from error
    if name != task.name:
        raise ValueError(f"'{path}' holds segments of the task '{name}', not '{task.name}'.")
    if len(episodes) != len(lengths):
        raise ValueError(f"'{path}' has {len(episodes)} episodes, the dataset {len(lengths)}.")
    return [
        None if its is None else _checked(its, task, length=length, where=f"'{path}', episode {number}")
        for number, (its, length) in enumerate(zip(episodes, lengths, strict=True))
    ]


def _checked(value: Sequence[Mapping[str, Any]], task: Task, *, length: int, where: str) -> tuple[Segment, ...]:
    try:
        segments = tuple(Segment(stage=str(v["stage"]), start=int(v["start"]), end=int(v["end"])) for v in value)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: a segment is {{stage, start, end}}, got {value}.") from error
    wanted, names = [stage.name for stage in task.stages], [segment.stage for segment in segments]
    if names != wanted:
        raise ValueError(f"{where}: the stages are {names}, the task has {wanted} in this order.")
    after = 0
    for segment in segments:
        if not after <= segment.start < segment.end <= length:
            raise ValueError(
                f"{where}: stage '{segment.stage}' is steps {segment.start} to {segment.end}, "
                f"which must lie in order between {after} and {length}."
            )
        after = segment.end
    return segments
