"""Everything of a dataset but its pictures, checked before anything long starts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from rlco.core.scene import ACTION_DIM, MAX_ROTATION_RAD, MAX_TRANSLATION_M, STATE_DIM
from rlco.data import layout
from rlco.data.canonical import Canonical, ReadingReport, canonical_episode, require_slow_enough
from rlco.data.checks import require_finite, told_as_broken
from rlco.data.features import Names, names_of, size_of
from rlco.data.parquet import read_json as read_json
from rlco.data.place import StoredEpisode
from rlco.data.reading import Fit, Reading
from rlco.data.stored import Stored, read_stored


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeSpan:
    """Where one episode lies."""

    task: str
    start: int
    """First frame of the episode in the dataset."""
    stop: int
    """One past its last frame."""
    video_path: Path
    """The file with its pictures: an mp4, or a parquet file with a column of them."""
    video_start: int
    """First frame, or row, of the recorded episode inside that file."""
    kept: tuple[int, ...] | None = None
    """Which of its recorded frames the episode shows, one a step; None: each of them."""

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """Everything of a dataset but its pictures, checked."""

    info: Mapping[str, Any]
    image_key: str
    height: int
    width: int
    state: Float32[ndarray, "N S"]
    action: Float32[ndarray, "N A"]
    episodes: tuple[EpisodeSpan, ...]
    image_column: str | None = None
    """Pictures are in this column of parquet files; None: in videos."""
    fit: Fit | None = None
    """Pictures are brought to height and width in this way; None: they have them."""
    report: ReadingReport | None = None
    """What became of a foreign recording; None: the dataset is in our form."""


def read_tables(folder: Path, reading: Reading | None = None) -> Tables:
    """Read and check them. Raises ``ValueError`` in one line that names the file and what is wrong.

    Without ``reading`` the dataset must be in our form; otherwise the error names the command that converts it.
    """
    stored = read_stored(folder)
    with told_as_broken(folder):
        names = names_of(stored.features, stored.cameras, rename=reading.rename if reading else (), folder=folder)
        return _ours(stored, names) if reading is None else _understood(stored, names, reading)


def summary(stored: Stored) -> str:
    """Return in a line what a dataset holds."""
    vectors = (
        f"{name} {list(feature['shape'])}"
        for name, feature in stored.features.items()
        if name not in layout.DEFAULT_FEATURES and feature["dtype"].startswith(("float", "int"))
    )
    cameras = ", ".join(stored.cameras) or "none"
    return f"LeRobot {stored.version}, {stored.info['fps']} Hz, cameras: {cameras}; {', '.join(vectors)}"


def _ours(stored: Stored, names: Names) -> Tables:
    folder, sizes = stored.folder, {names.state[0]: STATE_DIM, names.action[0]: ACTION_DIM}
    for name, size in sizes.items():
        shape = list(stored.features[name]["shape"])
        if shape != [size]:
            raise ValueError(f"'{folder}': {name} has {shape} dimensions, expected [{size}]. {_way_out(stored)}")
    _check_names(stored, names)
    if stored.fps.denominator != 1:
        raise ValueError(f"'{folder}' has {stored.info['fps']} Hz, expected a whole number. {_way_out(stored)}")
    columns = stored.numbers(list(sizes))
    for name, size in sizes.items():
        found = columns[name].shape[1]
        if found != size:
            raise ValueError(f"'{folder}/data': {name} has {found:g} dimensions a frame, expected {size}.")
    stored.check_times()
    _check_finite(stored, columns)
    action = columns[names.action[0]].astype(np.float32)
    _check_range(stored, names, action)
    tasks = _tasks(stored, None)
    height, width = size_of(stored.features[names.image])
    spans = [_span(stored, e, names.image, task=t) for e, t in zip(stored.episodes, tasks, strict=True)]
    return Tables(
        info=dict(stored.info) | {"fps": int(stored.fps)},
        image_key=names.image,
        height=height,
        width=width,
        state=columns[names.state[0]].astype(np.float32),
        action=action,
        episodes=tuple(spans),
        image_column=_image_column(stored, names),
    )


def _understood(stored: Stored, names: Names, reading: Reading) -> Tables:
    columns = stored.numbers(list(dict.fromkeys([*names.state, *names.action])))
    stored.check_times()
    _check_finite(stored, columns)
    tasks = _tasks(stored, reading.instruction)
    state, action = (np.concatenate([columns[n].astype(np.float64) for n in v], 1) for v in (names.state, names.action))
    found: dict[int, Canonical] = {}
    for episode in stored.episodes:
        rows = episode.rows
        try:
            found[episode.number] = canonical_episode(state[rows], action[rows], reading, source_hz=stored.fps)
        except ValueError as error:
            raise ValueError(f"'{stored.folder}', episode {episode.number}: {error}") from None
    steps = {number: canonical.steps for number, canonical in found.items()}
    require_slow_enough(steps, reading, folder=stored.folder)
    spans, start = [], 0
    for episode, task in zip(stored.episodes, tasks, strict=True):
        kept = tuple(steps[episode.number].frame.tolist())
        spans.append(_span(stored, episode, names.image, task=task, start=start, kept=kept))
        start = spans[-1].stop
    height, width = (reading.image_size,) * 2 if reading.image_size else size_of(stored.features[names.image])
    return Tables(
        info=dict(stored.info) | {"fps": reading.control_hz},
        image_key=names.image,
        height=height,
        width=width,
        state=np.concatenate([c.state for c in found.values()]).astype(np.float32),
        action=np.concatenate([s.action for s in steps.values()]).astype(np.float32),
        episodes=tuple(spans),
        image_column=_image_column(stored, names),
        fit=reading.fit if reading.image_size else None,
        report=ReadingReport(
            episodes=len(spans),
            frames=stored.num_frames,
            steps=start,
            source_hz=float(stored.fps),
            control_hz=reading.control_hz,
            too_fast=sum(s.too_fast for s in steps.values()),
            inserted=sum(s.inserted for s in steps.values()),
            worst_m=max(s.worst_m for s in steps.values()),
            worst_rad=max(s.worst_rad for s in steps.values()),
        ),
    )


def _span(
    stored: Stored,
    episode: StoredEpisode,
    image: str,
    *,
    task: str,
    start: int | None = None,
    kept: tuple[int, ...] | None = None,
) -> EpisodeSpan:
    place = episode.videos[image] if stored.features[image]["dtype"] == "video" else episode.data
    first = episode.start if start is None else start
    return EpisodeSpan(
        task=task,
        start=first,
        stop=first + (len(episode) if kept is None else len(kept)),
        video_path=place.path,
        video_start=place.start,
        kept=kept,
    )


def _image_column(stored: Stored, names: Names) -> str | None:
    return None if stored.features[names.image]["dtype"] == "video" else names.image


def _tasks(stored: Stored, instruction: str | None) -> list[str]:
    """Return the one instruction of each episode. Raises ``ValueError`` if it has none or several."""
    if instruction is not None:
        return [instruction] * len(stored.episodes)
    found = []
    for episode, tasks in zip(stored.episodes, stored.tasks(), strict=True):
        if len(tasks) != 1 or not tasks[0].strip():
            raise ValueError(
                f"'{stored.folder}/meta': episode {episode.number} has {len([t for t in tasks if t.strip()])} tasks, "
                "expected one task. Give it with rlco data convert --instruction."
            )
        found.append(tasks[0])
    return found


def _check_finite(stored: Stored, columns: Mapping[str, ndarray]) -> None:
    for episode in stored.episodes:
        for name, values in columns.items():
            try:
                require_finite(values[episode.rows], name=name, episode=episode.number)
            except ValueError as error:
                raise ValueError(f"'{stored.folder}': {error}") from None


def _check_names(stored: Stored, names: Names) -> None:
    """Refuse numbers that are as many as ours but say that they are others, joints for example."""
    for name, ours in ((names.state[0], layout.STATE_NAMES), (names.action[0], layout.ACTION_NAMES)):
        said = stored.features[name].get("names")
        # older datasets keep them under a word of their own: {"motors": [...]}
        said = next(iter(said.values())) if isinstance(said, dict) and len(said) == 1 else said
        if said and said != list(ours):
            raise ValueError(
                f"'{stored.folder}': the numbers of {name} are {said}, ours are {list(ours)}. {_way_out(stored)}"
            )


def _check_range(stored: Stored, names: Names, action: Float32[ndarray, "N A"]) -> None:
    """Refuse numbers that only look like ours: the right count, but not named as ours and out of our range."""
    feature = stored.features[names.action[0]]
    if feature.get("names") == list(layout.ACTION_NAMES):
        return
    most = np.array([MAX_TRANSLATION_M] * 3 + [MAX_ROTATION_RAD] * 3 + [1.0])
    worst = np.abs(action).max(axis=0)
    if (worst > 1.001 * most).any():
        raise ValueError(
            f"'{stored.folder}': {names.action[0]} has numbers up to {[round(float(w), 3) for w in worst]}, a control "
            f"step of ours at most {most.tolist()}: it is in another form or unit. {_way_out(stored)}"
        )


def _way_out(stored: Stored) -> str:
    command = f"rlco data convert {shlex.quote(str(stored.folder))} NEW_FOLDER"
    return f"Found: {summary(stored)}. Say what it means and convert it: {command} (--help tells the forms)."
