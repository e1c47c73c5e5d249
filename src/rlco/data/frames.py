"""All frames of a dataset, decoded once into a memory-mapped uint8 file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from rlco.core.files import require_writable, write_atomic
from rlco.data.tables import EpisodeSpan
from rlco.data.video import decode, packet_count


def check_videos(episodes: Sequence[EpisodeSpan]) -> None:
    """Raise ``ValueError`` if a video is missing or holds fewer frames than its episodes need (nothing is decoded)."""
    needed: dict[Path, int] = {}
    for span in episodes:
        needed[span.video_path] = max(needed.get(span.video_path, 0), span.video_start + len(span))
    for path, frames in needed.items():
        if not path.exists():
            raise ValueError(f"'{path}' is missing: the dataset is incomplete.")
        found = packet_count(path)
        if found < frames:
            raise ValueError(f"'{path}' holds {found} frames, its episodes need {frames}: the video is truncated.")


def cached_frames(
    path: Path, episodes: Sequence[EpisodeSpan], *, height: int, width: int
) -> UInt8[ndarray, "N height width 3"]:
    """Return a read-only memory map of every frame in the order of the dataset, decoding it first if needed."""
    shape = (episodes[-1].stop, height, width, 3)
    if not path.exists() or path.stat().st_size != np.prod(shape):
        require_writable(path.parent)
        write_atomic(path, lambda temporary: _decode_all(temporary, episodes, shape))
    return np.memmap(path, dtype=np.uint8, mode="r", shape=shape)


def _decode_all(path: Path, episodes: Sequence[EpisodeSpan], shape: tuple[int, ...]) -> None:
    out = np.memmap(path, dtype=np.uint8, mode="w+", shape=shape)
    for video in dict.fromkeys(span.video_path for span in episodes):
        # frame number in the file -> frame number in the dataset; files may hold frames that no episode uses
        target = {
            span.video_start + i: span.start + i
            for span in episodes
            if span.video_path == video
            for i in range(len(span))
        }
        missing = set(target)
        for number, image in enumerate(decode(video)):
            if image.shape != shape[1:]:
                raise ValueError(f"'{video}' has frames of shape {image.shape}, info.json says {shape[1:]}.")
            if number in target:
                out[target[number]] = image
                missing.discard(number)
        if missing:
            raise ValueError(f"'{video}': {len(missing)} frames cannot be decoded, the first is {min(missing)}.")
    out.flush()
