"""What pose recovery found, demonstration by demonstration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rlco.core.scene import InitialState
from rlco.demos.recover.agreement import Agreement


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovered:
    """One demonstration."""

    number: int
    """Episode in the dataset."""
    instruction: str
    state: InitialState | None
    """From which its actions succeed in the twin; None: there is none."""
    by: str
    """What the start was guessed from, in a few words; empty without one."""
    tried: int
    """Starts that were replayed."""
    agreement: Agreement | None
    """Of the start that was chosen, or of the nearest failure; None: nothing was replayed."""
    reason: str
    """Why there is no start; empty if there is one."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "number": self.number,
            "instruction": self.instruction,
            "state": None if self.state is None else self.state.to_json(),
            "by": self.by,
            "tried": self.tried,
            "agreement": None if self.agreement is None else asdict(self.agreement),
            "reason": self.reason,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Recovered:
        """Inverse of ``to_json``."""
        state, its = value["state"], value["agreement"]
        return Recovered(
            **{
                **value,
                "state": None if state is None else InitialState.from_json(state),
                "agreement": None if its is None else Agreement(**its),
            }
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveryReport:
    """All demonstrations of a dataset."""

    task: str
    demonstrations: tuple[Recovered, ...]

    @property
    def succeeded(self) -> int:
        """Return how many have a start now."""
        return sum(its.state is not None for its in self.demonstrations)

    @property
    def success_rate(self) -> float:
        """Return the share of the demonstrations that have a start now."""
        return self.succeeded / len(self.demonstrations)

    @property
    def failed(self) -> dict[str, str]:
        """Return episode number -> why it has none."""
        return {str(its.number): its.reason for its in self.demonstrations if its.state is None}

    def summary(self) -> dict[str, Any]:
        """Return the figures of all demonstrations together."""
        chosen = [its.agreement for its in self.demonstrations if its.state is not None and its.agreement is not None]
        return {
            "task": self.task,
            "demonstrations": len(self.demonstrations),
            "recovered": self.succeeded,
            "success_rate": self.success_rate,
            "tried": sum(its.tried for its in self.demonstrations),
            "by": dict(Counter(its.by for its in self.demonstrations if its.by).most_common()),
            "mean_tcp_drift_m": sum(its.tcp_m for its in chosen) / len(chosen) if chosen else None,
            "reasons": dict(Counter(self.failed.values()).most_common()),
            "failed": self.failed,
        }

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"task": self.task, "demonstrations": [its.to_json() for its in self.demonstrations]}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> RecoveryReport:
        """Inverse of ``to_json``."""
        return RecoveryReport(
            task=value["task"], demonstrations=tuple(Recovered.from_json(its) for its in value["demonstrations"])
        )
