"""What a validation finds: a code, a place, a sentence, and whether a repair can put it right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """The dataset cannot be read, or says something untrue."""
    WARNING = "warning"
    """It can be trained on; a person should look."""
    NOTE = "note"
    """A check that was not made."""


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

CODES: dict[str, tuple[Severity, str | None]] = {
    "info": (_E, None),
    "unfinished": (_E, None),
    "version": (_E, None),
    "fps": (_E, None),
    "fps-unusual": (_W, None),
    "table": (_E, "--repair drops the episodes that are lost"),
    "column": (_E, "--repair drops the episode, or writes the column again if it follows from the rest"),
    "rows": (_E, "--repair drops the episode"),
    "length": (_E, "--repair keeps the frames that the table and the videos both have"),
    "total": (_E, "--repair counts again"),
    "order": (_E, "--repair sorts and numbers the rows again"),
    "timestamp": (_E, "--repair stamps the frames again"),
    "rate": (_E, "--repair with --fps, once you know which rate is true"),
    "task": (_E, "--repair writes the tasks again; an episode without one is dropped"),
    "task-metadata": (_E, "--repair writes tasks.parquet again"),
    "stats": (_W, "--repair computes them again"),
    "sidecar": (_E, "--repair leaves the file out"),
    "video": (_E, "--repair drops the episode"),
    "video-short": (_E, "--repair trims the episode to the frames that there are"),
    "video-overlap": (_E, "--repair drops the episodes: nothing says whose pictures they are"),
    "video-rate": (_E, "--repair times the pictures again"),
    "frozen-camera": (_W, None),
    "not-finite": (_E, "--repair drops the episode"),
    "units": (_E, "--repair with --units, once you know what they are"),
    "gripper-sign": (_E, "--repair turns it round if every episode agrees"),
    "action-limit": (_W, None),
    "state-jump": (_W, None),
    "idle": (_W, "--repair with --trim-idle cuts it at the start and the end"),
    "skipped": (_N, None),
    "check-failed": (_E, None),
}
"""Code -> how bad, and how it can be put right (None: not by a program)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong, where, and in words."""

    code: str
    message: str
    episode: int | None = None
    frame: int | None = None
    """First frame concerned, counted in the episode."""
    stop: int | None = None
    """One past the last frame concerned."""
    file: str | None = None
    """Relative to the dataset."""

    def __post_init__(self) -> None:
        assert self.code in CODES, self.code

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return CODES[self.code][0]

    @property
    def fix(self) -> str | None:
        """How it can be put right; None if by no program."""
        return CODES[self.code][1]

    @property
    def place(self) -> str:
        """The place in words; empty if it is the whole dataset."""
        words = [f"episode {self.episode}"] if self.episode is not None else []
        if self.frame is not None:
            is_range = self.stop is not None and self.stop > self.frame + 1
            words.append(f"frames {self.frame} to {(self.stop or 0) - 1}" if is_range else f"frame {self.frame}")
        return ", ".join(words or ([self.file] if self.file else []))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "severity": self.severity.value,
            "code": self.code,
            "message": self.message,
            "episode": self.episode,
            "frame": self.frame,
            "stop": self.stop,
            "file": self.file,
            "fixable": self.fix is not None,
            "fix": self.fix,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """All that was found in one dataset."""

    folder: str
    version: str
    """Of the layout; ``unknown`` if it cannot be read."""
    episodes: int
    frames: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """Number of errors."""
        return self._count(Severity.ERROR)

    @property
    def warnings(self) -> int:
        """Number of warnings."""
        return self._count(Severity.WARNING)

    @property
    def counts(self) -> dict[str, int]:
        """Code -> findings, the most frequent first."""
        return dict(Counter(f.code for f in self.findings).most_common())

    def of(self, code: str) -> tuple[Finding, ...]:
        """Return the findings of one code."""
        return tuple(f for f in self.findings if f.code == code)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "folder": self.folder,
            "version": self.version,
            "episodes": self.episodes,
            "frames": self.frames,
            "errors": self.errors,
            "warnings": self.warnings,
            "counts": self.counts,
            "findings": [f.to_json() for f in self.findings],
        }

    def lines(self, *, most: int = 5) -> list[str]:
        """Return what a person reads: the worst first, at most ``most`` of each code, then the counts."""
        order = list(Severity)
        codes = sorted(self.counts, key=lambda code: order.index(CODES[code][0]))
        lines = [line for code in codes for line in _group(self.of(code), most=most)]
        total = f"{self.folder}: {self.episodes} episodes, {self.frames} frames (LeRobot {self.version})"
        verdict = f"{self.errors} errors, {self.warnings} warnings" if self.errors + self.warnings else "nothing wrong"
        return [*lines, f"{total}: {verdict}."]

    def _count(self, severity: Severity) -> int:
        return sum(f.severity == severity for f in self.findings)


def _group(found: Sequence[Finding], *, most: int) -> list[str]:
    lines = []
    for finding in found[:most]:
        place = f"{finding.place}: " if finding.place else ""
        lines.append(f"{finding.severity.value:<7} {finding.code}: {place}{finding.message}")
    if len(found) > most:
        lines.append(f"{'':<7} {found[0].code}: {len(found) - most} more like these (--json lists all)")
    if found[0].fix:
        lines.append(f"{'':<7} -> {found[0].fix}")
    return lines
