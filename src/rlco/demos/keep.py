"""Keep the successes of a stream of attempts, in the order of the attempts, and count the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlco.core.episode import Episode, StopReason
from rlco.core.files import is_finished, read_manifest, require_writable
from rlco.core.progress import Reporter


@dataclass(slots=True)
class Keeper:
    """Counts; which attempts are counted does not depend on how many run at a time."""

    count: int
    """How many successes are wanted."""
    attempts: int = 0
    """Up to and including the last one kept; lost ones are not among them."""
    lost: int = 0
    lengths: list[int] = field(default_factory=list)
    """Control steps of each kept episode."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Reason -> attempts."""
    _tried: Counter[str] = field(default_factory=Counter)
    _succeeded: Counter[str] = field(default_factory=Counter)

    def successes(self, episodes: Iterator[Episode], reporter: Reporter) -> Iterator[tuple[int, Episode]]:
        """Yield (attempt, episode) until there are enough. Raises ``ValueError`` if there are not."""
        for number, episode in enumerate(episodes):
            self._count(episode)
            if episode.stop_reason == StopReason.SUCCESS:
                reporter.advance(note=f"success rate {self.success_rate:.2f}")
                yield number, episode
            if len(self.lengths) == self.count:
                return
        raise ValueError(
            f"Only {len(self.lengths)} of {self.count} demonstrations after {self.attempts} attempts "
            f"(rejected: {dict(self.rejected)}, lost: {self.lost}): the operator or the seeds do not fit this world."
        )

    @property
    def success_rate(self) -> float:
        """Share of the attempts that succeeded."""
        return len(self.lengths) / max(self.attempts, 1)

    @property
    def mean_length(self) -> float:
        """Mean control steps of a kept episode."""
        return sum(self.lengths) / max(len(self.lengths), 1)

    @property
    def success_rate_by_label(self) -> dict[str, float]:
        """Label of the initial state, such as ``place=left`` -> share of those attempts that succeeded."""
        return {label: self._succeeded[label] / tried for label, tried in sorted(self._tried.items())}

    def _count(self, episode: Episode) -> None:
        if episode.stop_reason == StopReason.LOST:
            self.lost += 1
            return
        succeeded = episode.stop_reason == StopReason.SUCCESS
        labels = episode.initial_state.labels if episode.initial_state else {}
        names = [f"{name}={value}" for name, value in labels.items()]
        self.attempts += 1
        self._tried.update(names)
        if succeeded:
            self.lengths.append(len(episode))
            self._succeeded.update(names)
        else:
            self.rejected[episode.stop_reason.value] += 1


def finished_report(folder: Path, *, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the report of a finished dataset of exactly these inputs, or None if it is still to be made.

    Raises ``ValueError`` if ``folder`` holds anything else, or cannot be written.
    """
    if is_finished(folder, inputs=inputs):
        manifest = read_manifest(folder)
        assert manifest is not None
        return manifest["outputs"]
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"'{folder}' is not empty and was not made here: choose another folder, or delete that one.")
    require_writable(folder.parent)
    return None
