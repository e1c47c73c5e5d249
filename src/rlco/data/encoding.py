"""Pictures to complete mp4 files, one per episode, and such files joined to longer ones without encoding again."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import Interpolation, VideoReformatter
from jaxtyping import UInt8
from numpy import ndarray

from rlco.core.files import write_atomic
from rlco.data import layout

# every other frame is a key frame and none is bidirectional: any frame is at most one decode away (LeRobot's g=2)
_GOP = 2
# hard edges in small frames: crf 12 keeps the mean error under 2 grey levels; "veryfast" makes files of 60 % of the
# size of "ultrafast". One thread each, since episodes are what runs in parallel. x264 looks ahead in a thread of its
# own, and what it then decides depends on the timing of other encoders: without it the bits are always the same.
_ENCODER = {
    "crf": "12",
    "preset": "veryfast",
    "g": str(_GOP),
    "bf": "0",
    "sc_threshold": "0",
    "rc-lookahead": "0",
    "threads": "1",
}

VIDEO_ERRORS = (FFmpegError, IndexError, OSError, UnicodeDecodeError)
"""What reading a broken video raises; the last comes of its metadata."""


def encode_part(path: Path, frames: UInt8[ndarray, "T H W 3"], *, fps: int) -> None:
    """Write one episode's pictures as an mp4 that is complete or absent. Height and width must be even."""
    write_atomic(path, lambda temporary: _encode(temporary, frames, fps=fps))


def _encode(path: Path, frames: UInt8[ndarray, "T H W 3"], *, fps: int) -> None:
    time_base = Fraction(1, fps)
    reformatter = VideoReformatter()
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=fps, options=dict(_ENCODER))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base
        for number, image in enumerate(frames):
            rgb = av.VideoFrame.from_ndarray(image, format="rgb24")
            # the default chroma filter shifts colour edges; AREA takes the mean of the four pixels
            frame = reformatter.reformat(rgb, format="yuv420p", interpolation=Interpolation.AREA)
            frame.pts, frame.time_base = number, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


class JoinedVideos:
    """The mp4 files of one camera, joined from parts packet by packet: a new one starts at the size limit."""

    def __init__(self, root: Path, *, key: str, fps: int) -> None:
        self._root, self._key, self._fps = root, key, fps
        self._files = 0
        self._open: _Joined | None = None

    def add(self, part: Path, *, length: int) -> dict[str, Any]:
        """Append an episode of ``length`` frames; return its place as columns of the episodes table."""
        with av.open(str(part)) as source:
            stream = source.streams.video[0]
            if self._open is None or not self._open.fits(stream):
                self._open = self._next(stream)
            first = self._open.add(source, length=length)
        chunk, file = layout.chunk_and_file(self._files - 1)
        prefix = f"videos/{self._key}"
        return {
            f"{prefix}/chunk_index": chunk,
            f"{prefix}/file_index": file,
            f"{prefix}/from_timestamp": first / self._fps,
            f"{prefix}/to_timestamp": (first + length) / self._fps,
        }

    def close(self) -> None:
        """Finish the file that is open."""
        if self._open is not None:
            self._open.close()

    def _next(self, template: Any) -> _Joined:  # noqa: ANN401
        self.close()
        path = layout.place(self._root, layout.VIDEO_PATH, self._files, video_key=self._key)
        self._files += 1
        return _Joined(path, template, fps=self._fps)


class _Joined:
    """One mp4 being joined; the presentation time of a frame is its number in the file."""

    def __init__(self, path: Path, template: Any, *, fps: int) -> None:  # noqa: ANN401
        self.frames = 0
        self._bytes = 0
        self._extradata, self._time_base = template.codec_context.extradata, template.time_base
        self._ticks = ticks_per_frame(template.time_base, fps=fps)
        self._container: Any = av.open(str(path), "w", options={"movflags": "faststart"})
        self._stream: Any = self._container.add_stream_from_template(template)
        self._stream.time_base = template.time_base

    def fits(self, stream: Any) -> bool:  # noqa: ANN401
        """Return whether a stream of this encoding may be appended here."""
        same = stream.codec_context.extradata == self._extradata and stream.time_base == self._time_base
        return same and self._bytes < layout.VIDEO_FILE_MB * 2**20

    def add(self, source: Any, *, length: int) -> int:  # noqa: ANN401
        """Append all packets; return the number in the file of the first frame."""
        first = self.frames
        for packet in source.demux(video=0):
            if packet.size == 0:
                continue
            # the muxer may rescale the packet in place to its own time base, the part's is that of the template
            packet.time_base = self._time_base
            packet.pts = packet.dts = self.frames * self._ticks
            packet.duration = self._ticks
            packet.stream = self._stream
            self._bytes += packet.size
            self._container.mux(packet)
            self.frames += 1
        if self.frames - first != length:
            raise ValueError(f"'{source.name}' holds {self.frames - first} frames, expected {length}.")
        return first

    def close(self) -> None:
        """Write the index."""
        self._container.close()


def ticks_per_frame(time_base: Fraction, *, fps: int) -> int:
    """Return how many units of ``time_base`` one frame lasts. Raises ``ValueError`` if that is no whole number."""
    ticks = 1 / (fps * time_base)
    if ticks.denominator != 1:
        raise ValueError(f"A time base of {time_base} s has no whole number of ticks in a frame of {fps} Hz.")
    return int(ticks)


def part_length(path: Path) -> int:
    """Return how many frames an mp4 really holds, without decoding; 0 if it cannot be opened."""
    try:
        with av.open(str(path)) as container:
            return sum(packet.size > 0 for packet in container.demux(video=0))
    except VIDEO_ERRORS:
        return 0


def video_rate(path: Path) -> float | None:
    """Return the frames a second that a video says it has; None if it does not, or cannot be opened."""
    try:
        with av.open(str(path)) as container:
            stream: Any = container.streams.video[0]
            return float(stream.average_rate) if stream.average_rate else None
    except (*VIDEO_ERRORS, ZeroDivisionError):
        return None


def decode_luma(path: Path) -> Iterator[UInt8[ndarray, "H W"]]:
    """Yield the brightness of the frames in order, until the end or the first that cannot be decoded."""
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield _luma(frame)
    except VIDEO_ERRORS:
        return


def _luma(frame: Any) -> UInt8[ndarray, "H W"]:  # noqa: ANN401
    if frame.format.name not in ("yuv420p", "yuvj420p", "nv12", "gray"):
        return frame.to_ndarray(format="gray")
    # these store it as it is: four times as fast as converting
    plane = frame.planes[0]
    return np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width].copy()
