"""Read and check the parquet and JSON parts of a LeRobot v3.0 dataset, before anything long starts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64
from numpy import ndarray

from rlco.core.scene import ACTION_DIM, STATE_DIM
from rlco.data import layout
from rlco.data.checks import require_finite


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeSpan:
    """Where one episode lies."""

    task: str
    start: int
    """First frame of the episode in the dataset."""
    stop: int
    """One past its last frame."""
    video_path: Path
    video_start: int
    """First frame of the episode inside that file."""

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """Everything of a dataset but its pictures, checked."""

    info: dict[str, Any]
    image_key: str
    height: int
    width: int
    state: Float32[ndarray, "N S"]
    action: Float32[ndarray, "N A"]
    episodes: tuple[EpisodeSpan, ...]


def read_tables(folder: Path) -> Tables:
    """Read and check them. Raises ``ValueError`` in one line that names the file and what is wrong."""
    info = _info(folder)
    image_key = _image_key(folder, info)
    _check_features(folder, info)
    columns = _data(folder, info)
    episodes = _episodes(folder, info, image_key)
    _check_times(folder, info, columns, episodes)
    for number, span in enumerate(episodes):
        for name in (layout.ACTION_KEY, layout.STATE_KEY):
            try:
                require_finite(columns[name][span.start : span.stop], name=name, episode=number)
            except ValueError as error:
                raise ValueError(f"'{folder}': {error}") from None
    height, width = info["features"][image_key]["shape"][:2]
    return Tables(
        info=info,
        image_key=image_key,
        height=height,
        width=width,
        state=columns[layout.STATE_KEY],
        action=columns[layout.ACTION_KEY],
        episodes=episodes,
    )


def read_json(path: Path) -> Any:  # noqa: ANN401  (any JSON value)
    """Return the value in ``path``. Raises ``ValueError`` in one line if it is not JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"Cannot read '{path}': {error}.") from error


def _info(folder: Path) -> dict[str, Any]:
    path = folder / layout.INFO_PATH
    if not path.exists():
        what = "it has no meta/info.json" if folder.exists() else "the folder does not exist"
        raise ValueError(f"No dataset at '{folder}': {what}.")
    info = read_json(path)
    missing = {"codebase_version", "fps", "features"} - info.keys()
    if missing:
        raise ValueError(f"'{path}' lacks {', '.join(sorted(missing))}: not a LeRobot dataset.")
    version = info["codebase_version"]
    if version != layout.CODEBASE_VERSION:
        raise ValueError(f"'{folder}' is a LeRobot {version} dataset; this version reads {layout.CODEBASE_VERSION}.")
    if not info.get("total_episodes", 0) or not info.get("total_frames", 0):
        raise ValueError(f"'{folder}' is empty: it holds 0 episodes. Record or generate some first.")
    return info


def _image_key(folder: Path, info: dict[str, Any]) -> str:
    """Return our camera, or the only one there is."""
    cameras = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
    if layout.IMAGE_KEY in cameras:
        return layout.IMAGE_KEY
    if len(cameras) == 1:
        return cameras[0]
    raise ValueError(f"'{folder}' has no camera '{layout.IMAGE_KEY}'; it has: {', '.join(cameras) or 'none'}.")


def _check_features(folder: Path, info: dict[str, Any]) -> None:
    for name, size in ((layout.STATE_KEY, STATE_DIM), (layout.ACTION_KEY, ACTION_DIM)):
        shape = info["features"].get(name, {}).get("shape")
        if shape is None:
            raise ValueError(f"'{folder}' has no feature '{name}'; it has: {', '.join(info['features'])}.")
        if list(shape) != [size]:
            raise ValueError(f"'{folder}': {name} has {shape} dimensions, expected [{size}].")


def _read(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"'{path}' is truncated or not a parquet file ({reason}).") from error


def _read_all(folder: Path, pattern: str, columns: list[str] | None = None) -> pa.Table:
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise ValueError(f"'{folder}' has no {pattern}: the dataset is incomplete.")
    tables = []
    for path in paths:
        table = _read(path)
        lacking = [c for c in columns or [] if c not in table.column_names]
        if lacking:
            raise ValueError(f"'{path}' lacks the column {', '.join(lacking)}.")
        tables.append(table.select(columns) if columns else table)
    return pa.concat_tables(tables, promote_options="permissive")


def _data(folder: Path, info: dict[str, Any]) -> dict[str, ndarray]:
    sizes = {layout.STATE_KEY: STATE_DIM, layout.ACTION_KEY: ACTION_DIM}
    scalars = ["timestamp", "frame_index", "episode_index", "index"]
    table = _read_all(folder, "data/*/*.parquet", [*sizes, *scalars])
    if table.num_rows != info["total_frames"]:
        raise ValueError(
            f"'{folder}/data' holds {table.num_rows} frames, info.json says {info['total_frames']}: files are missing."
        )
    columns = {name: table[name].to_numpy() for name in scalars}
    for name, size in sizes.items():
        flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        if flat.size != table.num_rows * size:
            found = flat.size / table.num_rows
            raise ValueError(f"'{folder}/data': {name} has {found:g} dimensions a frame, expected {size}.")
        columns[name] = flat.reshape(-1, size).astype(np.float32)
    if not np.array_equal(columns["index"], np.arange(table.num_rows)):
        raise ValueError(f"'{folder}/data': rows are not in the order of 'index'.")
    return columns


def _episodes(folder: Path, info: dict[str, Any], image_key: str) -> tuple[EpisodeSpan, ...]:
    table = _read_all(folder, "meta/episodes/*/*.parquet")
    if table.num_rows != info["total_episodes"]:
        raise ValueError(
            f"'{folder}/meta/episodes' has {table.num_rows} episodes, info.json says {info['total_episodes']}."
        )
    video = f"videos/{image_key}/"
    names = ["chunk_index", "file_index", "from_timestamp"]
    wanted = ["tasks", "length", "dataset_from_index", "dataset_to_index", *(video + n for n in names)]
    lacking = [name for name in wanted if name not in table.column_names]
    if lacking:
        raise ValueError(f"'{folder}/meta/episodes' lacks the column {', '.join(lacking)}.")
    spans, end = [], 0
    for number, row in enumerate(table.select(wanted).to_pylist()):
        start, stop = row["dataset_from_index"], row["dataset_to_index"]
        if start != end or stop - start != row["length"] or stop <= start or len(row["tasks"]) != 1:
            raise ValueError(
                f"'{folder}/meta/episodes': episode {number} covers frames {start} to {stop} with length "
                f"{row['length']} and {len(row['tasks'])} tasks; expected a start at {end} and one task."
            )
        path = info["video_path"].format(
            video_key=image_key, chunk_index=row[video + "chunk_index"], file_index=row[video + "file_index"]
        )
        spans.append(
            EpisodeSpan(
                task=row["tasks"][0],
                start=start,
                stop=stop,
                video_path=folder / path,
                # integer frame addressing: robust to the rounding of seconds
                video_start=round(row[video + "from_timestamp"] * info["fps"]),
            )
        )
        end = stop
    if end != info["total_frames"]:
        raise ValueError(f"'{folder}/meta/episodes' ends at frame {end}, info.json says {info['total_frames']}.")
    return tuple(spans)


def _check_times(
    folder: Path, info: dict[str, Any], columns: dict[str, ndarray], episodes: tuple[EpisodeSpan, ...]
) -> None:
    """Rows agree with the episodes table, and the time between frames with the frame rate."""
    lengths = [len(span) for span in episodes]
    frame: Int64[ndarray, " N"] = np.concatenate([np.arange(n) for n in lengths])
    owner = np.repeat(np.arange(len(lengths)), lengths)
    if not (np.array_equal(columns["frame_index"], frame) and np.array_equal(columns["episode_index"], owner)):
        raise ValueError(f"'{folder}/data': frame_index or episode_index disagrees with meta/episodes.")
    late = np.abs(columns["timestamp"] - frame / info["fps"]) > 0.1 / info["fps"]
    if late.any():
        first = int(late.argmax())
        raise ValueError(
            f"'{folder}/data': episode {owner[first]}, frame {frame[first]} is stamped "
            f"{columns['timestamp'][first]:.3f} s, which is not the {info['fps']} Hz of info.json."
        )
