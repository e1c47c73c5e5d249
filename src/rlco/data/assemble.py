"""Complete episodes to a complete LeRobot v3.0 dataset: tables, joined videos, statistics."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Num
from numpy import ndarray

from rlco.data import layout
from rlco.data.encoding import JoinedVideos
from rlco.data.summary import ImageSummary, number_summary

Columns = dict[str, Num[ndarray, "T D"]]
"""Feature name to one row per frame; D = 1 for scalars."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredEpisode:
    """One complete episode of T frames on its way into a dataset."""

    table: pa.Table
    """The features that are columns, in their order, without the five that every dataset has."""
    tasks: tuple[str, ...]
    """One per frame."""
    videos: Mapping[str, Path]
    """Camera -> an mp4 of exactly these T frames that begins with a key frame."""
    pixels: Mapping[str, ImageSummary]
    """Camera -> grey levels of the sampled frames."""

    def __len__(self) -> int:
        return len(self.tasks)


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What info.json says apart from the counts."""

    features: Mapping[str, Mapping[str, Any]]
    """All of them, the five that every dataset has at the end."""
    fps: int
    robot_type: str | None


def assemble(root: Path, episodes: Iterable[StoredEpisode], description: Description) -> None:
    """Write the dataset into the empty folder ``root``. Raises ``ValueError`` if there are no episodes."""
    assembly = _Assembly(root, description)
    for episode in episodes:
        assembly.add(episode)
    assembly.close()


class _Assembly:
    """Streams episodes; only numbers (about 100 bytes a frame) are kept in memory."""

    def __init__(self, root: Path, description: Description) -> None:
        self._root, self._description = root, description
        cameras = [name for name, feature in description.features.items() if feature["dtype"] == "video"]
        self._videos = {key: JoinedVideos(root, key=key, fps=description.fps) for key in cameras}
        self._pixels = {key: ImageSummary() for key in cameras}
        self._data = _DataWriter(root)
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._numbers: list[Columns] = []
        self._frames = 0

    def add(self, episode: StoredEpisode) -> None:
        number, length = len(self._rows), len(episode)
        table = self._table(episode, number=number)
        columns = numeric_columns(table)
        videos = {
            k: v
            for key, video in self._videos.items()
            for k, v in video.add(episode.videos[key], length=length).items()
        }
        stats = {key: episode.pixels[key].result() for key in self._videos}
        stats |= {name: number_summary(values) for name, values in columns.items()}
        self._rows.append(
            {
                "episode_index": number,
                "tasks": list(dict.fromkeys(episode.tasks)),
                "length": length,
                **self._data.add(table),
                "dataset_from_index": self._frames,
                "dataset_to_index": self._frames + length,
                **videos,
                **{f"stats/{f}/{name}": value for f, summary in stats.items() for name, value in summary.items()},
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
        )
        for key, pixels in self._pixels.items():
            pixels.merge(episode.pixels[key])
        self._numbers.append(columns)
        self._frames += length

    def close(self) -> None:
        if not self._rows:
            raise ValueError(f"No episodes to write to '{self._root}': a dataset needs at least one.")
        for video in self._videos.values():
            video.close()
        self._data.close()
        pq.write_table(pa.Table.from_pylist(self._rows), layout.place(self._root, layout.EPISODES_PATH, 0))
        write_tasks(self._root / layout.TASKS_PATH, list(self._tasks))
        write_dataset_json(self._root / layout.INFO_PATH, self._info())
        write_dataset_json(self._root / layout.STATS_PATH, self._stats())

    def _table(self, episode: StoredEpisode, *, number: int) -> pa.Table:
        frame = np.arange(len(episode), dtype=np.int64)
        tasks = [self._tasks.setdefault(task, len(self._tasks)) for task in episode.tasks]
        defaults = {
            "timestamp": (frame / self._description.fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full_like(frame, number),
            "index": frame + self._frames,
            "task_index": np.array(tasks, dtype=np.int64),
        }
        table = episode.table.replace_schema_metadata(None)
        for name, values in defaults.items():
            table = table.append_column(name, pa.array(values))
        return table

    def _info(self) -> dict[str, Any]:
        has_video = bool(self._videos)
        return {
            "codebase_version": layout.CODEBASE_VERSION,
            "robot_type": self._description.robot_type,
            "total_episodes": len(self._rows),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": layout.CHUNKS_SIZE,
            "data_files_size_in_mb": layout.DATA_FILE_MB,
            "video_files_size_in_mb": layout.VIDEO_FILE_MB,
            "fps": self._description.fps,
            "splits": {"train": f"0:{len(self._rows)}"},
            "data_path": layout.DATA_PATH,
            "video_path": layout.VIDEO_PATH if has_video else None,
            "features": {name: dict(feature) for name, feature in self._description.features.items()},
        }

    def _stats(self) -> dict[str, Any]:
        # a column that is not numeric in some episode has no figures
        names = [name for name in self._numbers[0] if all(name in columns for columns in self._numbers)]
        numbers = {name: number_summary(np.concatenate([c[name] for c in self._numbers])) for name in names}
        return {**{key: pixels.result() for key, pixels in self._pixels.items()}, **numbers}


class _DataWriter:
    """The data parquet files: one row group per episode."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files = 0
        self._bytes = 0
        self._open: pq.ParquetWriter | None = None

    def add(self, table: pa.Table) -> dict[str, int]:
        if self._open is None or self._bytes >= layout.DATA_FILE_MB * 2**20:
            self.close()
            path = layout.place(self._root, layout.DATA_PATH, self._files)
            self._open, self._bytes = pq.ParquetWriter(path, table.schema), 0
            self._files += 1
        self._open.write_table(table)
        self._bytes += table.nbytes
        chunk, file = layout.chunk_and_file(self._files - 1)
        return {"data/chunk_index": chunk, "data/file_index": file}

    def close(self) -> None:
        if self._open is not None:
            self._open.close()


_TASKS_PANDAS = {
    "index_columns": ["task"],
    "column_indexes": [
        {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    ],
    "columns": [
        {
            "name": "task_index",
            "field_name": "task_index",
            "pandas_type": "int64",
            "numpy_type": "int64",
            "metadata": None,
        },
        {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
    ],
    "creator": {"library": "pyarrow", "version": pa.__version__},
    "pandas_version": "2.2.0",
}


def write_tasks(path: Path, tasks: list[str]) -> None:
    """Write tasks.parquet; the position of a task is its index."""
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    # without this metadata LeRobot silently returns the integer index instead of the task string
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(_TASKS_PANDAS)}), path)


def to_arrow(values: Num[ndarray, "T D"]) -> pa.Array:
    """Return a scalar column if D = 1, else fixed-size lists."""
    flat = pa.array(np.ascontiguousarray(values).ravel())
    return flat if values.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def numeric_columns(table: pa.Table) -> Columns:
    """Return the columns that are numbers or vectors of one size; others (text, pictures, matrices) are left out."""
    found = {name: to_numpy(table[name]) for name in table.column_names}
    return {name: values for name, values in found.items() if values is not None}


def to_numpy(column: pa.ChunkedArray) -> Num[ndarray, "T D"] | None:
    """Return a column of numbers, or of vectors of one size, as an array; None if it is something else or has gaps."""
    kind = column.type
    array = column.combine_chunks()
    is_vector = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind)
    size = 1
    if is_vector:
        size = _one_length(array)
        array = array.flatten()
    if array.null_count or not _is_number(array.type) or not size or len(array) != size * len(column):
        return None
    return array.to_numpy(zero_copy_only=False).reshape(len(column), size)


def _one_length(lists: pa.Array) -> int:
    """Return the length that all lists have; 0 if they differ or one is missing."""
    lengths = pc.unique(pc.list_value_length(lists)).to_pylist()  # pyright: ignore[reportAttributeAccessIssue]
    return lengths[0] or 0 if len(lengths) == 1 else 0


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def write_dataset_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON as LeRobot does: indented by 4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(value), indent=4, allow_nan=False) + "\n")
