"""Video files to RGB frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
from jaxtyping import UInt8
from numpy import ndarray


def decode(path: Path) -> Iterator[UInt8[ndarray, "H W 3"]]:
    """Yield the frames of the file in order."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")
