"""Open a LeRobot dataset, v3.0, v2.1 or v2.0: checked up front, frames decoded once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray

from rlco.core.episode import Episode, StopReason
from rlco.core.scene import InitialState
from rlco.data import layout
from rlco.data.checks import told_as_broken
from rlco.data.frames import cached_frames, check_videos, episode_frames
from rlco.data.reading import Reading
from rlco.data.tables import EpisodeSpan, Tables, read_json, read_tables


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """N frames in episodes. Made by ``Dataset.open``; everything is read-only."""

    folder: Path
    cache_folder: Path
    tables: Tables
    initial_states: tuple[InitialState | None, ...]
    """From the recorder's sidecar; all None if there is none."""
    reading: Reading | None = None
    """How a foreign dataset was understood; None: it is in our form."""

    @staticmethod
    def open(
        folder: Path | str,
        *,
        control_hz: int | None = None,
        cache_folder: Path | None = None,
        reading: Reading | None = None,
    ) -> Dataset:
        """Read and check the dataset in ``folder``.

        ``control_hz``: the control rate of the policy or world [Hz]; another frame rate is an error.
        ``cache_folder``: where decoded frames go; ``folder/.cache`` by default.
        ``reading``: what the numbers of a dataset of somebody else mean; what is opened is then in our form, at the
        control rate of the reading. Nothing is written but the frame cache.
        Raises ``ValueError`` in one line that names the file and what is wrong with it.
        """
        folder = Path(folder)
        tables = read_tables(folder, reading)
        if control_hz is not None and tables.info["fps"] != control_hz:
            raise ValueError(
                f"'{folder}' was recorded at {tables.info['fps']} Hz, the control rate is {control_hz} Hz. "
                f"Resample it with rlco data convert --control-hz {control_hz}."
            )
        if tables.image_column is None:
            check_videos(tables.episodes)
        return Dataset(
            folder=folder,
            cache_folder=cache_folder or folder / ".cache",
            tables=tables,
            initial_states=_initial_states(folder, len(tables.episodes)),
            reading=reading,
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
        return cached_frames(self.cache_folder / f"frames-{self.fingerprint}.u8", self.tables)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the content of info.json, all tables and all videos, and of the reading if there is one."""
        digest = hashlib.sha256()
        patterns = [layout.INFO_PATH, "meta/episodes/*/*.parquet", "data/*/*.parquet", "videos/*/*/*.mp4"]
        if self.tables.info["codebase_version"] != layout.CODEBASE_VERSION:
            patterns.append("meta/*.jsonl")
        for path in sorted(p for pattern in patterns for p in self.folder.glob(pattern)):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        if self.reading is not None:
            digest.update(json.dumps(self.reading.to_json(), sort_keys=True).encode())
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.action)

    def episode(self, number: int) -> Episode:
        """Return one episode. A dataset keeps successes only, so that is its stop reason."""
        span = self.episodes[number]
        return self._episode(number, np.asarray(self.frames[span.start : span.stop]))

    def stream(self) -> Iterator[Episode]:
        """Yield the episodes in order, decoded as they come: nothing is cached, one episode is in memory."""
        for number, image in enumerate(episode_frames(self.tables)):
            yield self._episode(number, image)

    def _episode(self, number: int, image: UInt8[ndarray, "T H W 3"]) -> Episode:
        span = self.episodes[number]
        rows = slice(span.start, span.stop)
        return Episode(
            image=image,
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
    with told_as_broken(folder):
        values = read_json(path)["episodes"]
        if len(values) != count:
            raise ValueError(f"'{path}' has {len(values)} initial states, the dataset has {count} episodes.")
        return tuple(None if v is None else InitialState.from_json(v) for v in values)
