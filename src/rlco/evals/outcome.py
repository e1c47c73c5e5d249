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


class Ending(StrEnum):
    """How an episode ended, best first. ``rlco.tasks`` says what each word means for each task.

    The stage of a failure is the furthest that the named thing came to at the end of any chunk.
    """

    SUCCESS = "success"
    TIMED_OUT = "timed out"
    """It was under way, and the robot still had it when the time was up."""
    DROPPED = "dropped"
    """It was under way, and the robot had lost it when the time was up."""
    GRASPED = "grasped"
    """It was grasped and never got under way."""
    REACHED = "reached"
    """The hand came to it and never grasped it; without a grasp in the task: never got it under way."""
    WRONG_OBJECT = "wrong object"
    """Something that does not belong to the task was moved; the named thing was neither grasped nor under way."""
    NEVER_REACHED = "never reached"
    """The hand never came to it."""
    UNSORTED = "failed"
    """A failure in a file of before failures were sorted."""
    LOST = "lost"
    """The world's process died: neither a success nor a failure."""


STAGES = ("reached", "grasped", "under way", "success")
"""What an episode can get at least as far as, in order."""
_COMPLETED = {
    Ending.SUCCESS: 4,
    Ending.TIMED_OUT: 3,
    Ending.DROPPED: 3,
    Ending.GRASPED: 2,
    Ending.REACHED: 1,
    # with the named thing nothing was begun, wherever the hand passed
    Ending.WRONG_OBJECT: 0,
    Ending.NEVER_REACHED: 0,
}
"""How many of ``STAGES`` an episode of a known ending completed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeOutcome:
    """One episode."""

    state: str
    """Name of the initial state."""
    repeat: int
    stop_reason: StopReason
    steps: int
    """Control steps until it ended."""
    ending: Ending
    start_m: tuple[float, float] | None
    """Where (x, y) the named thing was at the start, base frame; None in files of before this was kept."""
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

    def reaching(self, stage: str) -> Successes:
        """Return state name -> whether each finished episode got at least as far as one of ``STAGES``.

        Raises ``ValueError`` if failures are not sorted: their successes alone would look better than they are.
        """
        if not self.is_sorted:
            raise ValueError(f"The failures of '{self.policy}' in the {self.domain} are not sorted: evaluate it again.")
        found: dict[str, list[bool]] = {}
        for outcome in self.outcomes:
            if not outcome.lost:
                far_enough = _COMPLETED[outcome.ending] > STAGES.index(stage)
                found.setdefault(outcome.state, []).append(far_enough)
        return found

    @property
    def is_sorted(self) -> bool:
        """Return whether every failure says how it ended."""
        return all(o.ending is not Ending.UNSORTED for o in self.outcomes)

    @property
    def endings(self) -> dict[Ending, int]:
        """Return how many episodes ended how; what did not occur is 0."""
        return {ending: sum(o.ending is ending for o in self.outcomes) for ending in Ending}

    @property
    def starts(self) -> dict[str, tuple[float, float]]:
        """Return state name -> where (x, y) [m] the named thing was, of the states of which that is known."""
        return {o.state: o.start_m for o in self.outcomes if o.start_m is not None}

    def rate(self, keep: Callable[[EpisodeOutcome], bool] = lambda _: True) -> Interval:
        """Return the success rate over finished episodes, with its Wilson interval (``success_rate``)."""
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
    """Return an outcome from its JSON; files of before failures were sorted say ``reached`` and no ``start_m``."""
    value = {"start_m": None, **value}
    if "reached" in value:
        value["ending"] = _ENDED_BEFORE.get(value.pop("reached"), Ending.UNSORTED)
    points = {name: None if value[name] is None else tuple(value[name]) for name in ("start_m", "shift_m")}
    reason, ending = StopReason(value["stop_reason"]), Ending(value["ending"])
    return EpisodeOutcome(**{**value, "stop_reason": reason, "ending": ending, **points})


_ENDED_BEFORE = {"success": Ending.SUCCESS, "lost": Ending.LOST}
"""The old ``reached`` of what was no failure."""


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
