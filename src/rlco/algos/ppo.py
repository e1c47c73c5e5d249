"""Proximal policy optimisation (Schulman et al., arXiv 1707.06347)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyLoss:
    """The clipped surrogate and what to watch."""

    loss: Float[Tensor, ""]
    clip_fraction: Float[Tensor, ""]
    kl: Float[Tensor, ""]
    """Estimate of KL(old || new): mean of (ratio - 1) - log ratio, never negative."""
    ratio_error: Float[Tensor, ""]
    """Largest |ratio - 1|: 0 before the first update of an iteration."""


def policy_loss(
    log_prob: Float[Tensor, " B"],
    old_log_prob: Float[Tensor, " B"],
    advantage: Float[Tensor, " B"],
    *,
    clip: float,
) -> PolicyLoss:
    """Return -E[min(r A, clip(r, 1 - clip, 1 + clip) A)], r = exp(log_prob - old_log_prob) (eq. 7)."""
    # exp() overflows above 88; a ratio of e^20 is clipped all the same
    log_ratio = (log_prob - old_log_prob).clamp(-20, 20)
    ratio = log_ratio.exp()
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    with torch.no_grad():
        clipped = ((ratio - 1).abs() > clip).float().mean()
        kl = (ratio - 1 - log_ratio).mean()
        error = (ratio - 1).abs().max()
    return PolicyLoss(loss=-surrogate.mean(), clip_fraction=clipped, kl=kl, ratio_error=error)


def value_loss(
    value: Float[Tensor, " B"],
    old_value: Float[Tensor, " B"],
    target: Float[Tensor, " B"],
    *,
    clip: float,
    huber: float = 1.0,
) -> Float[Tensor, ""]:
    """Return the Huber loss of the value, the worse of the plain and the clipped prediction.

    Beyond an error of ``huber`` the loss grows with the error and not with its square.
    """
    clipped = old_value + (value - old_value).clamp(-clip, clip)
    plain_B = F.huber_loss(value, target, delta=huber, reduction="none")
    clipped_B = F.huber_loss(clipped, target, delta=huber, reduction="none")
    return torch.maximum(plain_B, clipped_B).mean()


def normalised(advantage: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return the advantages with mean 0 and standard deviation 1 over the whole batch of an iteration."""
    return (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-5)
