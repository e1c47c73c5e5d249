"""What the action expert reads of a noisy chunk: the one place where pi0.5 and pi0 differ in what goes in.

Letters: B batch, N noisy chunks per observation, H horizon, S padded state. The time has batch 1 (t) where all samples
share it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rlco.policies.pi.config import PiConfig


def time_embedding(time: Float[Tensor, " N"], width: int) -> Float[Tensor, "N width"]:
    """Return sines then cosines of the flow time, periods geometric from 4e-3 to 4 (in float64, then cast)."""
    fraction = torch.linspace(0, 1, width // 2, dtype=torch.float64, device=time.device)
    angle = time.double()[:, None] * (2 * math.pi / (4e-3 * (4.0 / 4e-3) ** fraction))[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(time.dtype)


class Pi05Suffix(nn.Module):
    """The action tokens as they are; the flow time conditions the expert's norms."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        width = config.expert.width
        self.time_mlp_in = nn.Linear(width, width)
        self.time_mlp_out = nn.Linear(width, width)

    def lead(self, state: Float[Tensor, "B S"]) -> Float[Tensor, "B 0 width"]:
        """Return nothing: the state is in the prompt."""
        return state.new_zeros(len(state), 0, self.time_mlp_in.in_features)

    def forward(
        self, action: Float[Tensor, "B N H width"], time: Float[Tensor, "t N"]
    ) -> tuple[Float[Tensor, "B T width"], Float[Tensor, "t N width"]]:
        """Return the tokens and the condition."""
        embedded = time_embedding(time.flatten(), action.shape[-1])
        condition = F.silu(self.time_mlp_out(F.silu(self.time_mlp_in(embedded))))
        return action.flatten(1, 2), condition.unflatten(0, time.shape)


class Pi0Suffix(nn.Module):
    """A token of the state, which the N chunks share, before action tokens that each carry the flow time.

    The state's token sees the prefix and itself alone: it is the same at every step.
    """

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        width = config.expert.width
        self.state_proj = nn.Linear(config.model_state_dim, width)
        self.action_time_mlp_in = nn.Linear(2 * width, width)
        self.action_time_mlp_out = nn.Linear(width, width)

    def forward(
        self, action: Float[Tensor, "B N H width"], time: Float[Tensor, "t N"]
    ) -> tuple[Float[Tensor, "B T width"], None]:
        """Return the tokens; nothing conditions the norms."""
        embedded = time_embedding(time.flatten(), action.shape[-1]).unflatten(0, time.shape)
        both = torch.cat([action, embedded.unsqueeze(2).expand_as(action)], dim=-1)
        merged = self.action_time_mlp_out(F.silu(self.action_time_mlp_in(both)))
        return merged.flatten(1, 2), None

    def lead(self, state: Float[Tensor, "B S"]) -> Float[Tensor, "B 1 width"]:
        """Return the token of the state."""
        return self.state_proj(state).unsqueeze(1)


SUFFIXES = {"pi05": Pi05Suffix, "pi0": Pi0Suffix}
