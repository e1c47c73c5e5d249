"""A session: attempts one after another until enough are kept or the person stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

from rlco.core.episode import Episode
from rlco.core.scene import InitialState
from rlco.demos.teleop.attempt import MIN_STEPS, Attempt, Ending, Rig
from rlco.demos.teleop.devices import DeviceLostError

Starts = Callable[[int, int], InitialState]
"""(number of the demonstration, tries before this one in the session) -> where it starts."""


@runtime_checkable
class Sink(Protocol):
    """Where demonstrations go; ``rlco.data.writer.DatasetWriter`` is one."""

    @property
    def count(self) -> int:
        """How many it has, those of earlier sessions included."""
        ...

    def add(self, episode: Episode, *, provenance: Mapping[str, Any] | None = None) -> int:
        """Take one more."""
        ...

    def flush(self) -> None:
        """Return once everything is on disk."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What is remembered of a kept episode."""

    frames: int
    """In the dataset."""
    provenance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a session did, or all sessions of a dataset."""

    kept: int
    discarded: dict[str, int]
    """Why -> attempts; those in which nothing moved are not among them."""
    unconfirmed: int
    """Kept on the person's word, although the task's own check says no."""
    steps: int
    """Control steps in the kept episodes."""
    dropped: int
    """Control steps that were executed in a kept episode and are not in the dataset."""
    achieved_hz: float | None
    """Mean control rate of the kept episodes."""
    worst_step_s: float | None
    late_steps: int

    @staticmethod
    def of(kept: Sequence[Kept], *, discarded: Mapping[str, int]) -> Summary:
        """Add up what the episodes' provenance says."""
        found = [one.provenance for one in kept]
        intervals = sum(p["executed_steps"] - 1 for p in found)
        seconds = sum((p["executed_steps"] - 1) / p["achieved_hz"] for p in found if p["achieved_hz"])
        frames = sum(one.frames for one in kept)
        return Summary(
            kept=len(kept),
            discarded=dict(discarded),
            unconfirmed=sum(not p["task_confirms"] for p in found),
            steps=frames,
            dropped=sum(p["executed_steps"] for p in found) - frames,
            achieved_hz=intervals / seconds if seconds else None,
            worst_step_s=max((p["worst_step_s"] for p in found if p["worst_step_s"]), default=None),
            late_steps=sum(p["late_steps"] for p in found),
        )

    def line(self) -> str:
        """Return it as one line for people."""
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(self.discarded.items()))
        rate = f" at {self.achieved_hz:.2f} Hz (worst step {self.worst_step_s:.2f} s)" if self.achieved_hz else ""
        return (
            f"kept {self.kept} ({self.unconfirmed} without the task's own consent), "
            f"discarded {sum(self.discarded.values())}{f' ({why})' if why else ''}; "
            f"{self.steps} steps{rate}, late {self.late_steps}, dropped {self.dropped}"
        )


@dataclass(slots=True)
class Session:
    """Runs until ``wanted`` demonstrations are in the sink, or the person quits."""

    rig: Rig
    sink: Sink
    starts: Starts
    wanted: int
    kept: list[Kept] = field(default_factory=list)
    discarded: Counter[str] = field(default_factory=Counter)
    _since_kept: Counter[str] = field(default_factory=Counter)
    """Discarded attempts since the last kept one."""

    def run(self) -> None:
        """Raise ``DeviceLostError`` or ``KeyboardInterrupt`` where they happen; what was kept before is on disk."""
        tries = 0
        while self.sink.count < self.wanted:
            start = self.starts(self.sink.count, tries)
            self.rig.view.say(f"{self.sink.count + 1}/{self.wanted}: {start.instruction}")
            attempt = Attempt(rig=self.rig, initial=start, kept=self.sink.count, wanted=self.wanted)
            ending = self._ending(attempt)
            if ending == Ending.SUCCESS:
                self._keep(attempt)
                tries = 0
            else:
                self._drop(attempt, ending)
                tries += 1
            if ending == Ending.QUIT:
                return

    def summary(self) -> Summary:
        """Return the figures of this session so far."""
        return Summary.of(self.kept, discarded=self.discarded)

    def _ending(self, attempt: Attempt) -> Ending:
        """Run an attempt; count it also where an error ends it."""
        try:
            return attempt.run()
        except DeviceLostError:
            self._drop(attempt, Ending.DEVICE_LOST)
            raise
        except KeyboardInterrupt:
            self._drop(attempt, Ending.INTERRUPTED)
            raise

    def _keep(self, attempt: Attempt) -> None:
        rig = self.rig
        episode = attempt.episode()
        provenance = {
            "operator": "person",
            "device": rig.hand.name,
            **asdict(rig.mapping),
            "task_confirms": attempt.is_solved,
            "executed_steps": attempt.executed,
            **attempt.timing.to_json(),
            "discarded_before": dict(self._since_kept),
        }
        self.sink.add(episode, provenance=provenance)
        self.sink.flush()  # "kept" is said of what the end of this process cannot take away
        self.kept.append(Kept(frames=len(episode), provenance=provenance))
        self._since_kept = Counter()
        doubt = "" if attempt.is_solved else " (the task's own check says no)"
        timing = attempt.timing
        rig.view.say(f"kept: {len(episode)} steps, {timing.achieved_hz:.2f} Hz, {timing.late} late{doubt}")

    def _drop(self, attempt: Attempt, ending: Ending) -> None:
        """Count and say it; an attempt in which nothing moved is none."""
        if attempt.has_begun:
            self.discarded[ending.value] += 1
            self._since_kept[ending.value] += 1
        needed = f", a demonstration needs {MIN_STEPS}" if ending == Ending.TOO_SHORT else ""
        if attempt.has_begun or ending in (Ending.DISCARDED, Ending.TOO_SHORT):
            self.rig.view.say(f"not kept ({ending.value}): {attempt.recorded} steps{needed}")
