"""What reinforcement learning adds to pi0.5: exploration noise and a critic. Not part of the published weights."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rlco.policies.pi.config import PiConfig


class NoiseHead(nn.Module):
    """Standard deviation of each action entry at each denoising step, learned, between two bounds (Flow-Noise)."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        low, high = (math.log(std) for std in config.noise_std)
        start = 2 * (math.log(config.noise_std_start) - low) / (high - low) - 1
        self.low, self.high = low, high
        last = nn.Linear(64, config.model_action_dim)
        self.layers = nn.Sequential(nn.Linear(config.expert.width, 64), nn.Tanh(), last)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, math.atanh(start))

    def forward(self, features: Float[Tensor, "B N H width"]) -> Float[Tensor, "B N H A"]:
        share = 0.5 * (torch.tanh(self.layers(features)) + 1)
        return torch.exp(self.low + share * (self.high - self.low))


class ValueHead(nn.Module):
    """V(s) from the prefix and the normalised state. Its input carries no gradient into the policy."""

    def __init__(self, summary_dim: int, *, state_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(summary_dim)
        last = nn.Linear(128, 1)
        self.layers = nn.Sequential(
            nn.Linear(summary_dim + state_dim, 256), nn.SiLU(), nn.Linear(256, 128), nn.SiLU(), last
        )
        nn.init.normal_(last.weight, std=0.02)
        nn.init.zeros_(last.bias)

    def forward(self, summary: Float[Tensor, "B features"], state: Float[Tensor, "B S"]) -> Float[Tensor, " B"]:
        return self.layers(torch.cat([self.norm(summary.detach()), state], dim=1)).squeeze(1)
