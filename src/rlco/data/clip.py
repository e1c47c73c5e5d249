"""Frames to the bytes of a small mp4 that every browser plays."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray


def encode_mp4(frames: UInt8[ndarray, "T H W 3"], *, fps: int) -> bytes:
    """Return an h264 mp4. Height and width must be even (h264 halves the colour resolution)."""
    num_frames, height, width, _ = frames.shape
    if num_frames == 0 or height % 2 or width % 2:
        raise ValueError(f"An mp4 needs at least one frame and an even height and width, got shape {frames.shape}.")
    buffer = io.BytesIO()
    container: Any = av.open(buffer, "w", format="mp4")
    stream: Any = container.add_stream("libx264", rate=fps, options={"crf": "20", "threads": "1"})
    stream.width, stream.height, stream.pix_fmt, stream.time_base = width, height, "yuv420p", Fraction(1, fps)
    for image in frames:
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
    container.mux(stream.encode())
    container.close()
    return buffer.getvalue()
