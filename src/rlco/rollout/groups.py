"""Play groups of whole episodes from the same start, for group-relative RL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from rlco.core.policy import Observation
from rlco.core.scene import InitialState
from rlco.rollout.collect import Actor, Chunks, Experience, Tally, act, gathered, to_observation


class GroupCollector:
    """Plays rounds of whole episodes: E / G starts, each in G environments side by side, all to their end.

    ``starts(n)`` names the n-th start, so that what was played follows from a number. ``world``: any world of ours.
    Raises ``ValueError`` if the environments do not divide into groups.
    """

    def __init__(
        self,
        world: Any,  # noqa: ANN401  (any gymnasium vector environment with step_chunk and initial_states)
        *,
        group_size: int,
        starts: Callable[[int], InitialState],
    ) -> None:
        if world.num_envs % group_size:
            raise ValueError(f"{world.num_envs} environments do not divide into groups of {group_size}.")
        self.world, self.group_size, self.starts = world, group_size, starts
        self._next = 0

    def collect(self, policy: Actor, *, decisions: int, generator: torch.Generator) -> Experience:
        """Return as many rounds of whole episodes as ``decisions`` per environment allow.

        Decisions after an episode's end are not valid; of a lost episode none is. Raises ``ValueError`` if
        ``decisions`` are fewer than an episode may take.
        """
        length = -(-self.world.max_steps // policy.executed)
        if decisions < length:
            raise ValueError(
                f"Groups are scored by whole episodes, which take up to {length} decisions; got decisions {decisions}."
            )
        chunks, tally, rounds = Chunks(), Tally(), []
        with torch.no_grad():
            for number in range(decisions // length):
                played = self._play_round(policy, chunks, tally, length=length, generator=generator)
                rounds += [number] * played
        return gathered(chunks, tally, is_settled=True, round_of=torch.tensor(rounds))

    def state_dict(self) -> dict[str, Any]:
        """Return the number of the next start: a round begins in it, whatever was before."""
        return {"next_start": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue bit-identically."""
        self._next = state["next_start"]

    def _play_round(
        self, policy: Actor, chunks: Chunks, tally: Tally, *, length: int, generator: torch.Generator
    ) -> int:
        """Play one episode in every environment; return in how many decisions."""
        observation = self._begin()
        over_E = torch.zeros(len(observation), dtype=torch.bool)
        lost_E, steps_E, first = over_E.clone(), torch.zeros(len(observation), dtype=torch.int64), len(chunks.is_valid)
        for _ in range(length):
            sample = policy.sample(observation, explore=True, generator=generator)
            outcome = act(self.world, sample.action[:, : policy.executed])
            chunks.add(observation, sample, outcome)
            chunks.is_valid.append(~over_E)
            chunks.next_value.append(torch.zeros(len(observation)))
            steps_E += torch.where(over_E, 0, outcome.steps)
            tally.add(ended=outcome.ended & ~over_E & ~outcome.lost, success=outcome.success, lengths=steps_E)
            lost_E |= outcome.lost & ~over_E
            over_E = over_E | outcome.ended | outcome.lost
            observation = outcome.after
            if over_E.all():
                break
        tally.lost += int(lost_E.sum())
        _leave_out(chunks, lost_E, first=first)
        return len(chunks.is_valid) - first

    def _begin(self) -> Observation:
        """Start the next E / G starts, G environments in a row each."""
        number = self.world.num_envs // self.group_size
        states = [self.starts(n) for n in range(self._next, self._next + number)]
        self._next += number
        raw, _ = self.world.reset(initial_states=[state for state in states for _ in range(self.group_size)])
        return to_observation(raw)


def _leave_out(chunks: Chunks, lost_E: Bool[Tensor, " E"], *, first: int) -> None:
    """Mark every decision of a lost episode: its score is not known."""
    for t in range(first, len(chunks.is_valid)):
        chunks.is_valid[t] = chunks.is_valid[t] & ~lost_E
