"""Write a new dataset of what is sound in a broken one. Nothing is invented, and the source is never touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlco.core.files import replace_folder, require_writable
from rlco.core.progress import Reporter, Silent
from rlco.data import layout
from rlco.data.assemble import Description, StoredEpisode, assemble, write_dataset_json
from rlco.data.cutting import VideoSource
from rlco.data.scratch import scratch_folder
from rlco.data.summary import ImageSummary, sampled
from rlco.data.validation.mending import Mended, Mending, mend, plan
from rlco.data.validation.survey import Survey
from rlco.data.validation.validate import IDLE_S, Examined

REPORT_PATH = "meta/rlco_repair.json"
"""In the repaired dataset: what was done. Not part of the format."""
Unit = Literal["mm", "deg"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairOptions:
    """What only a person can know or want."""

    units: tuple[Unit, ...] = ()
    """The values that no arm has are in these units: convert them to metres and radians."""
    trim_idle: bool = False
    """Cut the pauses at the start and the end of an episode."""
    idle_s: float = IDLE_S
    """Only pauses that are longer [s]."""
    fps: int | None = None
    """The true frame rate [Hz], if info.json is wrong about it."""

    def __post_init__(self) -> None:
        if self.fps is not None and self.fps < 1:
            raise ValueError(f"fps must be 1 or more, got {self.fps}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeRepair:
    """What happened to one episode."""

    source: int
    """Its number in the source."""
    number: int
    """Its number now."""
    done: tuple[str, ...]
    """Empty if only its number and time stamps were written again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Repair:
    """What a repair did."""

    folder: str
    whole: tuple[str, ...]
    """What was done to all episodes."""
    episodes: tuple[EpisodeRepair, ...]
    dropped: dict[int, str]
    """Episode of the source -> why it could not be kept."""
    left: tuple[str, ...]
    """What a program cannot put right."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return what a person reads."""
        lines = [f"repaired: {text}" for text in self.whole]
        for episode in self.episodes:
            lines += [f"repaired: episode {episode.source} (now {episode.number}): {text}" for text in episode.done]
        lines += [f"dropped: episode {number}: {reason}" for number, reason in self.dropped.items()]
        lines += [f"left: {text}" for text in self.left]
        return [*lines, f"{self.folder}: {len(self.episodes)} episodes kept, {len(self.dropped)} dropped."]


def require_destination(source: Path, destination: Path) -> None:
    """Raise ``ValueError`` in one line unless ``destination`` is free and outside ``source``."""
    if destination.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"A repair is written to another folder than '{source}': choose one outside it.")
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ValueError(f"'{destination}' is not empty: choose another folder for the repaired dataset.")
    require_writable(destination.resolve().parent)


def repair(
    examined: Examined, destination: Path, *, options: RepairOptions, reporter: Reporter | None = None
) -> Repair:
    """Write what can be kept to ``destination`` as LeRobot v3.0; it appears complete or not at all.

    Raises ``ValueError`` in one line if the destination is taken, being written or nothing can be kept.
    """
    survey = examined.survey
    require_destination(survey.folder, destination)
    if survey.picture_columns and not survey.has_pictures:
        raise ValueError(f"The pictures of '{survey.folder}' were not read: examine it with pictures=True.")
    mending = plan(examined, units=options.units, fps=options.fps)
    scratch = destination.resolve().with_name(f".{destination.name}.parts")
    with scratch_folder(scratch):
        writing = _Writing(examined=examined, mending=mending, options=options, scratch=scratch)
        done = Repair(folder=str(destination), whole=mending.whole, episodes=(), dropped={}, left=_left(examined))

        def write(root: Path) -> None:
            nonlocal done
            assemble(root, writing.episodes(reporter or Silent()), writing.description())
            whole = (*done.whole, *_sidecars(survey, writing.kept, root))
            done = Repair(
                folder=done.folder,
                whole=whole,
                episodes=tuple(writing.kept),
                dropped=writing.dropped,
                left=done.left,
            )
            write_dataset_json(root / REPORT_PATH, {**done.to_json(), "source": survey.folder.name})

        try:
            replace_folder(destination, write)
        except ValueError as error:
            if writing.kept:
                raise
            reasons = "; ".join(sorted(set(writing.dropped.values()))) or "it holds none that can be read"
            raise ValueError(f"Nothing of '{survey.folder}' can be kept: {reasons}.") from error
        finally:
            shutil.rmtree(destination.with_name(f".{destination.name}.tmp"), ignore_errors=True)
    return done


@dataclass(kw_only=True)
class _Writing:
    """Episodes on their way from the source to the new dataset."""

    examined: Examined
    mending: Mending
    options: RepairOptions
    scratch: Path
    kept: list[EpisodeRepair] = field(default_factory=list)
    dropped: dict[int, str] = field(default_factory=dict)

    def description(self) -> Description:
        """Return what info.json says."""
        survey, fps = self.examined.survey, self.mending.fps
        names = (*survey.cameras, *survey.columns)
        # the order of info.json
        features: dict[str, dict[str, Any]] = {n: dict(f) for n, f in survey.features.items() if n in names}
        for name in survey.cameras:
            if isinstance(features[name].get("info"), dict):
                features[name]["info"] = {**features[name]["info"], "video.fps": fps}
        robot = survey.info.get("robot_type")
        return Description(
            features=features | layout.DEFAULT_FEATURES, fps=fps, robot_type=robot if isinstance(robot, str) else None
        )

    def episodes(self, reporter: Reporter) -> Iterator[StoredEpisode]:
        """Yield the episodes that can be kept."""
        with closing(_Sources()) as sources:
            for episode in self.examined.survey.episodes:
                mended = mend(episode, self.examined, self.mending, trim_steps=self._trim_steps())
                if isinstance(mended, str):
                    self.dropped[episode.number] = mended
                else:
                    try:
                        yield self._stored(mended, sources)
                    except _LostPicturesError as error:
                        self.dropped[episode.number] = str(error)
                reporter.advance()

    def _trim_steps(self) -> int | None:
        return max(2, round(self.options.idle_s * self.mending.fps)) if self.options.trim_idle else None

    def _stored(self, mended: Mended, sources: _Sources) -> StoredEpisode:
        done = list(mended.done)
        videos: dict[str, Path] = {}
        pixels: dict[str, ImageSummary] = {}
        for place, (camera, span) in enumerate(mended.videos.items()):
            out = self.scratch / f"{mended.source:06d}-{place}.mp4"
            try:
                source = sources.get(camera, span.path)
                frames = source.cut(out, first=span.first, length=len(mended.tasks), fps=self.mending.fps)
            except ValueError as error:
                raise _LostPicturesError(str(error)) from error
            if not source.is_copied(span.first):
                done.append(f"pictures of {camera} encoded again: they did not begin with a key frame")
            videos[camera], pixels[camera] = out, ImageSummary()
            pixels[camera].add(sampled(frames))
        self.kept.append(EpisodeRepair(source=mended.source, number=len(self.kept), done=tuple(done)))
        return StoredEpisode(table=mended.table, tasks=mended.tasks, videos=videos, pixels=pixels)


class _LostPicturesError(Exception):
    """Pictures that were counted cannot be cut out."""


class _Sources:
    """The videos that are being cut: one is open for each camera."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Path, VideoSource]] = {}

    def get(self, camera: str, path: Path) -> VideoSource:
        """Return the open video, closing the one before it. Raises ``ValueError`` if it cannot be opened."""
        before = self._open.pop(camera, None)
        if before is not None and before[0] != path:
            before[1].close()
            before = None
        self._open[camera] = before or (path, VideoSource(path))
        return self._open[camera][1]

    def close(self) -> None:
        """Close what is open."""
        for _, source in self._open.values():
            source.close()


def _sidecars(survey: Survey, kept: Sequence[EpisodeRepair], root: Path) -> Iterator[str]:
    """Write the rows of the episodes that are kept; yield what was left out."""
    place = {episode.number: position for position, episode in enumerate(survey.episodes)}
    for name in (layout.INITIAL_STATES_PATH, layout.PROVENANCE_PATH):
        path = survey.folder / name
        if not path.exists():
            continue
        try:
            rows = json.loads(path.read_text())["episodes"]
            if len(rows) != len(survey.episodes):
                raise ValueError(f"{len(rows)} rows for {len(survey.episodes)} episodes")
            write_dataset_json(root / name, {"episodes": [rows[place[episode.source]] for episode in kept]})
        except (OSError, ValueError, TypeError, KeyError) as error:
            yield f"{name} left out: it does not fit the episodes ({error})"


def _left(examined: Examined) -> tuple[str, ...]:
    validation = examined.validation
    found = {f.code for f in validation.findings if f.fix is None and f.severity != "note"}
    return tuple(f"{code}: {len(validation.of(code))} findings that a person must judge" for code in sorted(found))
