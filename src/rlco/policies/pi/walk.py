"""The way from noise to actions in K steps, drawn and scored by one function.

Letters: B batch, K steps, H horizon, A action. ``Bt`` is B, or 1 where all samples share the times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlco.algos.flow import Reduction, chain_entropy, chain_log_prob, sde_transition
from rlco.policies.pi.exploration import FlowExploration, Method
from rlco.policies.pi.heads import NoiseHead


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """What the network says about B chunks at one time."""

    x: Float[Tensor, "B H A"]
    velocity: Float[Tensor, "B H A"]
    features: Float[Tensor, "B H width"]
    time: Float[Tensor, "Bt 2"]
    """Of x, and of the next one."""

    @property
    def euler(self) -> Float[Tensor, "B H A"]:
        """Return the next chunks without noise: x - d v."""
        return self.x - (self.time[:, 0] - self.time[:, 1])[:, None, None] * self.velocity


Gaussian = tuple[Tensor, Tensor]
"""Mean (B, H, A), and standard deviation (B, H, A) or what spreads to it."""


class Kernel(Protocol):
    """A way to explore: what a stochastic step is drawn from."""

    def __call__(self, flow: Flow, exploration: FlowExploration, noise_head: NoiseHead) -> Gaussian:
        """Return mean and standard deviation of the next chunks."""
        ...


def learned_noise(flow: Flow, exploration: FlowExploration, noise_head: NoiseHead) -> Gaussian:
    """Flow-Noise and ReinFlow: around the flow's own step, with a learned deviation.

    The mean is cut, not the draw: what is drawn has the density that it is scored with.
    """
    bound = exploration.bound
    mean = flow.euler.clamp(-bound, bound) if bound else flow.euler
    return mean, noise_head(flow.features.detach())


def sde_noise(flow: Flow, exploration: FlowExploration, noise_head: NoiseHead) -> Gaussian:
    """Flow-SDE: noise of a given level, and a mean that keeps the flow's marginals."""
    del noise_head
    return sde_transition(flow.x, flow.velocity, flow.time, noise_level=exploration.noise_level)


KERNELS: Mapping[Method, Kernel] = {"flow-noise": learned_noise, "reinflow": learned_noise, "flow-sde": sde_noise}


@dataclass(frozen=True, kw_only=True, slots=True)
class Walk:
    """A chain from noise to actions, and the Gaussians of its steps."""

    chain: Float[Tensor, "B K_plus_1 H A"]
    mean: Float[Tensor, "B K H A"]
    std: Float[Tensor, "B K H A"]

    def at(self, step: Int[Tensor, " B"]) -> Walk:
        """Return one step of each sample, as a chain of that step alone."""
        rows = torch.arange(len(step), device=step.device)
        return Walk(
            chain=torch.stack([self.chain[rows, step], self.chain[rows, step + 1]], dim=1),
            mean=self.mean[rows, step][:, None],
            std=self.std[rows, step][:, None],
        )

    def log_prob(self, counts: Bool[Tensor, "H A"], *, reduction: Reduction) -> Float[Tensor, " B"]:
        """See ``chain_log_prob``."""
        return chain_log_prob(self.chain, self.mean, self.std, counts, reduction=reduction)

    def entropy(self, counts: Bool[Tensor, "H A"]) -> Float[Tensor, " B"]:
        """See ``chain_entropy``."""
        return chain_entropy(self.std, counts)


def walk(
    start: Float[Tensor, "B H A"],
    flow: Callable[[Tensor, Tensor], Flow],
    kernel: Callable[[Flow], Gaussian],
    *,
    draw: Callable[[int, Tensor, Tensor], Tensor],
    time: Float[Tensor, "Bt K_plus_1"],
    counts: Bool[Tensor, "*Bc H A"],
) -> Walk:
    """Go from noise to actions, in sampling and in scoring alike.

    ``flow(x, time)`` asks the network. ``draw(k, mean, std)`` gives the entries that are drawn: ``counts``, or in step
    k ``counts[k]`` where it differs between steps. The others follow the flow of the present parameters: so the density
    of the drawn ones stays exact when the parameters move.
    """
    x, chain, means, stds = start, [start], [], []
    for k, pair in enumerate(pairwise(time.unbind(1))):
        here = flow(x, torch.stack(pair, dim=1))
        mean, std = kernel(here)
        x = torch.where(counts if counts.ndim == 2 else counts[k], draw(k, mean, std), here.euler)
        chain.append(x)
        means.append(mean)
        stds.append(std.expand_as(mean))
    return Walk(chain=torch.stack(chain, 1), mean=torch.stack(means, 1), std=torch.stack(stds, 1))


def euler_chain(
    start: Float[Tensor, "B H A"], flow: Callable[[Tensor, Tensor], Flow], *, time: Float[Tensor, "Bt K_plus_1"]
) -> Float[Tensor, "B K_plus_1 H A"]:
    """Return the way without noise."""
    chain = [start]
    for pair in pairwise(time.unbind(1)):
        chain.append(flow(chain[-1], torch.stack(pair, dim=1)).euler)
    return torch.stack(chain, dim=1)
