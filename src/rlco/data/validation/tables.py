"""Checks of what the tables and info.json say of each other: counts, order, time, tasks, statistics, sidecars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from rlco.data import layout
from rlco.data.validation.findings import Finding
from rlco.data.validation.survey import OWN, UNREADABLE, Survey, SurveyedEpisode, read_value

_TOLERANCE_S = 1e-4
"""LeRobot's own: a picture farther than this from its time stamp is not found."""
_USUAL_FPS = (1, 240)


def runs(marked: Bool[ndarray, " T"]) -> Iterator[tuple[int, int]]:
    """Yield the ranges (first, one past the last) in which ``marked`` holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def column_fault(survey: Survey, episode: SurveyedEpisode, name: str) -> str | None:
    """Return in words that a column of an episode has empty rows or vectors of another size; None if it is sound."""
    if episode.rows is None or name not in episode.rows.column_names:
        return None
    feature = survey.features.get(name, {})
    shape, dtype = feature.get("shape"), feature.get("dtype", "int")
    is_sound = not episode.rows[name].null_count
    if is_sound and dtype.startswith(("float", "int", "uint", "bool")) and _has_one_axis(shape):
        values = episode.column(name)
        is_sound = values is not None and shape in (None, [], [values.shape[1]])
    return None if is_sound else f"{name} has empty rows or not the shape of info.json"


def _has_one_axis(shape: object) -> bool:
    return shape is None or (isinstance(shape, list) and len(shape) < 2)


def _fps(survey: Survey) -> Iterator[Finding]:
    value = survey.info.get("fps")
    if survey.fps is None:
        yield Finding(code="fps", message=f"fps is {value!r}, not a number above 0", file=layout.INFO_PATH)
    elif not _USUAL_FPS[0] <= survey.fps <= _USUAL_FPS[1]:
        low, high = _USUAL_FPS
        message = f"fps is {value}; cameras and controllers have {low} to {high}"
        yield Finding(code="fps-unusual", message=message, file=layout.INFO_PATH)


def _totals(survey: Survey) -> Iterator[Finding]:
    counted = {
        "total_episodes": len(survey.episodes),
        "total_frames": survey.frames,
        "total_tasks": len(survey.tasks),
    }
    for name, count in counted.items():
        said = survey.info.get(name)
        if said != count:
            yield Finding(code="total", message=f"{name} is {said}, {count} can be read", file=layout.INFO_PATH)


def _episodes(survey: Survey) -> Iterator[Finding]:
    expected, start = 0, 0
    for episode in survey.episodes:
        if episode.number != expected:
            yield Finding(code="order", message=f"episode {expected} is missing before it", episode=episode.number)
        expected = episode.number + 1
        rows = 0 if episode.rows is None else episode.rows.num_rows
        if not rows:
            yield Finding(code="rows", message="no rows of it can be read", episode=episode.number)
        elif episode.length is not None and rows != episode.length:
            message = f"has {rows} rows, the list of episodes says {episode.length}"
            yield Finding(code="length", message=message, episode=episode.number)
        stop = start + (episode.length or rows)
        if survey.is_v3 and rows and episode.span != (start, stop):
            message = f"dataset_from_index and dataset_to_index are {episode.span}, expected {(start, stop)}"
            yield Finding(code="order", message=message, episode=episode.number)
        start = stop


def _columns(survey: Survey) -> Iterator[Finding]:
    for episode in survey.episodes:
        for name in (*survey.columns, *OWN):
            if episode.rows is not None and name not in {*episode.rows.column_names, *episode.unread}:
                yield Finding(code="column", message=f"its rows lack the column {name}", episode=episode.number)
            fault = column_fault(survey, episode, name)
            if fault is not None:
                yield Finding(code="column", message=fault, episode=episode.number)


def _row_order(survey: Survey) -> Iterator[Finding]:
    late = np.flatnonzero(np.diff(survey.order) < 0)
    if len(late):
        number = int(survey.order[late[0] + 1])
        yield Finding(code="order", message="its rows come after those of a later episode", episode=number)
    start = 0
    for episode in survey.episodes:
        length = 0 if episode.rows is None else episode.rows.num_rows
        for name, first in (("frame_index", 0), ("index", start)):
            values = episode.scalar(name)
            if values is None:
                continue
            wrong = values != np.arange(first, first + length)
            if wrong.any():
                frame = int(wrong.argmax())
                message = f"{name} is {values[frame]}, expected {first + frame} ({int(wrong.sum())} rows are wrong)"
                yield Finding(code="order", message=message, episode=episode.number, frame=frame)
        start += length


def _timestamps(survey: Survey) -> Iterator[Finding]:
    fps = survey.fps
    if fps is None:
        return
    stamped = [(e, times.astype(np.float64)) for e in survey.episodes if (times := e.scalar("timestamp")) is not None]
    rate = _other_rate([times for _, times in stamped], fps)
    if rate is not None:
        message = f"all episodes are stamped at {rate:g} Hz, info.json says {fps:g} Hz"
        yield Finding(code="rate", message=message, file=layout.INFO_PATH)
        return
    for episode, times in stamped:
        due = np.arange(len(times)) / fps
        # a float32 of an hour is exact to 0.2 ms only
        off = np.abs(times - due) > _TOLERANCE_S + due * 1e-6
        off |= ~np.isfinite(times)
        if off.any():
            frame = int(off.argmax())
            message = f"is stamped {times[frame]:.4f} s, due at {due[frame]:.4f} s ({int(off.sum())} frames are off)"
            yield Finding(code="timestamp", message=message, episode=episode.number, frame=frame)


def _other_rate(stamped: list[Any], fps: float) -> float | None:
    """Return the even rate that all episodes share if it is not ``fps``."""
    steps = [np.diff(times) for times in stamped if len(times) > 1]
    if not steps:
        return None
    step = np.concatenate(steps)
    middle = float(np.median(step)) if np.isfinite(step).all() else 0.0
    is_even = middle > 0 and bool((np.abs(step - middle) < 0.02 * middle).all())
    return 1 / middle if is_even and abs(middle * fps - 1) > 0.02 else None


def _tasks(survey: Survey) -> Iterator[Finding]:
    if not survey.has_task_metadata:
        message = "the text is not the pandas index: LeRobot would silently give the number instead of the text"
        yield Finding(code="task-metadata", message=message, file=layout.TASKS_PATH)
    for index, text in survey.tasks.items():
        if not text.strip():
            yield Finding(code="task", message=f"task {index} has no text")
    for episode in survey.episodes:
        yield from _tasks_of(survey, episode)


def _tasks_of(survey: Survey, episode: SurveyedEpisode) -> Iterator[Finding]:
    indices = episode.scalar("task_index")
    if indices is None:
        return
    known = np.isin(indices, list(survey.tasks))
    if not known.all():
        frame = int((~known).argmax())
        message = f"task_index {indices[frame]} is not among the tasks"
        yield Finding(code="task", message=message, episode=episode.number, frame=frame)
        return
    used = {survey.tasks[int(i)] for i in np.unique(indices)}
    if used != set(episode.tasks):
        message = f"its rows say {sorted(used)}, the list of episodes {sorted(episode.tasks)}"
        yield Finding(code="task", message=message, episode=episode.number)


def _stats(survey: Survey) -> Iterator[Finding]:
    if not survey.is_v3:
        return
    if not (survey.folder / layout.STATS_PATH).exists():
        yield Finding(code="stats", message="is missing: policies cannot be normalised", file=layout.STATS_PATH)
        return
    stats = read_value(survey, layout.STATS_PATH, code="stats")
    if stats is UNREADABLE:
        return
    for name in survey.columns:
        columns = [values for e in survey.episodes if (values := e.column(name)) is not None]
        if columns and len({c.shape[1] for c in columns}) == 1:
            yield from _stats_of(name, stats.get(name) if isinstance(stats, dict) else None, np.concatenate(columns))


def _stats_of(name: str, said: Any, values: ndarray) -> Iterator[Finding]:  # noqa: ANN401
    wanted = {"min", "max", "mean", "std", "q01", "q99"}
    lacking = sorted(wanted - said.keys()) if isinstance(said, dict) else sorted(wanted)
    if lacking:
        yield Finding(code="stats", message=f"{name} lacks {', '.join(lacking)}", file=layout.STATS_PATH)
        return
    exact = values.astype(np.float64)
    for figure, true in (("min", exact.min(0)), ("max", exact.max(0)), ("mean", exact.mean(0))):
        found = _vector(said[figure])
        if found.shape != true.shape or not np.allclose(found, true, rtol=1e-3, atol=1e-5, equal_nan=True):
            message = f"the {figure} of {name} is {said[figure]}, the rows give {true.round(5).tolist()}"
            yield Finding(code="stats", message=message, file=layout.STATS_PATH)
            return


def _vector(value: object) -> Float[ndarray, " D"]:
    """Return the numbers of a nested list; none if it holds anything else."""
    try:
        return np.ravel(np.array(value, dtype=np.float64))
    except (ValueError, TypeError):
        return np.zeros(0)


def _sidecars(survey: Survey) -> Iterator[Finding]:
    for name in (layout.INITIAL_STATES_PATH, layout.PROVENANCE_PATH):
        if not (survey.folder / name).exists():
            continue
        value = read_value(survey, name, code="sidecar")
        rows = value.get("episodes") if isinstance(value, dict) else None
        if value is not UNREADABLE and (not isinstance(rows, list) or len(rows) != len(survey.episodes)):
            count = len(rows) if isinstance(rows, list) else "no"
            yield Finding(code="sidecar", message=f"has {count} rows for {len(survey.episodes)} episodes", file=name)


CHECKS: dict[str, Callable[[Survey], Iterator[Finding]]] = {
    "frame rate": _fps,
    "totals": _totals,
    "episodes": _episodes,
    "columns": _columns,
    "order of the rows": _row_order,
    "time stamps": _timestamps,
    "tasks": _tasks,
    "statistics": _stats,
    "sidecars": _sidecars,
}
"""What is looked at -> the findings."""
