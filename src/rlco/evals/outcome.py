"""What an evaluation found: one outcome per episode, and the file it is kept in."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from rlco.core.episode import StopReason
from rlco.core.files import write_json
from rlco.evals.statistics import Interval, Successes, success_rate


class Reached(StrEnum):
    """How far an episode came; an object counts as moved once it is ``MOVED_M`` from where it started."""

    SUCCESS = "success"
    NAMED = "moved the named object only"
    BOTH = "moved the named object and another"
    OTHER = "moved another object only"
    NOTHING = "moved nothing"
    LOST = "lost"


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeOutcome:
    """One episode."""

    state: str
    """Name of the initial state."""
    repeat: int
    stop_reason: StopReason
    steps: int
    """Control steps until it ended."""
    reached: Reached
    shift_m: tuple[float, float] | None
    """How far (x, y) the named object had moved when the episode ended; None if the episode was lost."""
    labels: Mapping[str, str]
    """Of the initial state, such as the colour that the instruction names."""

    @property
    def success(self) -> bool:
        """Return whether the task was solved."""
        return self.stop_reason is StopReason.SUCCESS

    @property
    def lost(self) -> bool:
        """Return whether the world's process died: neither a success nor a failure."""
        return self.stop_reason is StopReason.LOST


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """All episodes of one policy in one world."""

    policy: str
    """The method's name in tables."""
    settings: Mapping[str, Any]
    """World and protocol, as JSON values: enough to run the evaluation again."""
    outcomes: tuple[EpisodeOutcome, ...]
    seconds: float

    @property
    def domain(self) -> str:
        """Return the world's domain: twin, standin or robot."""
        return str(self.settings["domain"])

    @property
    def num_lost(self) -> int:
        """Return how many episodes were lost; they are in no rate."""
        return sum(o.lost for o in self.outcomes)

    def successes(self, keep: Callable[[EpisodeOutcome], bool] = lambda _: True) -> Successes:
        """Return state name -> success of each finished episode that ``keep`` accepts."""
        found: dict[str, list[bool]] = {}
        for outcome in self.outcomes:
            if not outcome.lost and keep(outcome):
                found.setdefault(outcome.state, []).append(outcome.success)
        return found

    def rate(self, keep: Callable[[EpisodeOutcome], bool] = lambda _: True) -> Interval:
        """Return the success rate over finished episodes, with its Wilson interval."""
        return success_rate(self.successes(keep))

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_json(path, asdict(self))

    @staticmethod
    def load(path: Path) -> EvaluationResult:
        """Inverse of ``save``. Raises ``ValueError`` when the file is not a saved evaluation."""
        try:
            value = json.loads(path.read_text())
            return EvaluationResult(**{**value, "outcomes": tuple(map(_outcome, value["outcomes"]))})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"'{path}' is not a saved evaluation: {error}.") from error


def _outcome(value: Mapping[str, Any]) -> EpisodeOutcome:
    stop_reason, reached = StopReason(value["stop_reason"]), Reached(value["reached"])
    shift_m = tuple(value["shift_m"]) if value["shift_m"] is not None else None
    return EpisodeOutcome(**{**value, "stop_reason": stop_reason, "reached": reached, "shift_m": shift_m})


def merged(results: Mapping[str, EvaluationResult]) -> EvaluationResult:
    """Return several evaluations of one method as one; the same state under two keys counts as two states.

    ``merged({"reality 0": a, "reality 1": b})``
    """
    first = next(iter(results.values()))
    return EvaluationResult(
        policy=first.policy,
        settings={**first.settings, "merged": list(results)},
        outcomes=tuple(replace(o, state=f"{key}/{o.state}") for key, r in results.items() for o in r.outcomes),
        seconds=sum(r.seconds for r in results.values()),
    )


def labelled(key: str, values: Collection[str]) -> Callable[[EpisodeOutcome], bool]:
    """Return a filter for ``rate``: the state's label ``key`` is one of ``values``."""
    return lambda outcome: outcome.labels.get(key) in values


def not_labelled(key: str, values: Collection[str]) -> Callable[[EpisodeOutcome], bool]:
    """Return the complement of ``labelled``."""
    return lambda outcome: outcome.labels.get(key) not in values
