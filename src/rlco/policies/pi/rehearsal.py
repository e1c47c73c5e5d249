"""One step of pi0 or pi0.5 on inputs that mean nothing: what its memory is counted from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rlco.core.scene import STATE_DIM
from rlco.policies.pi.inputs import Inputs
from rlco.policies.pi.network import Prefix
from rlco.policies.pi.policy import PiPolicy


@dataclass(frozen=True, slots=True)
class PiRehearsal:
    """See ``rlco.policies.contract.Rehearsal``."""

    policy: PiPolicy
    cameras: int
    prompt_tokens: int

    @property
    def decision_bytes(self) -> int:
        """Return what the experience keeps of a decision: pictures, state, chain and a few numbers."""
        config = self.policy.config
        chain = (config.denoise_steps + 1) * (config.horizon * config.model_action_dim + 1)
        return self.cameras * 3 * config.image_size**2 + 4 * (STATE_DIM + chain + 8)

    def encode(self, count: int) -> Prefix:
        """Return the prefix of ``count`` observations."""
        config = self.policy.config
        words = torch.ones(count, self.prompt_tokens, dtype=torch.bool)
        return self.policy.network.prefix(
            Inputs(
                pixels=torch.zeros(count, self.cameras, 3, config.image_size, config.image_size),
                tokens=torch.zeros(count, self.prompt_tokens, dtype=torch.long),
                is_token=words,
                is_word=words,
                state=torch.zeros(count, config.model_state_dim),
            )
        )

    def loss(self, prefix: Prefix) -> Float[Tensor, ""]:
        """Return a number with the graph of the supervised loss."""
        config = self.policy.config
        noisy = torch.zeros(len(prefix.key), config.flow_copies, config.horizon, config.model_action_dim)
        velocity, _ = self.policy.network.expert(noisy, noisy[:, :, 0, 0], prefix)
        return velocity.square().mean()

    def score(self, prefix: Prefix) -> Float[Tensor, ""]:
        """Return a number with the graph of scoring a drawn chain: as many expert calls as were stochastic."""
        policy = self.policy
        steps = 1 if policy.config.exploration.draws_one_step else policy.config.denoise_steps
        value = policy.value_head(policy.critic_input(prefix), torch.zeros(len(prefix.key), STATE_DIM))
        return self._walk(prefix, steps=steps).mean() + value.mean()

    def sample(self, prefix: Prefix) -> None:
        """Take one denoising step: the others use its memory again."""
        self._walk(prefix, steps=1)

    def _walk(self, prefix: Prefix, *, steps: int) -> Tensor:
        """Return something like the log-probability of a chain: its expert calls are needed in the backward pass."""
        config = self.policy.config
        x, total = torch.zeros(len(prefix.key), config.horizon, config.model_action_dim), torch.zeros(())
        for _ in range(steps):
            velocity, features = self.policy.network.expert(x[:, None], torch.zeros(1, 1), prefix)
            std = self.policy.noise_head(features.detach())[:, 0]
            mean = x - velocity[:, 0] / config.denoise_steps
            total = total - 0.5 * ((x - mean) / std).square() - std.log()
            x = mean + std
        return total
