"""Where things lie in a LeRobot v3.0 dataset, and what our features are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlco.core.scene import ACTION_DIM, STATE_DIM

CODEBASE_VERSION = "v3.0"
IMAGE_KEY = "observation.images.front"
STATE_KEY = "observation.state"
ACTION_KEY = "action"
STATE_NAMES = ("x", "y", "z", "rx", "ry", "rz", "gripper_width", "gripper_command")
ACTION_NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")

CHUNKS_SIZE = 1000
"""Files in one chunk folder."""
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
TASKS_PATH = "meta/tasks.parquet"

INITIAL_STATES_PATH = "meta/rlco_initial_states.json"
"""Sidecar of a recorder: one InitialState or null per episode. Not part of the format."""
PROVENANCE_PATH = "meta/rlco_provenance.json"
"""Sidecar of a generator: where each episode comes from. Not part of the format."""

DEFAULT_FEATURES: dict[str, dict[str, Any]] = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}


def chunk_and_file(number: int) -> tuple[int, int]:
    """Return (chunk_index, file_index) of the n-th file of a stream."""
    return number // CHUNKS_SIZE, number % CHUNKS_SIZE


def place(root: Path, template: str, number: int, **names: str) -> Path:
    """Return the path of the n-th file of the stream ``template``; its folder exists afterwards."""
    chunk, file = chunk_and_file(number)
    path = root / template.format(chunk_index=chunk, file_index=file, **names)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def features(*, height: int, width: int, fps: int) -> dict[str, dict[str, Any]]:
    """Return the ``features`` entry of info.json for one RGB camera of this size [px]."""
    video = {
        "video.height": height,
        "video.width": width,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.fps": fps,
        "video.channels": 3,
        "video.g": 2,
        "is_depth_map": False,
        "has_audio": False,
    }
    return {
        IMAGE_KEY: {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": video,
        },
        STATE_KEY: {"dtype": "float32", "shape": [STATE_DIM], "names": list(STATE_NAMES)},
        ACTION_KEY: {"dtype": "float32", "shape": [ACTION_DIM], "names": list(ACTION_NAMES)},
        **DEFAULT_FEATURES,
    }
