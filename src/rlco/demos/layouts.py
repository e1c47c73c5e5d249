"""Which starts are tried: every layout of a balanced list until it is solved or given up, so that none takes over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlco.core.rng import numpy_generator
from rlco.core.scene import InitialState
from rlco.tasks import Task

_SPARE = 10
"""Slots beyond the number that is wanted, in place of those that are given up, at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layouts:
    """Slot j is to give one demonstration; all its attempts are of one cell: the labels of its initial state.

    What is tried in a slot depends on the seed and the slot alone, so neither the number of environments nor the order
    in which attempts end has a part in it.
    """

    seed: int
    slots: tuple[InitialState, ...]
    """First attempts, in the balanced order of the task."""
    spare: Mapping[str, tuple[InitialState, ...]]
    """Cell -> other starts of it."""

    @staticmethod
    def of(task: Task, count: int, *, seed: int, objects: Sequence[str] | None) -> Layouts:
        """Return the layouts for ``count`` demonstrations."""
        wanted = 2 * count + _SPARE
        slots = task.fixed_states(wanted, seed=seed, prefix="generate", objects=objects)
        spare: dict[str, list[InitialState]] = defaultdict(list)
        for state in task.fixed_states(wanted, seed=seed, prefix="generate-again", objects=objects):
            spare[cell(state)].append(state)
        return Layouts(seed=seed, slots=tuple(slots), spare={name: tuple(states) for name, states in spare.items()})

    def start(self, slot: int, attempt: int) -> InitialState:
        """Return the initial state of an attempt: after the first, another one of the same cell if there is one."""
        first = self.slots[slot]
        others = self.spare.get(cell(first), ())
        if attempt == 0 or not others:
            return first
        return others[int(numpy_generator(self.seed, "again", slot, attempt).integers(len(others)))]


def cell(state: InitialState) -> str:
    """Return the name of the layout cell of a start, such as ``object=apple, place=near left``."""
    return ", ".join(labels(state))


def labels(state: InitialState) -> list[str]:
    """Return what a report groups by; the target's technical name says nothing that the other labels do not."""
    return [f"{name}={value}" for name, value in sorted(state.labels.items()) if name != "target"]
