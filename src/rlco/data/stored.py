"""What lies in a LeRobot folder, of format v3.0, v2.1 or v2.0 alike, before anybody says what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from rlco.data import layout, legacy
from rlco.data.checks import told_as_broken
from rlco.data.parquet import read_json, read_table, read_tables_of, rows_of, vectors
from rlco.data.place import Place, StoredEpisode

VERSIONS = (layout.CODEBASE_VERSION, *legacy.VERSIONS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A dataset as it is on disk: N frames in episodes. Nothing but info and episodes is in memory."""

    folder: Path
    info: Mapping[str, Any]
    fps: Fraction
    """Exact: v2.1 allows 29.97."""
    episodes: tuple[StoredEpisode, ...]
    data_paths: tuple[Path, ...]
    """Parquet files in the order of the episodes."""
    task_names: Mapping[int, str] = field(default_factory=dict)
    """What each ``task_index`` says."""

    @property
    def version(self) -> str:
        """Format, for example ``v2.1``."""
        return self.info["codebase_version"]

    @property
    def features(self) -> Mapping[str, Mapping[str, Any]]:
        """Name to dtype, shape and names of the numbers."""
        return self.info["features"]

    @property
    def num_frames(self) -> int:
        """All frames of all episodes."""
        return self.episodes[-1].stop

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the colour pictures, in videos or in the tables."""
        return tuple(
            name
            for name, feature in self.features.items()
            if feature["dtype"] in ("video", "image") and not _is_depth(feature)
        )

    def numbers(self, names: Sequence[str]) -> dict[str, ndarray]:
        """Return these columns, each (N, D), as they are stored. Raises ``ValueError`` that names the file."""
        table = read_tables_of(self.folder, self.data_paths, list(names))
        if table.num_rows != self.num_frames:
            raise ValueError(
                f"'{self.folder}/data' holds {table.num_rows} frames, its episodes have {self.num_frames}: "
                "files are missing or cut off."
            )
        try:
            return {name: vectors(table, name) for name in names}
        except ValueError as error:
            raise ValueError(f"'{self.folder}/data': {error}") from None

    def check_times(self) -> None:
        """Raise ``ValueError`` unless rows, episodes and the time between frames agree."""
        columns = {k: v[:, 0] for k, v in self.numbers(["timestamp", "frame_index", "episode_index", "index"]).items()}
        # the files of older formats are found by the number of their episode, whatever the running number is
        if self.version == layout.CODEBASE_VERSION and not np.array_equal(columns["index"], np.arange(self.num_frames)):
            raise ValueError(f"'{self.folder}/data': rows are not in the order of 'index'.")
        lengths = [len(episode) for episode in self.episodes]
        frame: Int64[ndarray, " N"] = np.concatenate([np.arange(n) for n in lengths])
        owner = np.repeat([episode.number for episode in self.episodes], lengths)
        if not (np.array_equal(columns["frame_index"], frame) and np.array_equal(columns["episode_index"], owner)):
            raise ValueError(f"'{self.folder}/data': frame_index or episode_index disagrees with meta/episodes.")
        late = np.abs(columns["timestamp"] - frame / float(self.fps)) > 0.1 / float(self.fps)
        if late.any():
            first = int(late.argmax())
            raise ValueError(
                f"'{self.folder}/data': episode {owner[first]}, frame {frame[first]} is stamped "
                f"{columns['timestamp'][first]:.3f} s, which is not the {self.info['fps']} Hz of info.json."
            )

    def tasks(self) -> list[tuple[str, ...]]:
        """Return the instructions of each episode: those the episodes name, else those its rows point to."""
        if all(episode.tasks is not None for episode in self.episodes):
            return [episode.tasks or () for episode in self.episodes]
        if "task_index" not in self.features:
            return [episode.tasks or () for episode in self.episodes]
        index = self.numbers(["task_index"])["task_index"][:, 0]
        return [
            episode.tasks or tuple(self.task_names.get(int(i), "") for i in dict.fromkeys(index[episode.rows].tolist()))
            for episode in self.episodes
        ]


def read_stored(folder: Path) -> Stored:
    """Read info and episodes. Raises ``ValueError`` in one line that names the file and what is wrong."""
    with told_as_broken(folder):
        return _read(folder)


def _read(folder: Path) -> Stored:
    info = read_info(folder)
    _check_features(info["features"])
    if info["codebase_version"] in legacy.VERSIONS:
        episodes = legacy.episodes_of(folder, info)
        return Stored(
            folder=folder,
            info=info,
            fps=_rate(folder, info),
            episodes=episodes,
            data_paths=tuple(episode.data.path for episode in episodes),
            task_names=legacy.task_names(folder),
        )
    paths = tuple(sorted(folder.glob("data/*/*.parquet")))
    if not paths:
        raise ValueError(f"'{folder}' has no data/*/*.parquet: the dataset is incomplete.")
    fps = _rate(folder, info)
    return Stored(
        folder=folder,
        info=info,
        fps=fps,
        episodes=_episodes(folder, info, paths, float(fps)),
        data_paths=paths,
        task_names=_task_names(folder),
    )


def read_info(folder: Path) -> dict[str, Any]:
    """Return info.json. Raises ``ValueError`` if there is no dataset that this version can read."""
    path = folder / layout.INFO_PATH
    if not path.exists():
        what = "it has no meta/info.json" if folder.exists() else "the folder does not exist"
        raise ValueError(f"No dataset at '{folder}': {what}.")
    info = read_json(path)
    missing = {"codebase_version", "fps", "features"} - info.keys()
    if missing:
        raise ValueError(f"'{path}' lacks {', '.join(sorted(missing))}: not a LeRobot dataset.")
    version = info["codebase_version"]
    if version not in VERSIONS:
        raise ValueError(f"'{folder}' is a LeRobot {version} dataset; this version reads {', '.join(VERSIONS)}.")
    if not info.get("total_episodes", 0) or not info.get("total_frames", 0):
        raise ValueError(f"'{folder}' is empty: it holds 0 episodes. Record or generate some first.")
    return info


def _check_features(features: Mapping[str, Mapping[str, Any]]) -> None:
    for name, feature in features.items():
        if not (isinstance(feature["dtype"], str) and isinstance(feature["shape"], list)):
            raise TypeError(f"feature {name} has dtype {feature['dtype']!r} and shape {feature['shape']!r}")


def _rate(folder: Path, info: Mapping[str, Any]) -> Fraction:
    try:
        fps = Fraction(str(info["fps"]))
    except ValueError:
        fps = Fraction(0)
    if fps <= 0:
        raise ValueError(f"'{folder / layout.INFO_PATH}': fps must be above 0, got {info['fps']}.")
    return fps


def _is_depth(feature: Mapping[str, Any]) -> bool:
    detail = feature.get("info") or {}
    return bool(detail.get("is_depth_map") or detail.get("video.is_depth_map"))


def _task_names(folder: Path) -> dict[int, str]:
    """Return what each task_index says. The text is a column or, written by pandas, its index under any name."""
    path = folder / layout.TASKS_PATH
    if not path.exists():
        return {}
    table = read_table(path)
    texts = [name for name in ("task", "__index_level_0__") if name in table.column_names]
    texts += [name for name in table.column_names if name not in ("task_index", *texts)]
    if not texts:
        return {}
    # the reader of the format goes by position where there is no number
    numbers = table["task_index"].to_pylist() if "task_index" in table.column_names else range(table.num_rows)
    return dict(zip(numbers, map(str, table[texts[0]].to_pylist()), strict=True))


def _episodes(
    folder: Path, info: Mapping[str, Any], data_paths: Sequence[Path], fps: float
) -> tuple[StoredEpisode, ...]:
    """Read the table of episodes of v3.0."""
    paths = sorted(folder.glob("meta/episodes/*/*.parquet"))
    if not paths:
        raise ValueError(f"'{folder}' has no meta/episodes/*/*.parquet: the dataset is incomplete.")
    table = read_tables_of(folder, paths)
    if table.num_rows != info["total_episodes"]:
        raise ValueError(
            f"'{folder}/meta/episodes' has {table.num_rows} episodes, info.json says {info['total_episodes']}."
        )
    cameras = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
    wanted = ["length", "dataset_from_index", "dataset_to_index"]
    wanted += [f"videos/{c}/{n}" for c in cameras for n in ("chunk_index", "file_index", "from_timestamp")]
    lacking = [name for name in wanted if name not in table.column_names]
    if lacking:
        raise ValueError(f"'{folder}/meta/episodes' lacks the column {', '.join(lacking)}.")
    wanted += [name for name in ("tasks",) if name in table.column_names]
    firsts = np.cumsum([0, *(rows_of(path) for path in data_paths)])
    if firsts[-1] != info["total_frames"]:
        raise ValueError(
            f"'{folder}/data' holds {firsts[-1]} frames, info.json says {info['total_frames']}: files are missing."
        )
    episodes, end = [], 0
    for number, row in enumerate(table.select(wanted).to_pylist()):
        _check_span(folder, number, row, end)
        end = row["dataset_to_index"]
        # files need not hold whole episodes in order of their name; the row number decides, as for LeRobot itself
        file = int(np.searchsorted(firsts, row["dataset_from_index"], side="right")) - 1
        start = row["dataset_from_index"]
        episodes.append(
            StoredEpisode(
                number=number,
                tasks=None if row.get("tasks") is None else tuple(row["tasks"]),
                start=start,
                stop=end,
                data=Place(path=data_paths[min(file, len(data_paths) - 1)], start=start - int(firsts[file])),
                videos={c: _video(folder, info, row, camera=c, fps=fps) for c in cameras},
            )
        )
    if end != info["total_frames"]:
        raise ValueError(f"'{folder}/meta/episodes' ends at frame {end}, info.json says {info['total_frames']}.")
    return tuple(episodes)


def _check_span(folder: Path, number: int, row: Mapping[str, Any], end: int) -> None:
    start, stop = row["dataset_from_index"], row["dataset_to_index"]
    if start != end or stop - start != row["length"] or stop <= start:
        raise ValueError(
            f"'{folder}/meta/episodes': episode {number} covers frames {start} to {stop} with length "
            f"{row['length']}; expected a start at {end}."
        )


def _video(folder: Path, info: Mapping[str, Any], row: Mapping[str, Any], *, camera: str, fps: float) -> Place:
    prefix = f"videos/{camera}/"
    path = (info.get("video_path") or layout.VIDEO_PATH).format(
        video_key=camera, chunk_index=row[prefix + "chunk_index"], file_index=row[prefix + "file_index"]
    )
    # integer frame addressing: robust to the rounding of seconds
    return Place(path=folder / path, start=round(row[prefix + "from_timestamp"] * fps))
