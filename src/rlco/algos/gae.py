"""Generalised advantage estimation (Schulman et al., arXiv 1506.02438)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

DiscountPer = Literal["chunk", "step"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """What E environments did in T decisions (action chunks). Time first."""

    reward: Float[Tensor, "T E"]
    """Sum over the chunk's steps; steps after an episode's end give 0."""
    value: Float[Tensor, "T E"]
    """V(s_t), as drawn."""
    next_value: Float[Tensor, "T E"]
    """V(s_{t+1}), read before any reset."""
    terminated: Bool[Tensor, "T E"]
    """The task ended here: nothing follows, bootstrap with 0."""
    truncated: Bool[Tensor, "T E"]
    """The clock ran out here: bootstrap with ``next_value``."""
    is_valid: Bool[Tensor, "T E"]
    """False where the environment was lost: the step counts for nothing."""
    steps: Int[Tensor, "T E"]
    """Control steps that the chunk really lasted: fewer than it has where the episode ended inside it."""


def gae(rollout: Rollout, *, discount: float, lam: float, discount_per: DiscountPer = "chunk") -> Float[Tensor, "T E"]:
    """Return A_t = sum_k (discount * lam)^k delta_{t+k}, cut where an episode ends (eq. 16).

    delta_t = r_t + discount * V(s_{t+1}) - V(s_t). Not normalised: that is the loss's choice. ``discount_per``:
    ``chunk`` discounts once a decision; ``step`` as often as the chunk had control steps (discount^k for k of them), so
    that the horizon in seconds does not depend on the chunk's length. ``lam`` is per decision in both.
    """
    # in double precision, for discount * lam to be rounded once
    times_TE = rollout.steps.double() if discount_per == "step" else torch.ones_like(rollout.steps, dtype=torch.double)
    discount_TE = discount**times_TE
    decay_TE, discount_TE = (discount_TE * lam).to(rollout.reward.dtype), discount_TE.to(rollout.reward.dtype)
    bootstrap_TE = torch.where(rollout.terminated, 0.0, rollout.next_value)
    delta_TE = rollout.reward + discount_TE * bootstrap_TE - rollout.value
    ends_TE = rollout.terminated | rollout.truncated | ~rollout.is_valid
    advantage_TE = torch.zeros_like(delta_TE)
    following_E = torch.zeros_like(delta_TE[0])
    for t in reversed(range(len(delta_TE))):
        following_E = delta_TE[t] + decay_TE[t] * following_E * (~ends_TE[t])
        following_E = following_E * rollout.is_valid[t]
        advantage_TE[t] = following_E
    return advantage_TE


def explained_variance(predicted: Float[Tensor, " N"], target: Float[Tensor, " N"]) -> float:
    """Return 1 - Var(target - predicted) / Var(target): 1 is perfect, 0 no better than the mean."""
    variance = target.var(correction=0)
    return float(1 - (target - predicted).var(correction=0) / variance) if variance > 0 else float("nan")
