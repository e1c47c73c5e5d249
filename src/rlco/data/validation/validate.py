"""Look at everything in a dataset; a broken one gives findings, never an exception."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rlco.core.progress import Reporter, Silent
from rlco.data import layout
from rlco.data.validation import tables
from rlco.data.validation.findings import Finding, Validation
from rlco.data.validation.motion import check_motion
from rlco.data.validation.pictures import Videos, check_videos, look
from rlco.data.validation.survey import UNKNOWN, Survey, survey

IDLE_S = 3.0
"""A pause longer than this is found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """A dataset as far as it can be read, and all that is wrong with it: what a repair starts from."""

    survey: Survey
    videos: Videos
    validation: Validation


def validate(
    folder: Path, *, idle_s: float = IDLE_S, decode: bool = True, reporter: Reporter | None = None
) -> Validation:
    """Return all that is wrong with the dataset in ``folder``.

    ``idle_s``: how long nothing may move [s]. ``decode``: look at every picture; without it frames are only counted.
    Raises ``ValueError`` only if there is no such folder, or ``idle_s`` is not above 0.
    """
    return examine(folder, idle_s=idle_s, decode=decode, pictures=False, reporter=reporter).validation


def examine(
    folder: Path,
    *,
    idle_s: float = IDLE_S,
    decode: bool = True,
    pictures: bool = True,
    reporter: Reporter | None = None,
) -> Examined:
    """Return the same as ``validate`` together with what was read.

    ``pictures``: keep those of data tables in memory, too; a repair needs them.
    """
    if not idle_s > 0:
        raise ValueError(f"idle_s must be above 0, got {idle_s}.")
    found = survey(folder, pictures=pictures)
    videos = Videos()
    findings: list[Finding] = []
    if found.version != UNKNOWN and found.features:
        for name, check in tables.CHECKS.items():
            _try(name, findings, functools.partial(check, found))
        _try("motion", findings, lambda: check_motion(found, idle_s=idle_s))
        try:
            videos = look(found, decode=decode, reporter=reporter or Silent())
        except Exception as error:
            findings.append(_failed("pictures", error))
        _try("videos", findings, lambda: check_videos(found, videos))
    validation = Validation(
        folder=str(folder),
        version=found.version,
        episodes=len(found.episodes),
        frames=found.frames,
        findings=(*found.findings, *findings),
    )
    return Examined(survey=found, videos=videos, validation=validation)


def count_episodes(folder: Path) -> int:
    """Return how many episodes info.json promises, at least 1: for a progress bar, before anything is read."""
    try:
        count = json.loads((folder / layout.INFO_PATH).read_text())["total_episodes"]
    except (OSError, ValueError, KeyError, TypeError):
        return 1
    return max(count, 1) if isinstance(count, int) else 1


def _try(name: str, findings: list[Finding], check: Callable[[], Iterable[Finding]]) -> None:
    """Run a check; if the dataset is broken in a way that it does not foresee, that is a finding, too."""
    try:
        findings.extend(check())
    except Exception as error:
        findings.append(_failed(name, error))


def _failed(name: str, error: Exception) -> Finding:
    text = " ".join(f"{type(error).__name__}: {error}".split())[:160]
    return Finding(code="check-failed", message=f"the check of the {name} could not be completed ({text})")
