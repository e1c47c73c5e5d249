"""Checks of the videos: there, whole, at the right rate, and of a camera that is alive."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from rlco.core.progress import Reporter
from rlco.data.encoding import decode_luma, part_length, video_rate
from rlco.data.validation.findings import Finding
from rlco.data.validation.motion import motion_of, other_form, path_length
from rlco.data.validation.survey import Survey, SurveyedEpisode, VideoSpan

_BLOCK = 8
"""Pictures are compared in squares of this many pixels."""
_SAME = 1.5
"""Grey levels: encoding one picture twice changes no square by more on average, a moving arm does."""
_MOVED_M = 0.01
"""A camera that shows the same picture while the arm goes this far is frozen."""


@dataclass(kw_only=True, slots=True)
class Videos:
    """What decoding gave."""

    frames: dict[Path, int] = field(default_factory=dict)
    """File -> frames that can be decoded, or that it holds if nothing was decoded."""
    repeats: dict[tuple[int, str], list[tuple[int, int]]] = field(default_factory=dict)
    """(episode, camera) -> ranges of frames that show one and the same picture."""


def look(survey: Survey, *, decode: bool, reporter: Reporter) -> Videos:
    """Count the frames of every video; with ``decode`` by decoding them, which also finds repeated pictures."""
    videos = Videos()
    spans: dict[Path, list[tuple[int, str, VideoSpan, int]]] = {}
    for episode in survey.episodes:
        for camera, span in episode.videos.items():
            spans.setdefault(span.path, []).append((episode.number, camera, span, _length(episode, span)))
    for path, episodes in spans.items():
        if not path.is_file():
            videos.frames[path] = 0
        elif not decode:
            videos.frames[path] = part_length(path)
        else:
            _watch(path, episodes, videos)
        reporter.advance(sum(camera == survey.cameras[0] for _, camera, _, _ in episodes))
    return videos


def check_videos(survey: Survey, videos: Videos) -> Iterator[Finding]:
    """Yield what is wrong."""
    yield from _rates(survey, videos)
    yield from _overlaps(survey)
    for episode in survey.episodes:
        for camera in survey.cameras:
            span = episode.videos.get(camera)
            if span is None:
                yield Finding(code="video", message=f"no video of {camera} is known", episode=episode.number)
            else:
                yield from _span(survey, episode, span, videos)
        yield from _frozen(survey, episode, videos)


def available(span: VideoSpan, videos: Videos) -> int:
    """Return how many frames of the span there are."""
    there = max(0, videos.frames.get(span.path, 0) - span.first)
    return there if span.length is None else min(there, max(0, span.length))


def _length(episode: SurveyedEpisode, span: VideoSpan) -> int:
    rows = episode.rows.num_rows if episode.rows is not None else episode.length
    lengths = [n for n in (rows, span.length) if n is not None]
    return min(lengths, default=0)


def _watch(path: Path, episodes: list[tuple[int, str, VideoSpan, int]], videos: Videos) -> None:
    """Decode one file, comparing the pictures inside each episode."""
    owner = {span.first + t: (number, camera) for number, camera, span, n in episodes for t in range(n)}
    begin = {(number, camera): span.first for number, camera, span, _ in episodes}
    before: tuple[int, str] | None = None
    anchor, anchored, count = None, 0, 0
    for position, luma in enumerate(decode_luma(path)):
        count = position + 1
        key = owner.get(position)
        if key is not None and key == before and anchor is not None and _is_same(anchor, luma):
            continue
        _note_repeat(videos, before, begin, range(anchored, position))
        before, anchor, anchored = key, luma, position
    _note_repeat(videos, before, begin, range(anchored, count))
    videos.frames[path] = count


def _note_repeat(videos: Videos, key: tuple[int, str] | None, begin: dict[tuple[int, str], int], frames: range) -> None:
    if key is not None and len(frames) > 1:
        first = begin[key]
        videos.repeats.setdefault(key, []).append((frames.start - first, frames.stop - first))


def _is_same(one: UInt8[ndarray, "H W"], other: UInt8[ndarray, "H W"]) -> bool:
    if one.shape != other.shape:
        return False
    return bool(_blocks(np.abs(one.astype(np.int16) - other)).max(initial=0.0) < _SAME)


def _blocks(change: ndarray) -> Float[ndarray, "h w"]:
    """Return the mean of each square; a margin smaller than a square is left out."""
    height, width = (max(side // _BLOCK, 1) for side in change.shape)
    cut = change[: height * _BLOCK, : width * _BLOCK]
    return cut.reshape(height, -1, width, cut.shape[1] // width).mean(axis=(1, 3), dtype=np.float64)


def _rates(survey: Survey, videos: Videos) -> Iterator[Finding]:
    for path, frames in videos.frames.items():
        rate = video_rate(path) if frames > 1 else None
        if rate is not None and survey.fps is not None and abs(rate / survey.fps - 1) > 0.01:
            message = f"runs at {rate:g} Hz, info.json says {survey.fps:g} Hz: a reader would take other pictures"
            yield Finding(code="video-rate", message=message, file=_name(survey, path))


def _span(survey: Survey, episode: SurveyedEpisode, span: VideoSpan, videos: Videos) -> Iterator[Finding]:
    rows = episode.rows.num_rows if episode.rows is not None else episode.length or 0
    there, name = available(span, videos), _name(survey, span.path)
    whole = videos.frames.get(span.path, 0)
    if there == 0:
        what = "is missing" if not span.path.is_file() else f"holds {whole} frames that can be shown"
        message = f"'{name}' {what}, its pictures begin at {span.first}"
        yield Finding(code="video", message=message, episode=episode.number, file=name)
    elif there < rows:
        message = f"'{name}' holds {there} of its {rows} frames"
        yield Finding(code="video-short", message=message, episode=episode.number, frame=there, stop=rows, file=name)
    elif there > rows > 0:
        message = f"'{name}' holds {there} frames of it, the table has {rows} rows"
        yield Finding(code="length", message=message, episode=episode.number, file=name)


def _overlaps(survey: Survey) -> Iterator[Finding]:
    """Yield, for each episode, the first pictures that another one claims, too."""
    claims: dict[Path, list[tuple[int, int, int]]] = {}
    for episode in survey.episodes:
        # several cameras in one file are of one episode
        for path in {span.path for span in episode.videos.values()}:
            spans = [(s.first, s.first + _length(episode, s)) for s in episode.videos.values() if s.path == path]
            claims.setdefault(path, []).append((min(s[0] for s in spans), max(s[1] for s in spans), episode.number))
    for path, spans in claims.items():
        for first, stop, number, other in _shared(sorted(span for span in spans if span[0] < span[1])):
            message = f"episode {other} claims pictures of it in '{_name(survey, path)}', too"
            yield Finding(code="video-overlap", message=message, episode=number, frame=first, stop=stop)


def _shared(spans: list[tuple[int, int, int]]) -> Iterator[tuple[int, int, int, int]]:
    """Yield (first, stop, episode, other) with frames counted in the episode; ``spans`` are sorted."""
    # of those before it the one that goes on longest, of those after it the next
    longest = itertools.accumulate(spans, lambda a, b: max(a, b, key=lambda span: span[1]))
    for (begin, end, number), *others in zip(spans, [None, *longest], [*spans[1:], None], strict=False):
        for other in others:
            if other is not None and other[0] < end and begin < other[1]:
                yield max(begin, other[0]) - begin, min(end, other[1]) - begin, number, other[2]
                break


def _frozen(survey: Survey, episode: SurveyedEpisode, videos: Videos) -> Iterator[Finding]:
    motion = None if other_form(survey) else motion_of(episode)
    if motion is None:
        return
    moved = path_length(motion)
    for camera in survey.cameras:
        for first, stop in videos.repeats.get((episode.number, camera), []):
            way = float(moved[first : stop - 1].sum())
            if way > _MOVED_M:
                message = f"{camera} shows one picture while the arm goes {way * 100:.1f} cm"
                yield Finding(code="frozen-camera", message=message, episode=episode.number, frame=first, stop=stop)


def _name(survey: Survey, path: Path) -> str:
    return str(path.relative_to(survey.folder)) if path.is_relative_to(survey.folder) else str(path)
