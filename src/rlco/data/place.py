"""Where one recorded episode lies on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Consecutive frames of a file."""

    path: Path
    start: int
    """First frame (of an mp4) or row (of a parquet file)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredEpisode:
    """One episode as it is on disk."""

    number: int
    """Its ``episode_index``."""
    tasks: tuple[str, ...] | None
    """Instructions; None: nobody says, look at the rows."""
    start: int
    """First frame of the episode in the dataset."""
    stop: int
    """One past its last frame."""
    data: Place
    videos: Mapping[str, Place]
    """One for each camera."""

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def rows(self) -> slice:
        """Its frames in the dataset."""
        return slice(self.start, self.stop)
