"""What a repair does to one episode: its rows in order, cut to what there is, in SI units, the gripper's sign right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from jaxtyping import Num
from numpy import ndarray

from rlco.data import layout
from rlco.data.assemble import to_arrow, to_numpy
from rlco.data.validation.motion import (
    QUANTITIES,
    Motion,
    Quantity,
    gripper_agreement,
    is_moved,
    motion_of,
    motions,
    other_form,
    out_of_range,
    pauses,
    state_agreement,
)
from rlco.data.validation.pictures import available
from rlco.data.validation.survey import Survey, SurveyedEpisode, VideoSpan
from rlco.data.validation.tables import column_fault
from rlco.data.validation.validate import Examined

_TO_SI = {"mm": 1e-3, "deg": np.pi / 180}


@dataclass(frozen=True, kw_only=True, slots=True)
class Mending:
    """What is done to all episodes alike."""

    fps: int
    quantities: tuple[Quantity, ...]
    """To be converted to SI."""
    flips: tuple[tuple[str, int], ...]
    """(feature, column) whose sign is turned round."""
    whole: tuple[str, ...]
    """The same in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mended:
    """An episode that can be kept."""

    source: int
    table: pa.Table
    tasks: tuple[str, ...]
    """One per frame."""
    videos: Mapping[str, VideoSpan]
    done: tuple[str, ...]


def plan(examined: Examined, *, units: Sequence[str], fps: int | None) -> Mending:
    """Decide what holds for the whole dataset. Raises ``ValueError`` in one line if it has no usable frame rate."""
    survey, whole = examined.survey, []
    said = survey.fps
    if fps is None and (said is None or said != round(said)):
        raise ValueError(f"'{survey.folder}' has no usable frame rate ({survey.info.get('fps')!r}): give --fps.")
    if fps is not None and fps != said:
        whole.append(f"frame rate {fps} Hz instead of {survey.info.get('fps')!r}")
    quantities = _converted(survey, units)
    whole += [f"{q.name} of {q.feature} converted from {q.wrong}" for q in quantities]
    whole += [
        f"nothing that looks like {unit} was found" for unit in units if unit not in {q.wrong for q in quantities}
    ]
    flips = _flips(survey)
    whole += [f"sign of the gripper turned round in {feature}" for feature, _ in flips]
    codes = {f.code: f.fix for f in examined.validation.findings}
    again = ("total", "order", "timestamp", "task", "task-metadata", "stats", "video-rate")
    whole += [f"{code}: written again" for code in again if code in codes]
    if not survey.is_v3:
        whole.append(f"written as {layout.CODEBASE_VERSION} instead of {survey.version}")
    return Mending(fps=fps or round(said or 0), quantities=quantities, flips=flips, whole=tuple(whole))


def mend(episode: SurveyedEpisode, examined: Examined, mending: Mending, *, trim_steps: int | None) -> Mended | str:
    """Return the episode as it will be written, or why it cannot be kept."""
    survey = examined.survey
    rows = episode.rows
    lost = _lost(examined, episode)
    if rows is None or lost is not None:
        return lost or "no rows of it can be read"
    done: list[str] = []
    rows = _sorted(episode, rows, done)
    episode = replace(episode, rows=rows)
    common = _common_length(examined, episode, rows.num_rows, done)
    if common == 0:
        return "none of its pictures can be read"
    first, stop = _without_pauses(episode, common, trim_steps, done)
    rows = rows.slice(first, stop - first)
    tasks = _task_texts(survey, episode, rows)
    if tasks is None:
        return "nothing says what its task is"
    columns = {name: to_numpy(rows[name]) for name in survey.columns}
    for name, values in columns.items():
        if values is not None and np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            return f"{name} has NaN or infinite numbers"
    arrays = {n: rows[n] if v is None else _mended_column(survey, mending, n, v) for n, v in columns.items()}
    videos = {c: VideoSpan(path=s.path, first=s.first + first, length=stop - first) for c, s in episode.videos.items()}
    return Mended(source=episode.number, table=pa.table(arrays), tasks=tasks, videos=videos, done=tuple(done))


def _converted(survey: Survey, units: Sequence[str]) -> tuple[Quantity, ...]:
    if other_form(survey) is not None:
        return ()
    found = list(motions(survey))
    return tuple(q for q in QUANTITIES if q.wrong in units and _is_wrong(q, found))


def _is_wrong(quantity: Quantity, found: Sequence[Motion]) -> bool:
    """Return whether no arm has this quantity. Raises ``ValueError`` in one line if that holds for some episodes only.

    One whose values are noise says nothing of the unit.
    """
    said = {m.number: bool(out_of_range(m, quantity).any()) for m in found if is_moved(m, quantity)}
    wrong = [number for number, is_wrong in said.items() if is_wrong]
    if wrong and len(wrong) < len(said):
        raise ValueError(
            f"Only episodes {wrong} of {len(found)} have {quantity.name} of {quantity.feature} in {quantity.wrong}: "
            "nothing says what the others are in. Put those right first, or repair without --units."
        )
    return bool(wrong)


def _flips(survey: Survey) -> tuple[tuple[str, int], ...]:
    """Return the columns against which the gripper moves in every episode in which it moves."""
    if other_form(survey) is not None:
        return ()
    found = list(motions(survey))
    cases = (
        ((layout.ACTION_KEY, 6), [gripper_agreement(m) for m in found]),
        ((layout.STATE_KEY, 7), [state_agreement(m) for m in found]),
    )
    said = {column: [a for a in agreements if a is not None] for column, agreements in cases}
    return tuple(column for column, a in said.items() if a and max(a) < -0.5)


def _lost(examined: Examined, episode: SurveyedEpisode) -> str | None:
    survey = examined.survey
    if episode.rows is None or not episode.rows.num_rows:
        return "no rows of it can be read"
    lacking = [name for name in survey.columns if name not in episode.rows.column_names]
    if lacking:
        return f"its rows lack {', '.join(lacking)}"
    blind = [camera for camera in survey.cameras if camera not in episode.videos]
    if blind:
        return f"nothing says where its pictures of {', '.join(blind)} are"
    faults = (fault for name in survey.columns if (fault := column_fault(survey, episode, name)) is not None)
    return next(faults, None) or _doubtful_pictures(examined, episode)


def _doubtful_pictures(examined: Examined, episode: SurveyedEpisode) -> str | None:
    """Return why nothing says which pictures belong to the episode, or to which of its rows."""
    claimed = [f for f in examined.validation.of("video-overlap") if f.episode == episode.number]
    if claimed:
        return claimed[0].message
    frame, rows = episode.scalar("frame_index"), len(episode.rows or ())
    if frame is not None and np.array_equal(np.sort(frame), np.arange(len(frame))):
        return None
    if all(available(span, examined.videos) == rows for span in episode.videos.values()):
        return None
    return "its frame_index has gaps or repeats: nothing says which picture belongs to which row"


def _sorted(episode: SurveyedEpisode, rows: pa.Table, done: list[str]) -> pa.Table:
    """Return the rows by frame_index if those are 0, 1, 2, ... in another order."""
    frame = episode.scalar("frame_index")
    if frame is None or np.array_equal(frame, np.arange(len(frame))):
        return rows
    if not np.array_equal(np.sort(frame), np.arange(len(frame))):
        done.append("frame_index numbered again in the order of the rows")
        return rows
    done.append("rows sorted by frame_index")
    return rows.take(pa.array(np.argsort(frame, kind="stable")))


def _common_length(examined: Examined, episode: SurveyedEpisode, rows: int, done: list[str]) -> int:
    """Return how many frames the table and all cameras have."""
    pictures = [available(span, examined.videos) for span in episode.videos.values()]
    common = min([rows, *pictures])
    if 0 < common < rows:
        done.append(f"cut from {rows} to {common} frames: its video holds no more")
    elif common and max([common, *pictures]) > common:
        done.append(f"{max(pictures) - common} pictures after its last row left out")
    return common


def _without_pauses(episode: SurveyedEpisode, length: int, trim_steps: int | None, done: list[str]) -> tuple[int, int]:
    """Return the range of frames without a pause at the start or the end; one frame of each pause stays."""
    motion = None if trim_steps is None else motion_of(episode)
    first, stop = 0, length
    if motion is None or trim_steps is None:
        return first, stop
    for begin, end in pauses(motion, steps=trim_steps):
        if begin == 0:
            first = min(end, length) - 1
        elif end >= length > begin:
            stop = begin + 1
    if (first, stop) != (0, length):
        done.append(f"pauses cut: {first} frames at the start, {length - stop} at the end")
    return first, stop


def _task_texts(survey: Survey, episode: SurveyedEpisode, rows: pa.Table) -> tuple[str, ...] | None:
    index = to_numpy(rows["task_index"]) if "task_index" in rows.column_names else None
    if index is not None and set(index.ravel().tolist()) <= survey.tasks.keys():
        texts = tuple(survey.tasks[int(i)] for i in index.ravel())
        # where the rows and the list of episodes disagree, nothing says which is right
        if not episode.tasks or set(texts) == set(episode.tasks):
            return texts
        return None
    return episode.tasks * rows.num_rows if len(episode.tasks) == 1 else None


def _mended_column(survey: Survey, mending: Mending, name: str, values: Num[ndarray, "T D"]) -> pa.Array:
    dtype = survey.features[name]["dtype"]
    out = values.astype(dtype) if dtype in ("float32", "float64", "int64", "int32", "bool") else values.copy()
    for quantity in mending.quantities:
        if quantity.feature == name:
            out[:, quantity.columns] *= _TO_SI[quantity.wrong]
    for feature, column in mending.flips:
        if feature == name:
            out[:, column] *= -1
    return to_arrow(out)
