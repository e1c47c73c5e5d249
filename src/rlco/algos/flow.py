"""Flow matching, its SDE, and the density of a noisy flow chain.

Convention of pi0: time 1 is noise, time 0 is data; x_t = t * noise + (1 - t) * data, velocity = noise - data.
Letters: B batch, N noisy copies per sample, K steps, H horizon, A action.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def time_grid(steps: int) -> Float[Tensor, " K_plus_1"]:
    """Return the sampler's times 1, 1 - 1/K, ..., 0. Sampling and scoring both use this one grid."""
    return torch.linspace(1.0, 0.0, steps + 1)


def draw_time(shape: tuple[int, ...], *, generator: torch.Generator) -> Tensor:
    """Draw t = 0.999 Beta(1.5, 1) + 0.001, which favours the noisy end (pi0, appendix B)."""
    # Beta(a, 1) has the distribution function u^a, so u^(1/a) draws from it.
    return 0.999 * torch.rand(shape, generator=generator) ** (1 / 1.5) + 0.001


def interpolate(
    action: Float[Tensor, "B 1 H A"], noise: Float[Tensor, "B N H A"], time: Float[Tensor, "B N"]
) -> Float[Tensor, "B N H A"]:
    """Return x_t = t * noise + (1 - t) * action."""
    t = time[..., None, None]
    return t * noise + (1 - t) * action


def flow_loss(
    velocity: Float[Tensor, "B N H A"], target: Float[Tensor, "B N H A"], counts: Bool[Tensor, "B H A"]
) -> Float[Tensor, " B"]:
    """Return the mean squared velocity error of each sample over the entries that count."""
    weight = counts[:, None].to(velocity.dtype)
    total = (weight.sum((1, 2, 3)) * velocity.shape[1]).clamp(min=1)
    return ((velocity - target).square() * weight).sum((1, 2, 3)) / total


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustRegion:
    """How far an update may go, for one scale of the log-probability."""

    clip: float
    """PPO's epsilon, for the ratio that this log-probability gives."""
    kl_stop: float
    """Largest KL estimate of a minibatch [nats, of the same log-probability]; 2.5 clip^2, past what clipping holds."""


Reduction = Literal["sum", "mean-steps", "mean"]

TRUST_REGIONS: dict[Reduction, TrustRegion] = {
    "sum": TrustRegion(clip=0.2, kl_stop=0.1),
    "mean-steps": TrustRegion(clip=0.2, kl_stop=0.1),
    "mean": TrustRegion(clip=0.01, kl_stop=2.5e-4),
}
"""Reduction -> its default. With n terms in a mean, the ratio is the n-th root of the true one: a clip of c lets
the true ratio reach (1 + c)^n. Clip ranges cannot be carried from one reduction to another."""


def sde_transition(
    x: Float[Tensor, "B H A"],
    velocity: Float[Tensor, "B H A"],
    time: Float[Tensor, "Bt 2"],
    *,
    noise_level: float,
) -> tuple[Float[Tensor, "B H A"], Float[Tensor, "Bt 1 1"]]:
    """Return mean and standard deviation of a step from time t to t - d of the SDE with the flow's own marginals.

    mean = x - d v - (s^2 d / 2t) x1 and std = s sqrt(d), with s = noise_level * sqrt(t / (1 - t)) and the noise
    estimate x1 = x + (1 - t) v: the reverse-time SDE, whose score is -x1 / t (piRL's Flow-SDE; Flow-GRPO, eq. 9).
    ``time`` holds t and t - d, of every sample or (batch 1) of all. At t = 1, where s is infinite, 1 - t is
    taken at the end of the step.
    """
    t, after = time[:, 0, None, None], time[:, 1, None, None]
    d = t - after
    s_squared = noise_level**2 * t / torch.where(t < 1, 1 - t, 1 - after)
    noise = x + (1 - t) * velocity
    return x - d * velocity - s_squared * d / (2 * t) * noise, (s_squared * d).sqrt()


def chain_log_prob(
    chain: Float[Tensor, "B K_plus_1 H A"],
    mean: Float[Tensor, "B K H A"],
    std: Float[Tensor, "B K H A"],
    counts: Bool[Tensor, "H A"],
    *,
    reduction: Reduction = "sum",
) -> Float[Tensor, " B"]:
    """Return log p(x_1 .. x_K | x_0) of a chain of Gaussian steps: over the steps and stochastic entries.

    ``sum`` is the log-probability itself (piRL, eq. 5, without the constant density of the initial noise);
    ``mean-steps`` divides it by K, ``mean`` by K and the number of entries. Entries that do not count were moved
    without noise, so the density of those that do is exact.
    """
    z = (chain[:, 1:] - mean) / std
    density = -0.5 * z.square() - std.log() - 0.5 * math.log(2 * math.pi)
    total = (density * counts).sum((1, 2, 3))
    if reduction == "sum":
        return total
    steps = mean.shape[1]
    return total / (steps if reduction == "mean-steps" else steps * counts.sum())


def chain_entropy(std: Float[Tensor, "B K H A"], counts: Bool[Tensor, "H A"]) -> Float[Tensor, " B"]:
    """Return the mean differential entropy per stochastic entry: log std + log(2 pi e) / 2."""
    per_entry = std.log() + 0.5 * math.log(2 * math.pi * math.e)
    return (per_entry * counts).sum((1, 2, 3)) / (counts.sum() * std.shape[1])
