"""The token policy's network against other programs that mean the same: plain equations, and transformers' Llama."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from rlco.policies.openvla.answers import Parallel
from rlco.policies.openvla.config import OpenVlaConfig, openvla_oft_tiny, openvla_tiny
from rlco.policies.openvla.language import llama_config
from rlco.policies.openvla.policy import OpenVlaPolicy
from tests.policies.slow_openvla import SlowOpenVla
from tests.policies.token_policies import observation, policy_of

ONE_BY_ONE = replace(openvla_tiny(), depth=3)
SHARED_KEYS = replace(openvla_tiny(), kv_heads=1, rms_norm_eps=0.03, proprio=True, grounding_heads=2)
ZEROS = replace(openvla_oft_tiny(), coded_slots=False)
EVERY = pytest.mark.parametrize(
    "config",
    [ONE_BY_ONE, SHARED_KEYS, openvla_oft_tiny(), ZEROS],
    ids=["as published", "shared keys", "parallel", "parallel, zeros"],
)


def fed(policy: OpenVlaPolicy, bins: Tensor) -> Tensor:
    """Return what the language model reads of an action (N tokens, of which the last is never read)."""
    if policy.config.head == "parallel":
        assert isinstance(policy.answer, Parallel)
        read = policy.answer.code[:-1]
        assert bool(read.any()) == policy.config.coded_slots
        return read
    return SlowOpenVla(policy.network).embedded(bins[:-1] + policy.config.first_action_id)


def slow_logits(policy: OpenVlaPolicy, bins: Tensor) -> Tensor:
    """Return the scores (B, N, vocabulary) of the plain equations, each sample alone and unpadded."""
    slow, inputs = SlowOpenVla(policy.network), policy.preprocessor(observation(len(bins)))
    causal = policy.config.head == "autoregressive"
    rows = [slow.logits(inputs, row, fed(policy, own), causal=causal) for row, own in enumerate(bins)]
    return torch.stack(rows)


@torch.no_grad()
@EVERY
def test_a_padded_batch_is_the_plain_equations_of_each_sample_alone(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    bins = torch.randint(0, 256, (3, config.slots), generator=torch.Generator().manual_seed(1))
    inputs = policy.preprocessor(observation())
    assert inputs.is_token.sum(1).unique().numel() == 3  # no two prompts are of one length
    prompt = policy.network.read(policy.network.see(inputs), inputs)
    out, expected = policy.outputs(prompt, bins), slow_logits(policy, bins)
    torch.testing.assert_close(policy.network.logits(out), expected, rtol=1e-4, atol=1e-5)
    first, after = config.first_action_id, config.text_vocabulary
    torch.testing.assert_close(policy.network.action_logits(out), expected[..., first:after], rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.1  # the comparison is of something


@torch.no_grad()
@EVERY
def test_the_critic_reads_the_output_that_predicts_the_first_action_token(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    slow, inputs = SlowOpenVla(policy.network), policy.preprocessor(observation())
    nothing = torch.zeros(0, config.width)
    last = torch.stack([slow.outputs(inputs, row, nothing, causal=True)[-1] for row in range(3)])
    layers = [layer for layer in policy.value_head.modules() if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features, layer.bias is not None) for layer in layers] == [
        (config.width, 512, True),
        (512, 128, True),
        (128, 1, False),
    ]
    expected = last
    for number, layer in enumerate(layers):
        expected = expected @ layer.weight.T + (0 if layer.bias is None else layer.bias)
        expected = expected if number == 2 else torch.nn.functional.gelu(expected)
    torch.testing.assert_close(policy.value(observation()), expected[:, 0], rtol=1e-4, atol=1e-5)
    assert expected.std() > 1e-3


@torch.no_grad()
@EVERY
def test_tokens_drawn_with_kept_keys_have_the_probability_of_the_whole_sequence(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    inputs = policy.preprocessor(observation())
    prompt = policy.network.read(policy.network.see(inputs), inputs, room=policy.answer.room)
    share = torch.rand(3, config.slots, generator=torch.Generator().manual_seed(2))
    bins, log_prob = policy.draw(prompt, share, temperature=0.7)
    scores = slow_logits(policy, bins)[..., config.first_action_id : config.text_vocabulary]
    expected = (scores / 0.7).log_softmax(-1).gather(-1, bins[..., None]).squeeze(-1)
    torch.testing.assert_close(log_prob, expected, rtol=1e-4, atol=1e-5)
    assert bins.unique().numel() > 3


@torch.no_grad()
@pytest.mark.parametrize("config", [ONE_BY_ONE, SHARED_KEYS], ids=["as published", "shared keys"])
def test_the_language_part_is_the_llama_of_transformers(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    network, inputs = policy.network, policy.preprocessor(observation())
    theirs = LlamaForCausalLM(llama_config(config)).eval()
    theirs.load_state_dict(network.language_model.state_dict())
    prompt = network.read(network.see(inputs), inputs)
    bins = torch.randint(0, 256, (3, config.slots), generator=torch.Generator().manual_seed(1))
    ours = network.logits(policy.outputs(prompt, bins))

    slow, length = SlowOpenVla(network), prompt.is_valid.shape[1]
    padded = torch.zeros(3, length, config.width)
    for row in range(3):
        padded[row, prompt.is_valid[row]] = slow.prompt(inputs, row)
    x = torch.cat([padded, network.embed_actions(bins[:, :-1])], dim=1)
    is_valid = torch.cat([prompt.is_valid, prompt.is_valid.new_ones(3, config.slots - 1)], dim=1)
    out = theirs(inputs_embeds=x, attention_mask=is_valid.long(), position_ids=(is_valid.cumsum(1) - 1).clamp(min=0))
    torch.testing.assert_close(ours, out.logits[:, length - 1 :], rtol=1e-4, atol=1e-5)
