"""Experience that does not depend on whether a world's process died while it was collected."""

from __future__ import annotations

import sys
from typing import Any

import torch

from rlco.rollout.collect import Actor, Collector, Experience
from rlco.rollout.groups import GroupCollector

_MOST_TRIES = 5
"""Processes that die in as many tries in a row die of something that will not pass."""


class SteadyCollector:
    """Collects again, from the same state and with the same draws, what lost a worker process of the world.

    The state is read after every collection, while its processes are known to live (8 ms for 64 environments, where
    collecting takes seconds), so that one that dies at any time after that costs time and changes no figure. An episode
    whose physics diverged stays lost: it would diverge again.
    """

    def __init__(self, collector: Collector | GroupCollector) -> None:
        self.collector, self.world = collector, collector.world
        lost = self.world.workers_lost
        self._state = collector.state_dict()
        if self.world.workers_lost != lost:  # with the very first state, to which nothing could return
            raise ChildProcessError("A process of the world died while it started. The same command begins again.")

    def collect(self, policy: Actor, *, decisions: int, generator: torch.Generator) -> Experience:
        """Return what the collector collects in a world whose processes live.

        Raises ``ChildProcessError`` where they died in every try.
        """
        draws = generator.get_state()
        for _ in range(_MOST_TRIES):
            lost = self.world.workers_lost
            experience = self.collector.collect(policy, decisions=decisions, generator=generator)
            state = self.collector.state_dict()
            if self.world.workers_lost == lost:
                self._state = state
                return experience
            print("rlco: A process of the world died and was replaced; its work is done again.", file=sys.stderr)
            generator.set_state(draws)
            self.collector.load_state_dict(self._state)
        raise ChildProcessError(
            f"Processes of the world died {_MOST_TRIES} times in a row: is there enough memory? The last checkpoint is "
            "intact."
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the collector's state after the last collection."""
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue bit-identically."""
        self.collector.load_state_dict(state)
        self._state = state
