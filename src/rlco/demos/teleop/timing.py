"""The control rate that was really achieved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rlco.demos.teleop.hand import Clock

LATE_SHARE = 0.1
"""A control step that comes later than this share of the period after its time is late."""


@dataclass(slots=True)
class Timing:
    """When the control steps of one episode were sent."""

    period_s: float
    sent_s: list[float] = field(default_factory=list)
    late: int = 0

    def sent(self, now: float) -> None:
        """A control step is sent."""
        if self.sent_s and now - self.sent_s[-1] > (1.0 + LATE_SHARE) * self.period_s:
            self.late += 1
        self.sent_s.append(now)

    @property
    def intervals_s(self) -> list[float]:
        """Between one control step and the next."""
        return [after - before for before, after in zip(self.sent_s[:-1], self.sent_s[1:], strict=True)]

    @property
    def achieved_hz(self) -> float | None:
        """Mean control steps per second; None before the second one."""
        seconds = sum(self.intervals_s)
        return len(self.intervals_s) / seconds if seconds > 0 else None

    @property
    def worst_s(self) -> float | None:
        """The longest time between two control steps [s]."""
        return max(self.intervals_s, default=None)

    def to_json(self) -> dict[str, Any]:
        """Return what goes into the provenance of the episode."""
        return {"achieved_hz": self.achieved_hz, "worst_step_s": self.worst_s, "late_steps": self.late}


class Pacer:
    """Wakes up once a period. After a late one it goes on from there: no two in a hurry."""

    def __init__(self, clock: Clock, period_s: float) -> None:
        self._clock, self._period_s = clock, period_s
        self._due = clock.now()

    def wait(self) -> None:
        """Return at the next multiple of the period."""
        now = self._clock.now()
        self._due = max(self._due + self._period_s, now)
        self._clock.sleep(self._due - now)
