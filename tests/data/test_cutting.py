"""Episodes are cut out of a longer video picture by picture, whatever the order of its packets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy import ndarray

from rlco.data import cutting
from rlco.data.cutting import VideoSource
from rlco.data.video import decode
from tests.data.foreign import frame_numbers, grey


def bidirectional(path: Path, frames: ndarray) -> Path:
    """Write a video in which pictures are stored in another order than they are shown."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=5, options={"crf": "5", "bf": "3", "b-pyramid": "normal"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        assert any(p.pts != p.dts for p in container.demux(video=0) if p.size)
    return path


def test_a_video_with_bidirectional_frames_is_decoded_once_for_all_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, begun = bidirectional(tmp_path / "long.mp4", grey(18)), []

    def counted(path: Path) -> Iterator[ndarray]:
        begun.append(path)
        return decode(path)

    monkeypatch.setattr(cutting, "decode", counted)
    source = VideoSource(path)
    for first, length in ((0, 5), (5, 6), (13, 4)):
        frames = source.cut(tmp_path / "part.mp4", first=first, length=length, fps=5)
        assert frame_numbers(frames) == list(range(first, first + length))
        assert frame_numbers(np.stack(list(decode(tmp_path / "part.mp4")))) == list(range(first, first + length))
    assert len(begun) == 1
    assert not source.is_copied(0)
    # backwards it begins again
    assert frame_numbers(source.cut(tmp_path / "part.mp4", first=2, length=3, fps=5)) == [2, 3, 4]
    assert len(begun) == 2
    with pytest.raises(ValueError, match=r"long.mp4': 2 frames after 15 cannot be decoded"):
        source.cut(tmp_path / "end.mp4", first=15, length=5, fps=5)
    assert not (tmp_path / "end.mp4").exists()
    source.close()
