"""Small token policies with random weights, and observations whose prompts differ in length."""

from __future__ import annotations

import torch

from rlco.core.policy import Batch, Observation
from rlco.data.normalise import Codec, Normaliser
from rlco.policies.openvla.config import OpenVlaConfig
from rlco.policies.openvla.interface import Interface
from rlco.policies.openvla.policy import OpenVlaPolicy

CODEC = Codec(state=Normaliser(low=(-1.0,) * 8, high=(1.0,) * 8), action=Normaliser(low=(-0.05,) * 7, high=(0.05,) * 7))
TASKS = ("push the pink cube", "pick", "put the small red ball on the plate")
"""Of 4, 1 and 8 words."""


def policy_of(config: OpenVlaConfig, *, seed: int = 0) -> OpenVlaPolicy:
    """Return a policy in whose outputs every weight can be noticed (norms that are not 1, biases that are not 0)."""
    policy, random = OpenVlaPolicy(config, Interface(codec=CODEC), seed=seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=random)
    return policy.eval()


def observation(count: int = 3, *, seed: int = 0) -> Observation:
    """Return ``count`` pictures, each with a task of another length."""
    random = torch.Generator().manual_seed(seed)
    return Observation(
        image=torch.randint(0, 256, (count, 32, 32, 3), generator=random, dtype=torch.uint8),
        state=torch.rand(count, 8, generator=random) * 2 - 1,
        instruction=tuple(TASKS[i % len(TASKS)] for i in range(count)),
    )


def batch_of(policy: OpenVlaPolicy, count: int = 3, *, seed: int = 0) -> Batch:
    """Return supervised samples, whose last control steps are padding where there are several."""
    random = torch.Generator().manual_seed(seed + 7)
    action = 0.1 * torch.rand(count, policy.horizon, 7, generator=random) - 0.05
    is_pad = torch.arange(policy.horizon) >= policy.horizon - torch.arange(count)[:, None]
    return Batch(observation=observation(count, seed=seed), action=action, is_pad=is_pad & (policy.horizon > 1))


def generator(seed: int = 0) -> torch.Generator:
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)
