"""The network against other programs that mean the same: transformers' pi0, and the plain equations of ``slow.py``."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from transformers import PI0ForConditionalGeneration

from benchmarks.transformers_pi0 import its_arguments, transformers_pi0
from rlco.algos.flow import flow_loss, interpolate, time_grid
from rlco.policies.pi.config import PiConfig, pi0_tiny, pi05_nano, pi05_tiny
from rlco.policies.pi.network import PiNetwork, Prefix, published_name
from tests.policies.networks import network_of, random_inputs
from tests.policies.slow import SlowPi, angles_of

_RENAMED = {
    "paligemma_with_expert.paligemma.model.vision_tower.vision_model.": "model.vlm.vision_tower.",
    "paligemma_with_expert.paligemma.model.": "model.vlm.",
    "paligemma_with_expert.paligemma.lm_head.": "model.vlm.language_model.embed_tokens.",
    "paligemma_with_expert.gemma_expert.model.": "model.dit.",
    "action_out_proj.": "action_out_proj.",
    "": "embed_action_time.",
}


def with_weights_of(network: PiNetwork) -> PI0ForConditionalGeneration:
    """Return transformers' pi0 of the same size with the same weights."""
    model, renamed = transformers_pi0(network.config), {}
    for name, value in network.state_dict().items():
        key = published_name(name)
        start = next(start for start in _RENAMED if key.startswith(start))
        renamed[_RENAMED[start] + key.removeprefix(start)] = value
    missing, unexpected = model.load_state_dict(renamed, strict=False)
    assert not unexpected
    assert missing == ["model.dit.embed_tokens.weight"]  # which no forward pass reads
    return model


def euler(network: PiNetwork, prefix: Prefix, noise: Tensor, *, steps: int) -> Tensor:
    """Return the actions that ``steps`` Euler steps make of ``noise`` (B, H, A)."""
    x = noise
    for time in time_grid(steps)[:-1]:
        x = x - network.expert(x[:, None], time.view(1, 1), prefix)[0][:, 0] / steps
    return x


@torch.no_grad()
@pytest.mark.parametrize("cameras", [1, 2])
def test_pi0_is_the_pi0_of_transformers(cameras: int) -> None:
    config = pi0_tiny()
    network, inputs = network_of(config), random_inputs(config, cameras=cameras)
    other, arguments = with_weights_of(network), its_arguments(inputs, config)
    generator = torch.Generator().manual_seed(3)
    action, noise = (torch.randn(3, 8, 8, generator=generator) for _ in range(2))
    time = torch.rand(3, generator=generator)
    prefix = network.prefix(inputs)

    noisy = interpolate(action[:, None], noise[:, None], time[:, None])
    velocity, _ = network.expert(noisy, time[:, None], prefix)
    ours = flow_loss(velocity, (noise - action)[:, None], torch.ones(3, 8, 8, dtype=torch.bool))
    theirs = other(**arguments, actions=action, noise=noise, timestep=time)
    torch.testing.assert_close(ours, theirs.loss.mean((1, 2)), rtol=1e-5, atol=1e-5)

    chunk = euler(network, prefix, noise, steps=10)
    sampled = other.sample_actions(**arguments, noise=noise, num_steps=10)
    torch.testing.assert_close(chunk, sampled, rtol=1e-5, atol=1e-5)
    assert (chunk - noise).abs().max() > 0.1  # the comparison is of something

    # What is left is its time embedding, which takes sines of up to 1570 rad in float32; openpi does it in float64.
    other.embed_action_time.register_module("sinusoid_embeds", ExactTime(config.expert.width))
    theirs = other(**arguments, actions=action, noise=noise, timestep=time)
    torch.testing.assert_close(velocity[:, 0], theirs.logits, rtol=0, atol=1e-6)


class ExactTime(nn.Module):
    """Sines and cosines of the flow time from float64 angles."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, time: Tensor) -> Tensor:
        return angles_of(time, self.width)


@torch.no_grad()
@pytest.mark.parametrize(
    "config",
    [pi05_tiny(), pi0_tiny(), replace(pi05_tiny(), grounding_heads=0), replace(pi05_nano(), heads=4, kv_heads=2)],
    ids=["pi05", "pi0", "pi05 as published", "two key heads"],
)
def test_prefix_and_expert_are_one_joint_forward_of_the_plain_equations(config: PiConfig) -> None:
    network, inputs = network_of(config), random_inputs(config, cameras=2)
    generator = torch.Generator().manual_seed(3)
    noisy = torch.randn(3, config.horizon, config.model_action_dim, generator=generator)
    time = torch.rand(3, generator=generator)
    velocity, _ = network.expert(noisy[:, None], time[:, None], network.prefix(inputs))
    torch.testing.assert_close(velocity[:, 0], SlowPi(network).velocity(inputs, noisy, time), rtol=1e-4, atol=2e-5)
