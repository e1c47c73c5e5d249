"""Counts of generation: attempts, successes and reasons, in all and by layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlco.core.scene import InitialState
from rlco.demos.layouts import cell, labels


@dataclass(slots=True)
class Cell:
    """One layout cell, or all layouts with one label."""

    attempts: int = 0
    kept: int = 0
    given_up: int = 0
    """Slots in which no attempt succeeded."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Reason -> attempts."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "attempts": self.attempts,
            "kept": self.kept,
            "given_up": self.given_up,
            "success_rate": self.kept / max(self.attempts, 1),
            "rejected": dict(sorted(self.rejected.items())),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Cell:
        """Inverse of ``to_json``."""
        return Cell(
            attempts=value["attempts"],
            kept=value["kept"],
            given_up=value["given_up"],
            rejected=Counter(value["rejected"]),
        )


@dataclass(slots=True)
class Tally:
    """Everything that the report of a generation counts; it goes on from where an interrupted one was."""

    total: Cell = field(default_factory=Cell)
    by_label: dict[str, Cell] = field(default_factory=dict)
    """Such as ``place=left``."""
    by_cell: dict[str, Cell] = field(default_factory=dict)
    """Such as ``colour=pink, place=left``."""
    steps: int = 0
    """Control steps of the kept demonstrations."""
    simulated_steps: int = 0
    """Control steps of all attempts."""
    lost: int = 0
    """Attempts that were made again because their worker died."""

    def attempt(self, initial: InitialState, reject: str | None) -> None:
        """Count an attempt; ``reject`` is None for one that is kept."""
        for its in self._cells(initial):
            its.attempts += 1
            if reject is None:
                its.kept += 1
            else:
                its.rejected[reject] += 1

    def give_up(self, initial: InitialState) -> None:
        """Count a layout in which no attempt succeeded."""
        for its in self._cells(initial):
            its.given_up += 1

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "total": self.total.to_json(),
            "by_label": {name: its.to_json() for name, its in self.by_label.items()},
            "by_cell": {name: its.to_json() for name, its in self.by_cell.items()},
            "steps": self.steps,
            "simulated_steps": self.simulated_steps,
            "lost": self.lost,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Tally:
        """Inverse of ``to_json``."""
        return Tally(
            total=Cell.from_json(value["total"]),
            by_label={name: Cell.from_json(its) for name, its in value["by_label"].items()},
            by_cell={name: Cell.from_json(its) for name, its in value["by_cell"].items()},
            steps=value["steps"],
            simulated_steps=value["simulated_steps"],
            lost=value["lost"],
        )

    def _cells(self, initial: InitialState) -> list[Cell]:
        found = [self.by_label.setdefault(label, Cell()) for label in labels(initial)]
        return [self.total, *found, self.by_cell.setdefault(cell(initial), Cell())]
