"""Small networks with random weights, and random inputs, shared by the tests of the network."""

from __future__ import annotations

import torch

from rlco.data.normalise import Codec
from rlco.policies.families import new_policy
from rlco.policies.pi.config import PiConfig
from rlco.policies.pi.inputs import Inputs
from rlco.policies.pi.network import PiNetwork
from rlco.policies.pi.policy import PiPolicy


def network_of(config: PiConfig, *, seed: int = 0) -> PiNetwork:
    """Return a network none of whose layers is the identity (pi0.5's norms start at zero)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PiNetwork(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network


def pi_policy(name: str, codec: Codec, *, seed: int) -> PiPolicy:
    """Return a policy of pi0 or pi0.5 with random weights."""
    policy = new_policy(name, codec, seed=seed)
    assert isinstance(policy, PiPolicy)
    return policy


def random_inputs(config: PiConfig, *, batch: int = 3, cameras: int = 1, seed: int = 0) -> Inputs:
    """Return ``batch`` observations with prompts of different lengths: the last one fills its place."""
    generator = torch.Generator().manual_seed(seed)
    size, length = config.image_size, config.prompt_length
    used = torch.linspace(length / 2, length, batch).long()
    is_token = torch.arange(length) < used[:, None]
    tokens = torch.randint(2, config.vocabulary, (batch, length), generator=generator)
    return Inputs(
        pixels=torch.rand(batch, cameras, 3, size, size, generator=generator) * 2 - 1,
        tokens=torch.where(is_token, tokens, 0),
        is_token=is_token,
        is_word=is_token & (torch.arange(length) >= 2) & (torch.arange(length) < 6),
        state=torch.rand(batch, config.model_state_dim, generator=generator) * 2 - 1,
    )
