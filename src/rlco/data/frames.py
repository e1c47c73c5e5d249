"""The pictures of a dataset: from videos or tables, streamed by episode, or decoded once into a memory-mapped file."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from rlco.core.files import require_writable, write_atomic
from rlco.data.encoding import part_length
from rlco.data.pictures import fitted, stored_pictures
from rlco.data.reading import Fit
from rlco.data.tables import EpisodeSpan, Tables
from rlco.data.video import decode

_MEMORY_SHARE = 0.5
"""A cache below this share of the machine's memory is expected to stay in it."""


def check_videos(episodes: Sequence[EpisodeSpan]) -> None:
    """Raise ``ValueError`` if a video is missing or holds fewer frames than its episodes need (nothing is decoded)."""
    needed: dict[Path, int] = {}
    for span in episodes:
        length = len(span) if span.kept is None else max(span.kept) + 1
        needed[span.video_path] = max(needed.get(span.video_path, 0), span.video_start + length)
    for path, frames in needed.items():
        if not path.exists():
            raise ValueError(f"'{path}' is missing: the dataset is incomplete.")
        found = part_length(path)
        if found < frames:
            raise ValueError(f"'{path}' holds {found} frames, its episodes need {frames}: the video is truncated.")


def cached_frames(path: Path, tables: Tables) -> UInt8[ndarray, "N H W 3"]:
    """Return a read-only memory map of every frame in the order of the dataset, decoding it first if needed."""
    shape = (tables.episodes[-1].stop, tables.height, tables.width, 3)
    if not path.exists() or path.stat().st_size != np.prod(shape):
        require_writable(path.parent)
        write_atomic(path, lambda temporary: _decode_all(temporary, tables))
    return _mapped(path).reshape(shape)


def episode_frames(tables: Tables) -> Iterator[UInt8[ndarray, "T H W 3"]]:
    """Yield the frames of one episode after the other. A file is decoded once if its episodes are in order."""
    source = _Source(column=tables.image_column, fit=tables.fit, height=tables.height, width=tables.width)
    for span in tables.episodes:
        yield source.read(span)


@dataclass(kw_only=True, slots=True)
class _Source:
    """Reads forward through one file at a time."""

    column: str | None
    fit: Fit | None
    height: int
    width: int
    path: Path | None = None
    position: int = 0
    """Number of the next frame of the open file."""
    open_file: Iterator[UInt8[ndarray, "H W 3"]] | None = None

    def read(self, span: EpisodeSpan) -> UInt8[ndarray, "T H W 3"]:
        kept = range(len(span)) if span.kept is None else span.kept
        out = np.empty((len(span), self.height, self.width, 3), dtype=np.uint8)
        last = -1
        for row, frame in enumerate(kept):
            if frame == last:
                out[row] = out[row - 1]
            else:
                out[row] = self._fitted(self._frame(span, span.video_start + frame))
            last = frame
        return out

    def _frame(self, span: EpisodeSpan, number: int) -> UInt8[ndarray, "H W 3"]:
        if self.path != span.video_path or number < self.position or self.open_file is None:
            self.path, self.position = span.video_path, 0
            self.open_file = decode(self.path) if self.column is None else stored_pictures(self.path, self.column)
        for image in self.open_file:
            self.position += 1
            if self.position == number + 1:
                return image
        raise ValueError(f"'{span.video_path}': frame {number} cannot be decoded, the file ends at {self.position}.")

    def _fitted(self, image: UInt8[ndarray, "H W 3"]) -> UInt8[ndarray, "h w 3"]:
        if self.fit is not None:
            return fitted(image, size=self.height, fit=self.fit)
        if image.shape != (self.height, self.width, 3):
            raise ValueError(
                f"'{self.path}' has frames of shape {image.shape}, info.json says {(self.height, self.width, 3)}."
            )
        return image


def _decode_all(path: Path, tables: Tables) -> None:
    with path.open("wb") as file:
        for frames in episode_frames(tables):
            file.write(frames.data)
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            # what is read again from the disk lies in huge pages, what was just written does not (see _mapped)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _mapped(path: Path) -> UInt8[ndarray, " bytes"]:
    """Map the file, in huge pages where there are such: with small ones a random read waits for the page tables."""
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # each read then brings two megabytes: for a file that stays in memory only
    if hasattr(mmap, "MADV_HUGEPAGE") and len(memory) < _MEMORY_SHARE * _memory_bytes():
        with suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype=np.uint8)


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
