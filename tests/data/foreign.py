"""Datasets as other people's tools leave them, written by hand with pyarrow and PyAV."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy import ndarray
from PIL import Image


@dataclass(kw_only=True)
class Recorded:
    """One episode: T frames of numbers and of pictures by camera."""

    vectors: dict[str, ndarray]
    pictures: dict[str, ndarray]
    task: str = "push the pink cube"

    def __len__(self) -> int:
        return len(next(iter(self.vectors.values())))


@dataclass(kw_only=True)
class Foreign:
    """What to write, and in which way."""

    episodes: Sequence[Recorded]
    fps: float = 10
    as_images: bool = False
    """Pictures go into the tables as PNG."""
    names: dict[str, Any] = field(default_factory=dict)
    """Names of the numbers of a vector."""


def grey(count: int, *, first: int = 0, size: tuple[int, int] = (16, 16)) -> ndarray:
    """Pictures whose grey level says which frame they are: 12 levels apart, far more than a codec's error."""
    level = (12 * (first + np.arange(count)) % 240).astype(np.uint8)
    return np.broadcast_to(level[:, None, None, None], (count, *size, 3)).copy()


def frame_numbers(frames: ndarray) -> list[int]:
    """Which frame each picture of ``grey`` is."""
    return [round(float(frame.mean()) / 12) for frame in frames]


def write_v21(folder: Path, foreign: Foreign, *, version: str = "v2.1") -> Path:
    """One parquet file and one mp4 a camera for each episode."""
    start = 0
    for number, episode in enumerate(foreign.episodes):
        table = _table(foreign, episode, number=number, start=start)
        _parquet(folder / f"data/chunk-000/episode_{number:06d}.parquet", table)
        for camera, frames in ({} if foreign.as_images else episode.pictures).items():
            video(folder / f"videos/chunk-000/{camera}/episode_{number:06d}.mp4", frames, fps=foreign.fps)
        start += len(episode)
    tasks = _tasks(foreign)
    _lines(folder / "meta/tasks.jsonl", [{"task_index": i, "task": t} for i, t in enumerate(tasks)])
    rows = [{"episode_index": i, "tasks": [e.task], "length": len(e)} for i, e in enumerate(foreign.episodes)]
    _lines(folder / "meta/episodes.jsonl", rows)
    paths = {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    _info(folder, foreign, version, paths | {"total_chunks": 1, "total_videos": len(foreign.episodes)})
    return folder


def write_v30(folder: Path, foreign: Foreign) -> Path:
    """All episodes in one parquet file and one mp4 a camera; the second camera starts with frames of nobody."""
    tables, rows, start = [], [], 0
    places = {camera: 4 * i for i, camera in enumerate(foreign.episodes[0].pictures)}
    parts = {camera: [np.zeros((skip, 16, 16, 3), np.uint8)] if skip else [] for camera, skip in places.items()}
    for number, episode in enumerate(foreign.episodes):
        tables.append(_table(foreign, episode, number=number, start=start))
        stop = start + len(episode)
        row = {"episode_index": number, "tasks": [episode.task], "length": len(episode)}
        row |= {"dataset_from_index": start, "dataset_to_index": stop, "data/chunk_index": 0, "data/file_index": 0}
        for camera, frames in ({} if foreign.as_images else episode.pictures).items():
            where = {"chunk_index": 0, "file_index": 0, "from_timestamp": places[camera] / foreign.fps}
            row |= {f"videos/{camera}/{name}": value for name, value in where.items()}
            parts[camera].append(frames)
            places[camera] += len(frames)
        rows.append(row)
        start = stop
    _parquet(folder / "data/chunk-000/file-000.parquet", pa.concat_tables(tables))
    _parquet(folder / "meta/episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(rows))
    if not foreign.as_images:
        for camera, frames in parts.items():
            video(folder / f"videos/{camera}/chunk-000/file-000.mp4", np.concatenate(frames), fps=foreign.fps)
    names = _tasks(foreign)
    # as pandas writes an index that has no name
    tasks = pa.table({"task_index": range(len(names)), "__index_level_0__": names})
    _parquet(folder / "meta/tasks.parquet", tasks)
    paths = {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    _info(folder, foreign, "v3.0", paths)
    return folder


def edit_info(folder: Path, **changes: object) -> None:
    """Change keys of info.json."""
    path = folder / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def video(path: Path, frames: ndarray, *, fps: float) -> None:
    """Write an mp4 as LeRobot does: a key frame every other frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = Fraction(str(fps))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"crf": "10", "g": "2", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())


def _table(foreign: Foreign, episode: Recorded, *, number: int, start: int) -> pa.Table:
    length = len(episode)
    columns: dict[str, Any] = {name: values.tolist() for name, values in episode.vectors.items()}
    for camera, frames in (episode.pictures if foreign.as_images else {}).items():
        columns[camera] = [{"bytes": _png(image), "path": f"frame_{i}.png"} for i, image in enumerate(frames)]
    columns["timestamp"] = pa.array((np.arange(length) / foreign.fps).astype(np.float32))
    columns["frame_index"] = np.arange(length)
    columns["episode_index"] = np.full(length, number)
    columns["index"] = start + np.arange(length)
    columns["task_index"] = np.full(length, _tasks(foreign).index(episode.task))
    return pa.table(columns)


def _tasks(foreign: Foreign) -> list[str]:
    return list(dict.fromkeys(episode.task for episode in foreign.episodes))


def _info(folder: Path, foreign: Foreign, version: str, more: dict[str, Any]) -> None:
    first = foreign.episodes[0]
    features: dict[str, Any] = {}
    for camera, frames in first.pictures.items():
        dtype = "image" if foreign.as_images else "video"
        shape = list(frames.shape[1:])
        features[camera] = {"dtype": dtype, "shape": shape, "names": ["height", "width", "channels"]}
    for name, values in first.vectors.items():
        names = foreign.names.get(name)
        features[name] = {"dtype": "float32", "shape": list(values.shape[1:]), "names": names}
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    for name in ("frame_index", "episode_index", "index", "task_index"):
        features[name] = {"dtype": "int64", "shape": [1], "names": None}
    info = {
        "codebase_version": version,
        "robot_type": "panda",
        "fps": foreign.fps,
        "features": features,
        "total_episodes": len(foreign.episodes),
        "total_frames": sum(map(len, foreign.episodes)),
        "total_tasks": len(_tasks(foreign)),
        "chunks_size": 1000,
        "splits": {"train": f"0:{len(foreign.episodes)}"},
    }
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    (folder / "meta/info.json").write_text(json.dumps(info | more))


def _parquet(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _png(image: ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
