"""Collect what a policy does in a world, one action chunk a decision, for on-policy RL."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool
from numpy import ndarray
from torch import Tensor

from rlco.algos.gae import Rollout
from rlco.core.policy import Observation, Sample


@runtime_checkable
class Actor(Protocol):
    """What a collector needs of a policy."""

    @property
    def executed(self) -> int:
        """Return how many control steps of a chunk are executed."""
        ...

    def sample(self, observation: Observation, *, explore: bool, generator: torch.Generator) -> Sample:
        """Draw action chunks."""
        ...

    def value(self, observation: Observation) -> Tensor:
        """Return V(s)."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Experience:
    """T decisions of E environments. Tensors that are not time-first are flat: row t * E + e."""

    rollout: Rollout
    observation: Observation
    log_prob: Tensor
    trace: dict[str, Tensor]
    successes: int
    finished: int
    """Episodes that ended by success or by the clock; lost ones are not among them."""
    lost: int
    is_settled: bool
    """Whether failures have begun to end; before, the clock has cut no episode yet and only successes are seen."""
    mean_length: float
    """Control steps of the finished episodes; NaN where none finished."""


@dataclass(slots=True)
class _Chunks:
    """What each decision gives, in order of time."""

    observation: list[Observation] = field(default_factory=list)
    log_prob: list[Tensor] = field(default_factory=list)
    trace: list[dict[str, Tensor]] = field(default_factory=list)
    reward: list[Tensor] = field(default_factory=list)
    value: list[Tensor] = field(default_factory=list)
    next_value: list[Tensor] = field(default_factory=list)
    terminated: list[Tensor] = field(default_factory=list)
    truncated: list[Tensor] = field(default_factory=list)
    is_valid: list[Tensor] = field(default_factory=list)


def to_observation(raw: dict[str, Any]) -> Observation:
    """Turn a world's observation into tensors of its own (the world's buffers are written again)."""
    return Observation(
        image=torch.from_numpy(np.array(raw["image"])),
        state=torch.from_numpy(np.array(raw["state"])),
        instruction=tuple(raw["instruction"]),
    )


class Collector:
    """Steps E environments on and on; episodes continue from one call to the next.

    It resets what ended, after the value of the last observation was read. ``world`` draws its own initial states.
    """

    def __init__(self, world: Any) -> None:  # noqa: ANN401  (any gymnasium vector environment with step_chunk)
        self.world = world
        self._length_E = np.zeros(world.num_envs, dtype=np.int64)
        self._was_cut = False
        raw, _ = world.reset()
        self._observation = to_observation(raw)

    def collect(self, policy: Actor, *, decisions: int, generator: torch.Generator) -> Experience:
        """Return the next ``decisions`` action chunks of every environment, drawn with exploration noise."""
        settled = self._was_cut
        chunks, counts = _Chunks(), {"successes": 0, "finished": 0, "lost": 0}
        lengths: list[int] = []
        with torch.no_grad():
            for t in range(decisions):
                sample = policy.sample(self._observation, explore=True, generator=generator)
                if t:
                    self._fill_next_value(chunks, sample.value)
                self._decide(policy, sample, chunks, counts, lengths)
            self._fill_next_value(chunks, policy.value(self._observation))
        return self._experience(chunks, counts, lengths, is_settled=settled)

    def state_dict(self) -> dict[str, Any]:
        """Return the exact state of the world and of what was seen last."""
        return {
            "world": self.world.state(),
            "length": self._length_E.copy(),
            "was_cut": self._was_cut,
            "image": self._observation.image,
            "state": self._observation.state,
            "instruction": self._observation.instruction,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue bit-identically."""
        self.world.restore(state["world"])
        self._length_E, self._was_cut = state["length"].copy(), state["was_cut"]
        self._observation = Observation(image=state["image"], state=state["state"], instruction=state["instruction"])

    def _decide(
        self, policy: Actor, sample: Sample, chunks: _Chunks, counts: dict[str, int], lengths: list[int]
    ) -> None:
        actions = sample.action[:, : policy.executed].numpy().astype(np.float32)
        raw, reward_Eh, terminated_Eh, truncated_Eh, info = self.world.step_chunk(actions)
        lost_E = np.asarray(info["lost"], dtype=bool)
        terminated_E = np.asarray(terminated_Eh).any(1) & ~lost_E
        truncated_E = np.asarray(truncated_Eh).any(1) & ~terminated_E & ~lost_E
        self._length_E += np.asarray(info["valid"]).sum(1)
        ended_E = terminated_E | truncated_E
        self._was_cut = self._was_cut or bool(truncated_E.any())
        counts["successes"] += int((np.asarray(info["success"]) & ended_E).sum())
        counts["finished"] += int(ended_E.sum())
        counts["lost"] += int(lost_E.sum())
        lengths += self._length_E[ended_E].tolist()
        chunks.observation.append(self._observation)
        chunks.log_prob.append(sample.log_prob)
        chunks.trace.append(dict(sample.trace))
        chunks.reward.append(torch.from_numpy(np.asarray(reward_Eh, dtype=np.float32).sum(1)))
        chunks.value.append(sample.value)
        chunks.terminated.append(torch.from_numpy(terminated_E))
        chunks.truncated.append(torch.from_numpy(truncated_E))
        chunks.is_valid.append(torch.from_numpy(~lost_E))
        after = to_observation(raw)
        bootstrap_E = torch.full((len(after),), torch.nan)
        clock = torch.from_numpy(truncated_E)
        if truncated_E.any():
            bootstrap_E[clock] = policy.value(after.select(clock))
        bootstrap_E[torch.from_numpy(terminated_E | lost_E)] = 0.0
        chunks.next_value.append(bootstrap_E)
        self._observation = self._after_reset(after, ended_E | lost_E)

    def _after_reset(self, after: Observation, mask_E: Bool[ndarray, " E"]) -> Observation:
        if not mask_E.any():
            return after
        self._length_E[mask_E] = 0
        raw, _ = self.world.reset(mask=mask_E)
        return to_observation(raw)

    @staticmethod
    def _fill_next_value(chunks: _Chunks, value: Tensor) -> None:
        """Complete the previous decision: where the episode went on, V(s') is the next decision's value."""
        last = chunks.next_value[-1]
        chunks.next_value[-1] = torch.where(last.isnan(), value, last)

    @staticmethod
    def _experience(chunks: _Chunks, counts: dict[str, int], lengths: list[int], *, is_settled: bool) -> Experience:
        names = ("reward", "value", "next_value", "terminated", "truncated", "is_valid")
        return Experience(
            rollout=Rollout(**{name: torch.stack(getattr(chunks, name)) for name in names}),
            observation=Observation.concatenate(chunks.observation),
            log_prob=torch.cat(chunks.log_prob),
            trace={key: torch.cat([trace[key] for trace in chunks.trace]) for key in chunks.trace[0]},
            is_settled=is_settled,
            mean_length=float(np.mean(lengths)) if lengths else float("nan"),
            **counts,
        )
