"""Collect what a policy does in a world, one action chunk a decision, for on-policy RL."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
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
    round_of: Int[Tensor, " T"] | None = None
    """Where whole episodes were played (``GroupCollector``): the round that each decision belongs to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one chunk led to in E environments."""

    after: Observation
    """Read before any reset."""
    reward: Float[Tensor, " E"]
    """Summed over the chunk's steps."""
    steps: Int[Tensor, " E"]
    """Control steps that the chunk lasted."""
    terminated: Bool[Tensor, " E"]
    truncated: Bool[Tensor, " E"]
    lost: Bool[Tensor, " E"]
    """The worker died: neither success nor failure."""
    success: Bool[Tensor, " E"]

    @property
    def ended(self) -> Bool[Tensor, " E"]:
        """Return where an episode ended by success or by the clock."""
        return self.terminated | self.truncated


def act(world: Any, action: Float[Tensor, "E h 7"]) -> Outcome:  # noqa: ANN401  (see ``Collector``)
    """Run a chunk in every environment."""
    raw, reward_Eh, terminated_Eh, truncated_Eh, info = world.step_chunk(action.cpu().numpy().astype(np.float32))
    lost_E = np.asarray(info["lost"], dtype=bool)
    terminated_E = np.asarray(terminated_Eh).any(1) & ~lost_E
    truncated_E = np.asarray(truncated_Eh).any(1) & ~terminated_E & ~lost_E
    return Outcome(
        after=to_observation(raw),
        reward=torch.from_numpy(np.asarray(reward_Eh, dtype=np.float32).sum(1)),
        steps=torch.from_numpy(np.asarray(info["valid"]).sum(1)),
        terminated=torch.from_numpy(terminated_E),
        truncated=torch.from_numpy(truncated_E),
        lost=torch.from_numpy(lost_E),
        success=torch.from_numpy(np.asarray(info["success"], dtype=bool)),
    )


@dataclass(slots=True)
class Chunks:
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
    steps: list[Tensor] = field(default_factory=list)

    def add(self, seen: Observation, sample: Sample, outcome: Outcome) -> None:
        """Append a decision; its ``next_value`` and ``is_valid`` are for the caller to add."""
        self.observation.append(seen)
        # what the world's arrays meet is on the CPU; the trace stays where the policy is
        self.log_prob.append(sample.log_prob.cpu())
        self.trace.append(dict(sample.trace))
        self.value.append(sample.value.cpu())
        self.reward.append(outcome.reward)
        self.terminated.append(outcome.terminated)
        self.truncated.append(outcome.truncated)
        self.steps.append(outcome.steps)

    def rollout(self) -> Rollout:
        """Return all decisions, time first."""
        return Rollout(**{f.name: torch.stack(getattr(self, f.name)) for f in fields(Rollout)})

    def merged_trace(self) -> dict[str, Tensor]:
        """Return the traces of all decisions in one batch, row t * E + e."""
        return {key: torch.cat([trace[key] for trace in self.trace]) for key in self.trace[0]}


@dataclass(slots=True)
class Tally:
    """How the episodes went."""

    successes: int = 0
    finished: int = 0
    lost: int = 0
    lengths: list[int] = field(default_factory=list)
    """Control steps of the finished ones."""

    def add(self, *, ended: Bool[Tensor, " E"], success: Bool[Tensor, " E"], lengths: Int[Tensor, " E"]) -> None:
        """Count the episodes that ended."""
        self.finished += int(ended.sum())
        self.successes += int((success & ended).sum())
        self.lengths += lengths[ended].tolist()

    @property
    def mean_length(self) -> float:
        """Return the mean of ``lengths``; NaN where none finished."""
        return float(np.mean(self.lengths)) if self.lengths else float("nan")


def to_observation(raw: dict[str, Any]) -> Observation:
    """Turn a world's observation into tensors of its own (the world's buffers are written again)."""
    return Observation(
        image=torch.from_numpy(np.array(raw["image"])),
        state=torch.from_numpy(np.array(raw["state"])),
        instruction=tuple(raw["instruction"]),
    )


def gathered(
    chunks: Chunks, tally: Tally, *, is_settled: bool, round_of: Int[Tensor, " T"] | None = None
) -> Experience:
    """Return what was collected as one experience; see its fields."""
    return Experience(
        rollout=chunks.rollout(),
        observation=Observation.concatenate(chunks.observation),
        log_prob=torch.cat(chunks.log_prob),
        trace=chunks.merged_trace(),
        successes=tally.successes,
        finished=tally.finished,
        lost=tally.lost,
        is_settled=is_settled,
        mean_length=tally.mean_length,
        round_of=round_of,
    )


class Collector:
    """Steps E environments on and on; episodes continue from one call to the next.

    It resets what ended, after the value of the last observation was read. ``world`` draws its own initial states.
    """

    def __init__(self, world: Any) -> None:  # noqa: ANN401  (any gymnasium vector environment with step_chunk)
        self.world = world
        self._length_E = torch.zeros(world.num_envs, dtype=torch.int64)
        self._was_cut = False
        raw, _ = world.reset()
        self._observation = to_observation(raw)

    def collect(self, policy: Actor, *, decisions: int, generator: torch.Generator) -> Experience:
        """Return the next ``decisions`` action chunks of every environment, drawn with exploration noise."""
        settled, chunks, tally = self._was_cut, Chunks(), Tally()
        with torch.no_grad():
            for t in range(decisions):
                sample = policy.sample(self._observation, explore=True, generator=generator)
                if t:
                    self._fill_next_value(chunks, sample.value.cpu())
                self._decide(policy, sample, chunks, tally)
            self._fill_next_value(chunks, policy.value(self._observation).cpu())
        return gathered(chunks, tally, is_settled=settled)

    def state_dict(self) -> dict[str, Any]:
        """Return the exact state of the world and of what was seen last."""
        return {
            "world": self.world.state(),
            "length": self._length_E.clone(),
            "was_cut": self._was_cut,
            "image": self._observation.image,
            "state": self._observation.state,
            "instruction": self._observation.instruction,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue bit-identically."""
        self.world.restore(state["world"])
        self._length_E, self._was_cut = state["length"].clone(), state["was_cut"]
        self._observation = Observation(image=state["image"], state=state["state"], instruction=state["instruction"])

    def _decide(self, policy: Actor, sample: Sample, chunks: Chunks, tally: Tally) -> None:
        outcome = act(self.world, sample.action[:, : policy.executed])
        self._length_E += outcome.steps
        self._was_cut = self._was_cut or bool(outcome.truncated.any())
        tally.add(ended=outcome.ended, success=outcome.success, lengths=self._length_E)
        tally.lost += int(outcome.lost.sum())
        chunks.add(self._observation, sample, outcome)
        chunks.is_valid.append(~outcome.lost)
        bootstrap_E = torch.full((len(outcome.after),), torch.nan)
        if outcome.truncated.any():
            bootstrap_E[outcome.truncated] = policy.value(outcome.after.select(outcome.truncated)).cpu()
        bootstrap_E[outcome.terminated | outcome.lost] = 0.0
        chunks.next_value.append(bootstrap_E)
        self._observation = self._after_reset(outcome.after, outcome.ended | outcome.lost)

    def _after_reset(self, after: Observation, mask_E: Bool[Tensor, " E"]) -> Observation:
        if not mask_E.any():
            return after
        self._length_E[mask_E] = 0
        raw, _ = self.world.reset(mask=mask_E.numpy())
        return to_observation(raw)

    @staticmethod
    def _fill_next_value(chunks: Chunks, value: Tensor) -> None:
        """Complete the previous decision: where the episode went on, V(s') is the next decision's value."""
        last = chunks.next_value[-1]
        chunks.next_value[-1] = torch.where(last.isnan(), value, last)
