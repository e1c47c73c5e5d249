"""RGB frames to h264 files and back. The only place that touches PyAV."""

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

from rlco.data import layout

# every other frame is a key frame and none is bidirectional: any frame is at most one decode away (LeRobot's g=2)
_GOP = 2
# hard edges in small frames: crf 12 keeps the mean error under 2 grey levels; "veryfast" halves the size of the files
_ENCODER = {"crf": "12", "preset": "veryfast", "g": str(_GOP), "bf": "0", "threads": "1"}


class VideoFile:
    """One mp4 being written; the presentation time of a frame is its number in the file."""

    def __init__(self, path: Path, *, height: int, width: int, fps: int) -> None:
        self.frames = 0
        self.bytes = 0
        self._container: Any = av.open(str(path), "w", options={"movflags": "faststart"})
        self._stream: Any = self._container.add_stream("libx264", rate=fps, options=dict(_ENCODER))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.time_base = Fraction(1, fps)
        self._stream.codec_context.time_base = Fraction(1, fps)
        self._reformatter = VideoReformatter()

    def add(self, frames: UInt8[ndarray, "T H W 3"]) -> int:
        """Append frames; return the number in the file of the first one."""
        first = self.frames
        for image in frames:
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            # the default chroma filter shifts colour edges; AREA takes the mean of the four pixels
            frame = self._reformatter.reformat(rgb, format="yuv420p", interpolation=Interpolation.AREA)
            frame.pts, frame.time_base = self.frames, self._stream.codec_context.time_base
            self._mux(self._stream.encode(frame))
            self.frames += 1
        return first

    def close(self) -> None:
        """Flush the encoder and write the index."""
        self._mux(self._stream.encode())
        self._container.close()

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            self.bytes += packet.size
            self._container.mux(packet)


class VideoWriter:
    """The mp4 files of one camera: a new one starts once the last has reached the size limit."""

    def __init__(self, root: Path, *, key: str, fps: int) -> None:
        self._root, self._key, self._fps = root, key, fps
        self._files = 0
        self._open: VideoFile | None = None

    def add(self, frames: UInt8[ndarray, "T H W 3"]) -> dict[str, Any]:
        """Append an episode; return its place as columns of the episodes table."""
        if self._open is None or self._open.bytes >= layout.VIDEO_FILE_MB * 2**20:
            self._open = self._next(height=frames.shape[1], width=frames.shape[2])
        first = self._open.add(frames)
        chunk, file = layout.chunk_and_file(self._files - 1)
        prefix = f"videos/{self._key}"
        return {
            f"{prefix}/chunk_index": chunk,
            f"{prefix}/file_index": file,
            f"{prefix}/from_timestamp": first / self._fps,
            f"{prefix}/to_timestamp": (first + len(frames)) / self._fps,
        }

    def close(self) -> None:
        """Finish the file that is open."""
        if self._open is not None:
            self._open.close()

    def _next(self, *, height: int, width: int) -> VideoFile:
        self.close()
        path = layout.place(self._root, layout.VIDEO_PATH, self._files, video_key=self._key)
        self._files += 1
        return VideoFile(path, height=height, width=width, fps=self._fps)


def packet_count(path: Path) -> int:
    """Return how many frames the file really holds, without decoding; 0 if it cannot be opened."""
    try:
        with av.open(str(path)) as container:
            return sum(packet.size > 0 for packet in container.demux(video=0))
    except (FFmpegError, IndexError):
        return 0


def decode(path: Path) -> Iterator[UInt8[ndarray, "H W 3"]]:
    """Yield the frames of the file in order."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")
