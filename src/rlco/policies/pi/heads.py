"""What reinforcement learning adds to a flow policy, beyond the published weights: exploration noise and a critic."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rlco.policies.pi.exploration import FlowExploration


class NoiseHead(nn.Module):
    """Standard deviation of each action entry at each denoising step, learned, between two bounds.

    Flow-Noise and ReinFlow. Linear in the logarithm between the bounds; ``width`` is that of the expert's features.
    """

    def __init__(self, exploration: FlowExploration, *, width: int, action_dim: int) -> None:
        super().__init__()
        low, high = (math.log(std) for std in exploration.std_bounds)
        start = 2 * (math.log(exploration.std_start) - low) / (high - low) - 1
        self.low, self.high = low, high
        last = nn.Linear(64, action_dim)
        self.layers = nn.Sequential(nn.Linear(width, 64), nn.Tanh(), last)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, math.atanh(start))

    def forward(self, features: Float[Tensor, "*B H width"]) -> Float[Tensor, "*B H A"]:
        share = 0.5 * (torch.tanh(self.layers(features)) + 1)
        return torch.exp(self.low + share * (self.high - self.low))


class ValueHead(nn.Module):
    """V(s) from features of the observation and the normalised state. They carry no gradient into the policy."""

    def __init__(self, feature_dim: int, *, state_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(feature_dim)
        last = nn.Linear(128, 1)
        self.layers = nn.Sequential(
            nn.Linear(feature_dim + state_dim, 256), nn.SiLU(), nn.Linear(256, 128), nn.SiLU(), last
        )
        nn.init.normal_(last.weight, std=0.02)
        nn.init.zeros_(last.bias)

    def forward(self, features: Float[Tensor, "B features"], state: Float[Tensor, "B S"]) -> Float[Tensor, " B"]:
        return self.layers(torch.cat([self.norm(features.detach()), state], dim=1)).squeeze(1)
