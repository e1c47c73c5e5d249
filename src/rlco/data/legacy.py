"""LeRobot v2.1 and v2.0: one parquet file and one mp4 a camera for each episode, lists in jsonl files.

The two differ in where statistics are kept, which nothing here needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlco.data import layout
from rlco.data.parquet import read_json_lines, rows_of
from rlco.data.place import Place, StoredEpisode

VERSIONS = ("v2.1", "v2.0")
EPISODES_PATH = "meta/episodes.jsonl"
TASKS_PATH = "meta/tasks.jsonl"
DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


def episodes_of(folder: Path, info: Mapping[str, Any]) -> tuple[StoredEpisode, ...]:
    """Return the episodes in the order of their number; a number may be missing (filtered datasets)."""
    rows = sorted(read_json_lines(folder / EPISODES_PATH), key=lambda row: row["episode_index"])
    if len(rows) != info["total_episodes"]:
        raise ValueError(
            f"'{folder / EPISODES_PATH}' has {len(rows)} episodes, info.json says {info['total_episodes']}."
        )
    cameras = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
    episodes, start = [], 0
    for row in rows:
        path = folder / _path(info, "data_path", DATA_PATH, row["episode_index"])
        found = rows_of(path)
        if found != row["length"] or not found:
            raise ValueError(f"'{path}' holds {found} frames, {EPISODES_PATH} says {row['length']}: it is cut off.")
        episodes.append(
            StoredEpisode(
                number=row["episode_index"],
                tasks=tuple(row["tasks"]) if row.get("tasks") else None,
                start=start,
                stop=start + found,
                data=Place(path=path, start=0),
                videos={
                    camera: Place(
                        path=folder / _path(info, "video_path", VIDEO_PATH, row["episode_index"], video_key=camera),
                        start=0,
                    )
                    for camera in cameras
                },
            )
        )
        start += found
    return tuple(episodes)


def task_names(folder: Path) -> dict[int, str]:
    """Return what each task_index says; nothing if there is no list."""
    path = folder / TASKS_PATH
    return {row["task_index"]: str(row["task"]) for row in read_json_lines(path)} if path.exists() else {}


def _path(info: Mapping[str, Any], key: str, default: str, number: int, **names: str) -> str:
    chunk = number // int(info.get("chunks_size") or layout.CHUNKS_SIZE)
    return (info.get(key) or default).format(episode_chunk=chunk, episode_index=number, **names)
