"""Cut episodes out of longer videos, packet by packet: pictures are encoded again only where that is impossible."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from rlco.core.files import write_atomic
from rlco.data.encoding import VIDEO_ERRORS, encode_part
from rlco.data.video import decode

_TICKS = 512
"""Units of an mp4's time base in one frame."""


class VideoSource:
    """One video whose episodes are being cut out. Keeps the file's packets in memory until ``close``."""

    def __init__(self, path: Path) -> None:
        """Raises ``ValueError`` if the file cannot be opened."""
        try:
            self._container: Any = av.open(str(path))
            self._stream = self._container.streams.video[0]
            self._packets = _packets(self._container)
        except VIDEO_ERRORS as error:
            raise ValueError(f"'{path}' cannot be opened as a video.") from error
        self._path = path
        # with bidirectional frames the order of packets is not that of pictures
        self._is_plain = all(p.pts == p.dts for p in self._packets)
        self._decoder: Iterator[ndarray] | None = None
        self._position = 0

    def close(self) -> None:
        """Let go of the file."""
        self._decoder = None
        self._packets.clear()
        self._container.close()

    def cut(self, out: Path, *, first: int, length: int, fps: int) -> UInt8[ndarray, "T H W 3"]:
        """Write frames ``first`` to ``first + length`` to ``out``, complete or absent; return them decoded.

        Without loss if the first is a key frame, else encoded again (``is_copied`` tells). Raises ``ValueError`` if
        the frames are not all there.
        """
        frames = self._copied(out, first, length, fps=fps) if self._is_plain else self._ahead(first, length)
        if len(frames) != length:
            out.unlink(missing_ok=True)
            raise ValueError(f"'{self._path}': {length - len(frames)} frames after {first} cannot be decoded.")
        if not self.is_copied(first):
            encode_part(out, np.stack(frames), fps=fps)
        return np.stack(frames)

    def is_copied(self, first: int) -> bool:
        """Return whether an episode that begins at this frame is cut without encoding it again."""
        return self._is_plain and self._key_before(first) == first

    def _key_before(self, first: int) -> int:
        return next((n for n in range(min(first, len(self._packets) - 1), -1, -1) if self._packets[n].is_keyframe), 0)

    def _copied(self, out: Path, first: int, length: int, *, fps: int) -> list[ndarray]:
        """Write the packets from the key frame before ``first`` on; return the frames of the episode."""
        start = self._key_before(first)
        write_atomic(out, lambda temporary: self._copy(temporary, start, first + length, fps=fps))
        return _decoded(out)[first - start : first - start + length]

    def _copy(self, path: Path, start: int, stop: int, *, fps: int) -> None:
        with av.open(str(path), "w", format="mp4") as container:
            stream: Any = container.add_stream_from_template(self._stream)
            stream.time_base = Fraction(1, fps * _TICKS)
            for number, packet in enumerate(self._packets[start:stop]):
                # muxing changes a packet, and one may be needed for two episodes
                copy: Any = av.Packet(bytes(packet))
                copy.time_base, copy.stream, copy.is_keyframe = stream.time_base, stream, packet.is_keyframe
                copy.pts = copy.dts = number * _TICKS
                copy.duration = _TICKS
                container.mux(copy)

    def _ahead(self, first: int, length: int) -> list[ndarray]:
        """Decode on from where the last episode ended; from the beginning only if this one lies before that."""
        if self._decoder is None or first < self._position:
            self._decoder, self._position = decode(self._path), 0
        frames: list[ndarray] = []
        try:
            for frame in itertools.islice(self._decoder, first + length - self._position):
                if self._position >= first:
                    frames.append(frame)
                self._position += 1
        except VIDEO_ERRORS:
            # what came before the error is good
            return frames
        return frames


def _packets(container: Any) -> list[Any]:  # noqa: ANN401
    found: list[Any] = []
    try:
        found.extend(packet for packet in container.demux(video=0) if packet.size)
    except VIDEO_ERRORS:
        # a damaged end: what came before it is good
        return found
    return found


def _decoded(path: Path) -> list[ndarray]:
    frames = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                frames.append(frame.to_ndarray(format="rgb24"))  # noqa: PERF401  (what came before an error is kept)
    except VIDEO_ERRORS:
        return frames
    return frames
