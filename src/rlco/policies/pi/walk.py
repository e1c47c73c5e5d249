"""The way from noise to actions in K Gaussian steps, drawn and scored by one function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlco.algos.flow import chain_entropy, chain_log_prob


@dataclass(frozen=True, kw_only=True, slots=True)
class Walk:
    """A chain from noise to actions, and what it says about itself."""

    chain: Float[Tensor, "B K_plus_1 H A"]
    log_prob: Float[Tensor, " B"]
    entropy: Float[Tensor, " B"]


def walk(
    start: Float[Tensor, "B H A"],
    flow: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    stochastic: Callable[[int, Tensor, Tensor], Tensor],
    *,
    grid: Float[Tensor, " K_plus_1"],
    counts: Bool[Tensor, "H A"],
) -> Walk:
    """Go from noise to actions in K steps x - dt v(x, t), and score them.

    ``flow(x, t)`` gives velocity and standard deviation. ``stochastic(k, mean, std)`` gives the entries that are drawn
    (``counts``); the others follow the flow, in sampling and in scoring alike, so that the density of the drawn ones
    stays exact when the parameters move.
    """
    x, chain, means, stds = start, [start], [], []
    for k, (t, t_next) in enumerate(pairwise(grid)):
        velocity, std = flow(x, t)
        mean = x - (t - t_next) * velocity
        x = torch.where(counts, stochastic(k, mean, std), mean)
        chain.append(x)
        means.append(mean)
        stds.append(std)
    steps, std = torch.stack(chain, 1), torch.stack(stds, 1)
    return Walk(
        chain=steps,
        log_prob=chain_log_prob(steps, torch.stack(means, 1), std, counts),
        entropy=chain_entropy(std, counts),
    )
