"""What reinforcement learning adds to a token policy: a critic."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class ValueHead(nn.Module):
    """V(s) from one output of the language model: width -> 512 -> 128 -> 1, GELU, the last without bias (RL4VLA)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Linear(128, 1, bias=False)
        self.layers = nn.Sequential(nn.Linear(width, 512), nn.GELU(), nn.Linear(512, 128), nn.GELU(), last)
        nn.init.normal_(last.weight, std=0.02)

    def forward(self, features: Float[Tensor, "B width"]) -> Float[Tensor, " B"]:
        return self.layers(features).squeeze(1)
