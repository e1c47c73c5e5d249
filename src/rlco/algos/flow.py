"""Flow matching and the joint density of a noisy flow chain.

Convention of pi0: time 1 is noise, time 0 is data; x_t = t * noise + (1 - t) * data, velocity = noise - data.
Letters: B batch, N noisy copies per sample, K steps, H horizon, A action.
"""

from __future__ import annotations

import math

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


def chain_log_prob(
    chain: Float[Tensor, "B K_plus_1 H A"],
    mean: Float[Tensor, "B K H A"],
    std: Float[Tensor, "B K H A"],
    counts: Bool[Tensor, "H A"],
) -> Float[Tensor, " B"]:
    """Return log p(x_1 .. x_K | x_0) of a chain of Gaussian steps: summed over steps and stochastic entries.

    This is Flow-Noise's joint log-probability (piRL, eq. 5) without the constant density of the initial noise.
    Entries that do not count were moved without noise, so the density of those that do is exact.
    """
    z = (chain[:, 1:] - mean) / std
    density = -0.5 * z.square() - std.log() - 0.5 * math.log(2 * math.pi)
    return (density * counts).sum((1, 2, 3))


def chain_entropy(std: Float[Tensor, "B K H A"], counts: Bool[Tensor, "H A"]) -> Float[Tensor, " B"]:
    """Return the mean differential entropy per stochastic entry: log std + log(2 pi e) / 2."""
    per_entry = std.log() + 0.5 * math.log(2 * math.pi * math.e)
    return (per_entry * counts).sum((1, 2, 3)) / (counts.sum() * std.shape[1])
