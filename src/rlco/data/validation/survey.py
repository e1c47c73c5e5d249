"""Everything of a dataset that can still be read, however broken it is; what cannot be read becomes a finding.

Nothing here raises for what is in the folder, and nothing is believed: the other checks compare what was read.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, Num
from numpy import ndarray

from rlco.data import layout
from rlco.data.assemble import to_numpy
from rlco.data.encoding import video_rate
from rlco.data.validation.findings import Finding

OWN = tuple(layout.DEFAULT_FEATURES)
"""Columns that every dataset has."""
UNKNOWN = "unknown"
UNREADABLE = object()


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoSpan:
    """Where an episode's pictures of one camera should be."""

    path: Path
    first: int
    """Frame in the file."""
    length: int | None
    """Frames; None: as many as the file has."""


@dataclass(kw_only=True, slots=True)
class SurveyedEpisode:
    """What is known of one episode."""

    number: int
    length: int | None = None
    """According to the list of episodes."""
    tasks: tuple[str, ...] = ()
    """According to the list of episodes."""
    span: tuple[int, int] | None = None
    """dataset_from_index and dataset_to_index."""
    rows: pa.Table | None = None
    """Of the data tables, in their order there."""
    unread: frozenset[str] = frozenset()
    """Columns of the data tables that are there but not in ``rows``."""
    videos: dict[str, VideoSpan] = field(default_factory=dict)

    def column(self, name: str) -> Num[ndarray, "T D"] | None:
        """Return a column of numbers; None if there is none."""
        if self.rows is None or name not in self.rows.column_names:
            return None
        return to_numpy(self.rows[name])

    def scalar(self, name: str) -> Num[ndarray, " T"] | None:
        """Return a column of one number a frame; None if there is none."""
        values = self.column(name)
        return None if values is None or values.shape[1] != 1 else values[:, 0]


@dataclass(kw_only=True)
class Survey:
    """One dataset as far as it can be read."""

    folder: Path
    info: dict[str, Any] = field(default_factory=dict)
    version: str = UNKNOWN
    episodes: list[SurveyedEpisode] = field(default_factory=list)
    """By number."""
    tasks: dict[int, str] = field(default_factory=dict)
    """task_index -> text."""
    has_task_metadata: bool = True
    order: Int64[ndarray, " N"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Episode of each row, in the order of the files."""
    findings: list[Finding] = field(default_factory=list)
    has_pictures: bool = True
    """Whether columns of pictures were read; most of a dataset whose pictures are not in videos."""

    @property
    def is_v3(self) -> bool:
        """Whether many episodes share a file."""
        return self.version.startswith("v3")

    @property
    def features(self) -> dict[str, dict[str, Any]]:
        """Those of info.json that are well formed."""
        found = self.info.get("features")
        items = found.items() if isinstance(found, dict) else ()
        return {name: f for name, f in items if isinstance(f, dict) and isinstance(f.get("dtype"), str)}

    @property
    def cameras(self) -> tuple[str, ...]:
        """Features that are videos."""
        return tuple(name for name, feature in self.features.items() if feature["dtype"] == "video")

    @property
    def picture_columns(self) -> frozenset[str]:
        """Features that are pictures in the data tables."""
        return frozenset(name for name, feature in self.features.items() if feature["dtype"] == "image")

    @property
    def columns(self) -> tuple[str, ...]:
        """Features that are columns of the data tables, without those that every dataset has."""
        return tuple(n for n, f in self.features.items() if f["dtype"] != "video" and n not in OWN)

    @property
    def fps(self) -> float | None:
        """Frames a second according to info.json; None if that is no rate."""
        value = self.info.get("fps")
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value <= 0:
            return None
        return float(value)

    @property
    def frames(self) -> int:
        """Rows that could be read."""
        return sum(e.rows.num_rows for e in self.episodes if e.rows is not None)

    def add(self, code: str, message: str, **place: Any) -> None:  # noqa: ANN401
        """Note a finding."""
        self.findings.append(Finding(code=code, message=message, **place))


def survey(folder: Path, *, pictures: bool = True) -> Survey:
    """Read all that can be read, columns of ``pictures`` if asked. Raises ``ValueError`` only without such a folder."""
    if not folder.is_dir():
        raise ValueError(f"No dataset at '{folder}': the folder does not exist.")
    found = Survey(folder=folder, has_pictures=pictures)
    _read_info(found)
    if found.version == UNKNOWN:
        return found
    episodes = dict(_listed_v3(found) if found.is_v3 else _listed_v2(found))
    _read_rows(found, episodes)
    found.episodes = [episodes[number] for number in sorted(episodes)]
    _read_tasks(found)
    return found


def read_value(found: Survey, name: str, *, code: str = "table") -> Any:  # noqa: ANN401
    """Return the JSON value in a file of the dataset, or ``UNREADABLE`` with a finding."""
    try:
        return json.loads((found.folder / name).read_text())
    except (OSError, ValueError) as error:
        found.add(code, f"cannot be read ({_short(error)})", file=name)
        return UNREADABLE


def read_table(found: Survey, path: Path, *, without: Set[str] = frozenset()) -> pa.Table | None:
    """Return a parquet file, or None with a finding. The columns ``without`` are not read."""
    try:
        file = pq.ParquetFile(path)
        table = file.read(columns=[n for n in file.schema_arrow.names if n not in without] if without else None)
        # texts and offsets, too: what is read later cannot fail
        table.validate(full=True)
        return table
    except (pa.ArrowException, OSError, ValueError) as error:
        found.add("table", f"is truncated or no parquet file ({_short(error)})", file=_relative(found, path))
        return None


def _read_info(found: Survey) -> None:
    if (found.folder / "journal.jsonl").exists() and not (found.folder / layout.INFO_PATH).exists():
        found.add("unfinished", "this is the folder of an unfinished write: repeat the command that writes it")
        return
    info = read_value(found, layout.INFO_PATH, code="info")
    if info is UNREADABLE:
        return
    if not isinstance(info, dict):
        found.add("info", "is not a JSON object", file=layout.INFO_PATH)
        return
    found.info = info
    lacking = sorted({"codebase_version", "fps", "features"} - info.keys())
    if lacking:
        found.add("info", f"lacks {', '.join(lacking)}", file=layout.INFO_PATH)
    version = str(info.get("codebase_version", UNKNOWN))
    if not version.startswith(("v2.", "v3.")):
        found.add("version", f"LeRobot {version}: v2.0, v2.1 and v3.0 are known", file=layout.INFO_PATH)
        return
    found.version = version
    if not found.features:
        found.add("info", "its features cannot be understood", file=layout.INFO_PATH)


def _listed_v3(found: Survey) -> Iterator[tuple[int, SurveyedEpisode]]:
    paths = sorted(found.folder.glob("meta/episodes/*/*.parquet"))
    if not paths:
        found.add("table", "is missing: nothing says where the episodes are", file="meta/episodes")
    rows: list[Mapping[str, Any]] = []
    for path in paths:
        table = read_table(found, path)
        names = [n for n in table.column_names if not n.startswith("stats/")] if table is not None else []
        for row in table.select(names).to_pylist() if table is not None else []:
            if isinstance(row.get("episode_index"), int):
                rows.append(row)
            else:
                found.add("table", "has an episode without episode_index", file=_relative(found, path))
    fps = _rate_of_seconds(found, rows)
    for row in rows:
        yield row["episode_index"], _episode(found, row["episode_index"], row, videos=_spans_v3(found, row, fps=fps))


def _rate_of_seconds(found: Survey, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the rate [Hz] at which the list of episodes counts seconds.

    That is info.json's, unless lengths and seconds of all episodes agree on the rate of the videos instead: where
    pictures lie was written with the true one.
    """
    rates: set[float] = set()
    for row, camera in itertools.product(rows, found.cameras):
        begin, end = (_number(row.get(f"videos/{camera}/{name}")) for name in ("from_timestamp", "to_timestamp"))
        length = _number(row.get("length"))
        if begin is None or end is None or length is None or length <= 0 or end <= begin:
            return found.fps
        rates.add(length / (end - begin))
    if not rates or max(rates) > 1.001 * min(rates):
        return found.fps
    rate = float(np.median(list(rates)))
    if found.fps is not None and abs(rate / found.fps - 1) < 0.01:
        return found.fps
    spans = (span for row in rows[:1] for span in _spans_v3(found, row, fps=rate).values())
    of_videos = [video_rate(span.path) for span in spans]
    return rate if of_videos and all(r is not None and abs(r / rate - 1) < 0.01 for r in of_videos) else found.fps


def _spans_v3(found: Survey, row: Mapping[str, Any], *, fps: float | None) -> dict[str, VideoSpan]:
    spans: dict[str, VideoSpan] = {}
    for camera in found.cameras:
        prefix = f"videos/{camera}/"
        chunk, file = row.get(prefix + "chunk_index"), row.get(prefix + "file_index")
        begin, end = _number(row.get(prefix + "from_timestamp")), _number(row.get(prefix + "to_timestamp"))
        path = _place(found, "video_path", layout.VIDEO_PATH, video_key=camera, chunk_index=chunk, file_index=file)
        if path is None or begin is None or begin < 0 or fps is None:
            found.add("table", f"nothing says where the pictures of {camera} are", episode=row.get("episode_index"))
            continue
        length = row.get("length") if end is None else round((end - begin) * fps)
        spans[camera] = VideoSpan(path=path, first=round(begin * fps), length=length)
    return spans


def _listed_v2(found: Survey) -> Iterator[tuple[int, SurveyedEpisode]]:
    for number, row in _json_lines(found, "meta/episodes.jsonl", key="episode_index"):
        yield number, _episode(found, number, row, videos=_spans_v2(found, number))


def _spans_v2(found: Survey, number: int) -> dict[str, VideoSpan]:
    default = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    chunk = number // _chunk_size(found)
    paths = {
        camera: _place(found, "video_path", default, video_key=camera, episode_chunk=chunk, episode_index=number)
        for camera in found.cameras
    }
    return {camera: VideoSpan(path=path, first=0, length=None) for camera, path in paths.items() if path is not None}


def _episode(found: Survey, number: int, row: Mapping[str, Any], *, videos: dict[str, VideoSpan]) -> SurveyedEpisode:
    length, tasks = row.get("length"), row.get("tasks")
    span = (row.get("dataset_from_index"), row.get("dataset_to_index"))
    if not isinstance(length, int):
        found.add("table", "the list of episodes gives no length", episode=number)
    return SurveyedEpisode(
        number=number,
        length=length if isinstance(length, int) else None,
        tasks=tuple(t for t in tasks if isinstance(t, str)) if isinstance(tasks, list) else (),
        span=(span[0], span[1]) if isinstance(span[0], int) and isinstance(span[1], int) else None,
        videos=videos,
    )


def _read_rows(found: Survey, episodes: dict[int, SurveyedEpisode]) -> None:
    """Give each episode its rows; rows of an episode that nothing lists make a new one."""
    pieces: dict[int, list[pa.Table]] = {}
    order: list[Int64[ndarray, " n"]] = []
    unread: dict[int, frozenset[str]] = {}
    paths = sorted(found.folder.glob("data/*/*.parquet"))
    without = frozenset() if found.has_pictures else found.picture_columns
    if not paths:
        found.add("table", "holds no parquet file: there are no rows", file="data")
    for path in paths:
        table = read_table(found, path, without=without)
        left_out = without & set(pq.read_schema(path).names) if without and table is not None else without
        numbers = None if table is None else _episode_numbers(found, path, table)
        if table is None or numbers is None:
            continue
        order.append(numbers)
        names, counts = np.unique(numbers, return_counts=True)
        rows = np.split(np.argsort(numbers, kind="stable"), np.cumsum(counts)[:-1])
        for number, own in zip(names.tolist(), rows, strict=True):
            pieces.setdefault(number, []).append(table.take(pa.array(own)))
            unread[number] = unread.get(number, left_out) & left_out
    for number, tables in pieces.items():
        if number not in episodes:
            found.add("length", "has rows, but the list of episodes does not name it", episode=number)
            spans = {} if found.is_v3 else _spans_v2(found, number)
            episodes[number] = SurveyedEpisode(number=number, videos=spans)
        episodes[number].rows = _joined(found, number, tables)
        episodes[number].unread = unread[number]
    found.order = np.concatenate(order) if order else found.order


def _episode_numbers(found: Survey, path: Path, table: pa.Table) -> Int64[ndarray, " n"] | None:
    values = to_numpy(table["episode_index"]) if "episode_index" in table.column_names and len(table) else None
    if values is None or values.shape[1] != 1 or not np.issubdtype(values.dtype, np.integer):
        what = "has no usable column episode_index: its rows belong to no episode" if len(table) else "has no rows"
        found.add("table", what, file=_relative(found, path))
        return None
    return values[:, 0].astype(np.int64)


def _joined(found: Survey, number: int, tables: list[pa.Table]) -> pa.Table | None:
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        found.add("table", f"its rows in several files do not fit together ({_short(error)})", episode=number)
        return None


def _read_tasks(found: Survey) -> None:
    if not found.is_v3:
        rows = _json_lines(found, "meta/tasks.jsonl", key="task_index")
        found.tasks = {n: row["task"] for n, row in rows if isinstance(row.get("task"), str)}
        return
    path = found.folder / layout.TASKS_PATH
    table = read_table(found, path)
    if table is None:
        return
    texts = next((n for n in ("task", "__index_level_0__") if n in table.column_names), None)
    if texts is None:
        found.add("task", "has no column of texts", file=layout.TASKS_PATH)
        return
    found.has_task_metadata = _has_pandas_index(table, texts)
    # LeRobot looks a task up by its position; the column only repeats it
    found.tasks = {n: text for n, text in enumerate(table[texts].to_pylist()) if isinstance(text, str)}
    listed = table["task_index"].to_pylist() if "task_index" in table.column_names else None
    if listed is not None and listed != list(range(len(table))):
        found.add("task", f"task_index is {listed[:5]}..., expected 0, 1, 2, ...", file=layout.TASKS_PATH)


def _has_pandas_index(table: pa.Table, texts: str) -> bool:
    try:
        metadata = json.loads((table.schema.metadata or {})[b"pandas"])
        return texts in metadata["index_columns"]
    except (KeyError, ValueError, TypeError):
        return False


def _json_lines(found: Survey, name: str, *, key: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (number, row) of the lines that can be read."""
    try:
        lines = (found.folder / name).read_text(errors="replace").splitlines()
    except OSError as error:
        found.add("table", f"cannot be read ({_short(error)})", file=name)
        return
    for position, line in enumerate(lines):
        try:
            row = json.loads(line)
            yield int(row[key]), row
        except (ValueError, KeyError, TypeError):
            found.add("table", f"line {position + 1} cannot be understood", file=name)


def _place(found: Survey, key: str, default: str, **names: Any) -> Path | None:  # noqa: ANN401
    template = found.info.get(key) or default
    try:
        return found.folder / str(template).format(**names)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _chunk_size(found: Survey) -> int:
    size = found.info.get("chunks_size")
    return size if isinstance(size, int) and size > 0 else layout.CHUNKS_SIZE


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None


def _relative(found: Survey, path: Path) -> str:
    return str(path.relative_to(found.folder))


def _short(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(str(text).split())[:120]
