"""Open a LeRobot v3.0 dataset: checked up front, frames decoded once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray

from rlco.core.episode import Episode, StopReason
from rlco.core.scene import InitialState
from rlco.data import layout
from rlco.data.frames import cached_frames, check_videos
from rlco.data.tables import EpisodeSpan, Tables, read_json, read_tables


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """N frames in episodes. Made by ``Dataset.open``; everything is read-only."""

    folder: Path
    cache_folder: Path
    tables: Tables
    initial_states: tuple[InitialState | None, ...]
    """From the recorder's sidecar; all None if there is none."""

    @staticmethod
    def open(folder: Path | str, *, control_hz: int | None = None, cache_folder: Path | None = None) -> Dataset:
        """Read and check the dataset in ``folder``.

        ``control_hz``: the control rate of the policy or world [Hz]; another frame rate is an error.
        ``cache_folder``: where decoded frames go; ``folder/.cache`` by default.
        Raises ``ValueError`` in one line that names the file and what is wrong with it.
        """
        folder = Path(folder)
        tables = read_tables(folder)
        if control_hz is not None and tables.info["fps"] != control_hz:
            raise ValueError(
                f"'{folder}' was recorded at {tables.info['fps']} Hz, the control rate is {control_hz} Hz."
            )
        check_videos(tables.episodes)
        return Dataset(
            folder=folder,
            cache_folder=cache_folder or folder / ".cache",
            tables=tables,
            initial_states=_initial_states(folder, len(tables.episodes)),
        )

    @property
    def fps(self) -> int:
        """Frames, and control steps, per second."""
        return self.tables.info["fps"]

    @property
    def episodes(self) -> tuple[EpisodeSpan, ...]:
        """Length, task and place of each episode."""
        return self.tables.episodes

    @property
    def state(self) -> Float32[ndarray, "N S"]:
        """Raw SI units."""
        return self.tables.state

    @property
    def action(self) -> Float32[ndarray, "N A"]:
        """Raw SI units."""
        return self.tables.action

    @cached_property
    def frames(self) -> UInt8[ndarray, "N H W 3"]:
        """Every picture, memory-mapped; the first use decodes the videos unless the cache holds them."""
        path = self.cache_folder / f"frames-{self.fingerprint}.u8"
        return cached_frames(path, self.episodes, height=self.tables.height, width=self.tables.width)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the content of info.json, all tables and all videos."""
        digest = hashlib.sha256()
        patterns = (layout.INFO_PATH, "meta/episodes/*/*.parquet", "data/*/*.parquet", "videos/*/*/*.mp4")
        for path in sorted(p for pattern in patterns for p in self.folder.glob(pattern)):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.action)

    def episode(self, number: int) -> Episode:
        """Return one episode. A dataset keeps successes only, so that is its stop reason."""
        span = self.episodes[number]
        rows = slice(span.start, span.stop)
        return Episode(
            image=np.asarray(self.frames[rows]),
            state=self.state[rows],
            action=self.action[rows],
            instruction=span.task,
            fps=self.fps,
            stop_reason=StopReason.SUCCESS,
            initial_state=self.initial_states[number],
        )


def _initial_states(folder: Path, count: int) -> tuple[InitialState | None, ...]:
    path = folder / layout.INITIAL_STATES_PATH
    if not path.exists():
        return (None,) * count
    values = read_json(path)["episodes"]
    if len(values) != count:
        raise ValueError(f"'{path}' has {len(values)} initial states, the dataset has {count} episodes.")
    return tuple(None if v is None else InitialState.from_json(v) for v in values)
