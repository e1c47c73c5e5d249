"""Write episodes as a LeRobot v3.0 dataset, with pyarrow and PyAV only. The folder appears complete or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Num
from numpy import ndarray

from rlco.core.episode import Episode
from rlco.core.files import replace_folder, require_writable
from rlco.core.scene import ACTION_DIM, STATE_DIM
from rlco.data import layout
from rlco.data.checks import require_finite
from rlco.data.summary import ImageSummary, image_summary, number_summary, sampled
from rlco.data.video import VideoWriter

Columns = dict[str, Num[ndarray, "T D"]]
"""Feature name to one row per frame; D = 1 for scalars."""


def write_dataset(
    folder: Path,
    episodes: Iterable[Episode],
    *,
    fps: int,
    robot_type: str,
    sidecar: bool = False,
    finish: Callable[[Path], object] | None = None,
) -> None:
    """Write ``episodes`` to ``folder``, replacing a dataset that is there once the new one is complete.

    The dataset itself holds images, state, action and task only. ``sidecar`` adds the initial states (a recorder's
    knowledge). ``finish`` is called with the folder when all is written, before it appears: it may add files.
    Raises ``ValueError`` on an episode that does not fit, before ``folder`` is touched.
    """
    require_writable(folder.parent)

    def write(root: Path) -> None:
        writer = _Writer(root, fps=fps, robot_type=robot_type)
        states = []
        for episode in episodes:
            writer.add(episode)
            states.append(None if episode.initial_state is None else episode.initial_state.to_json())
        writer.close()
        if sidecar:
            _write_json(root / layout.INITIAL_STATES_PATH, {"episodes": states})
        if finish is not None:
            finish(root)

    replace_folder(folder, write)


class _Writer:
    """Streams episodes; only numbers (about 100 bytes a frame) are kept in memory."""

    def __init__(self, root: Path, *, fps: int, robot_type: str) -> None:
        self._root, self._fps, self._robot_type = root, fps, robot_type
        self._video = VideoWriter(root, key=layout.IMAGE_KEY, fps=fps)
        self._data = _DataWriter(root)
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._numbers: list[Columns] = []
        self._images = ImageSummary()
        self._frames = 0
        self._size: tuple[int, ...] = ()

    def add(self, episode: Episode) -> None:
        number, length = len(self._rows), len(episode)
        self._check(episode, number)
        task = self._tasks.setdefault(episode.instruction, len(self._tasks))
        columns = self._columns(episode, number=number, task=task)
        pictures = sampled(episode.image)
        self._images.add(pictures)
        self._rows.append(
            {
                "episode_index": number,
                "tasks": [episode.instruction],
                "length": length,
                **self._data.add(columns),
                "dataset_from_index": self._frames,
                "dataset_to_index": self._frames + length,
                **self._video.add(episode.image),
                **_flat(layout.IMAGE_KEY, image_summary(pictures)),
                **{k: v for name, c in columns.items() for k, v in _flat(name, number_summary(c)).items()},
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
        )
        self._numbers.append(columns)
        self._frames += length

    def close(self) -> None:
        if not self._rows:
            raise ValueError(f"No episodes to write to '{self._root}': a dataset needs at least one.")
        self._video.close()
        self._data.close()
        pq.write_table(pa.Table.from_pylist(self._rows), layout.place(self._root, layout.EPISODES_PATH, 0))
        self._write_tasks()
        _write_json(self._root / layout.INFO_PATH, self._info())
        _write_json(self._root / layout.STATS_PATH, self._stats())

    def _check(self, episode: Episode, number: int) -> None:
        length = len(episode)
        wanted = {"image": (length, *(self._size or episode.image.shape[1:3]), 3)}
        wanted |= {"state": (length, STATE_DIM), "action": (length, ACTION_DIM)}
        for name, shape in wanted.items():
            found = getattr(episode, name).shape
            if not length or found != shape:
                raise ValueError(f"Episode {number}: {name} has shape {found}, expected {shape} with 1 or more frames.")
        if episode.fps != self._fps:
            raise ValueError(f"Episode {number} was recorded at {episode.fps} Hz, the dataset has {self._fps} Hz.")
        require_finite(episode.action, name="action", episode=number)
        require_finite(episode.state, name="state", episode=number)
        self._size = episode.image.shape[1:3]

    def _columns(self, episode: Episode, *, number: int, task: int) -> Columns:
        frame = np.arange(len(episode), dtype=np.int64)[:, None]
        return {
            layout.STATE_KEY: episode.state.astype(np.float32),
            layout.ACTION_KEY: episode.action.astype(np.float32),
            "timestamp": (frame / self._fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full_like(frame, number),
            "index": frame + self._frames,
            "task_index": np.full_like(frame, task),
        }

    def _write_tasks(self) -> None:
        table = pa.table({"task_index": pa.array(list(self._tasks.values()), pa.int64()), "task": list(self._tasks)})
        # without this metadata LeRobot silently returns the integer index instead of the task string
        table = table.replace_schema_metadata({"pandas": json.dumps(_TASKS_PANDAS)})
        pq.write_table(table, self._root / layout.TASKS_PATH)

    def _info(self) -> dict[str, Any]:
        height, width = self._size
        return {
            "codebase_version": layout.CODEBASE_VERSION,
            "robot_type": self._robot_type,
            "total_episodes": len(self._rows),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": layout.CHUNKS_SIZE,
            "data_files_size_in_mb": layout.DATA_FILE_MB,
            "video_files_size_in_mb": layout.VIDEO_FILE_MB,
            "fps": self._fps,
            "splits": {"train": f"0:{len(self._rows)}"},
            "data_path": layout.DATA_PATH,
            "video_path": layout.VIDEO_PATH,
            "features": layout.features(height=height, width=width, fps=self._fps),
        }

    def _stats(self) -> dict[str, Any]:
        names = self._numbers[0]
        numbers = {name: number_summary(np.concatenate([c[name] for c in self._numbers])) for name in names}
        return {layout.IMAGE_KEY: self._images.result(), **numbers}


class _DataWriter:
    """The data parquet files: one row group per episode."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files = 0
        self._bytes = 0
        self._open: pq.ParquetWriter | None = None

    def add(self, columns: Columns) -> dict[str, int]:
        table = pa.table({name: _arrow(values) for name, values in columns.items()})
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


def _arrow(values: Num[ndarray, "T D"]) -> pa.Array:
    """Return a scalar column if D = 1, else fixed-size lists."""
    flat = pa.array(np.ascontiguousarray(values).ravel())
    return flat if values.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _flat(feature: str, summary: dict[str, Any]) -> dict[str, Any]:
    return {f"stats/{feature}/{name}": value for name, value in summary.items()}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=4, allow_nan=False) + "\n")
