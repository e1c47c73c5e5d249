"""The token policy's network and what it learns from: what sees what, the loss, the critic, precision, sizes."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rlco.core.policy import Batch, Policy
from rlco.policies.adapters import adapter_parameters
from rlco.policies.openvla.answers import Parallel
from rlco.policies.openvla.config import OpenVlaConfig, openvla_oft_tiny, openvla_tiny
from rlco.policies.openvla.exploration import TokenExploration, ValueToken
from rlco.policies.openvla.inputs import Inputs
from rlco.policies.openvla.policy import OpenVlaPolicy
from rlco.policies.openvla.tokens import to_bins
from tests.policies.token_policies import CODEC, batch_of, generator, observation, policy_of

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("config", [openvla_tiny(), openvla_oft_tiny()], ids=["autoregressive", "parallel"])
VALUE_TOKENS = pytest.mark.parametrize("value_token", ["first", "mean"])


def outputs_of(policy: OpenVlaPolicy, inputs: Inputs, bins: Tensor) -> Tensor:
    prompt = policy.network.read(policy.network.see(inputs), inputs)
    return policy.outputs(prompt, bins)


def bins_of(config: OpenVlaConfig, count: int = 3) -> Tensor:
    return torch.randint(0, 256, (count, config.slots), generator=generator(1))


@BOTH
def test_it_is_a_policy(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    assert isinstance(policy, Policy)
    sample = policy.sample(observation(), explore=True, generator=generator())
    assert sample.action.shape == (3, config.horizon, 7)


# --- what sees what --------------------------------------------------------------------------------------------------


@torch.no_grad()
@BOTH
@VALUE_TOKENS
def test_a_padded_batch_is_each_sample_alone(config: OpenVlaConfig, value_token: ValueToken) -> None:
    policy, seen = policy_of(config), observation()
    policy.set_exploration(TokenExploration(value_token=value_token))
    batch = batch_of(policy)
    together, drawn = (
        policy.loss(batch, generator=generator()),
        policy.sample(seen, explore=True, generator=generator()),
    )
    for row in range(3):
        one = torch.tensor([row])
        alone = Batch(observation=seen.select(one), action=batch.action[one], is_pad=batch.is_pad[one])
        torch.testing.assert_close(policy.loss(alone, generator=generator()), together[one], rtol=1e-4, atol=1e-5)
        scored = policy.evaluate(seen.select(one), {name: value[one] for name, value in drawn.trace.items()})
        torch.testing.assert_close(scored.log_prob, drawn.log_prob[one], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(scored.value, drawn.value[one], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@BOTH
def test_what_stands_in_the_padding_is_nowhere_seen(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    inputs, bins = policy.preprocessor(observation()), bins_of(config)
    other = replace(inputs, tokens=torch.where(inputs.is_token, inputs.tokens, 5))
    assert not torch.equal(inputs.tokens, other.tokens)
    assert torch.equal(outputs_of(policy, inputs, bins), outputs_of(policy, other, bins))
    assert outputs_of(policy, inputs, bins).isfinite().all()


@torch.no_grad()
def test_a_token_changes_only_the_outputs_after_it() -> None:
    policy = policy_of(openvla_tiny())
    inputs, bins = policy.preprocessor(observation()), bins_of(policy.config)
    other = bins.clone()
    other[:, 3] = (other[:, 3] + 100) % 256
    change = (outputs_of(policy, inputs, bins) - outputs_of(policy, inputs, other)).abs().amax((0, 2))
    assert change[:4].eq(0).all()  # the output at token 2 predicts token 3
    assert bool((change[4:] > 1e-4).all())


@torch.no_grad()
def test_a_slot_changes_every_output_but_the_prompts_own() -> None:
    policy = policy_of(openvla_oft_tiny())
    inputs, bins = policy.preprocessor(observation()), bins_of(policy.config)
    before = outputs_of(policy, inputs, bins)
    assert torch.equal(before, outputs_of(policy, inputs, 255 - bins))  # tokens are not read
    assert isinstance(policy.answer, Parallel)
    policy.answer.code[30] += 1
    change = (before - outputs_of(policy, inputs, bins)).abs().amax((0, 2))
    assert change[0] == 0
    assert bool((change[1:] > 1e-4).all())


@torch.no_grad()
@pytest.mark.parametrize(
    "change",
    [
        lambda x: replace(x, begin=x.begin + 1),
        lambda x: replace(x, pixels=torch.cat([-x.pixels[:, :3], x.pixels[:, 3:]], dim=1)),
        lambda x: replace(x, pixels=torch.cat([x.pixels[:, :3], -x.pixels[:, 3:]], dim=1)),
        lambda x: replace(x, tokens=torch.where(x.is_word, 80, x.tokens)),
        lambda x: replace(x, state=-x.state),
    ],
    ids=["beginning", "DINO's picture", "SigLIP's picture", "words", "state"],
)
def test_everything_is_read(change: Callable[[Inputs], Inputs]) -> None:
    policy = policy_of(openvla_oft_tiny())
    inputs, bins = policy.preprocessor(observation()), bins_of(policy.config)
    assert (outputs_of(policy, inputs, bins) - outputs_of(policy, change(inputs), bins)).abs().max() > 1e-3


# --- the loss --------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_over_seven_tokens_and_the_end() -> None:
    policy = policy_of(openvla_tiny())
    batch = batch_of(policy)
    inputs = policy.preprocessor(batch.observation)
    prompt = policy.network.read(policy.network.see(inputs), inputs)
    bins = to_bins(CODEC.action.do(batch.action)).flatten(1)
    log_p = policy.network.logits(policy.outputs(prompt, bins, to_the_end=True)).log_softmax(-1)
    target = torch.cat(
        [bins + policy.config.first_action_id, torch.full((3, 1), policy.interface.tokenizer.end)], dim=1
    )
    expected = -sum(log_p[:, n].gather(1, target[:, n : n + 1]).squeeze(1) for n in range(8)) / 8
    torch.testing.assert_close(policy.loss(batch, generator=generator()), expected)


def test_padded_steps_count_in_no_loss() -> None:
    policy = policy_of(openvla_oft_tiny())
    batch = batch_of(policy)
    assert batch.is_pad.sum(1).tolist() == [0, 1, 2]
    inputs = policy.preprocessor(batch.observation)
    bins = to_bins(CODEC.action.do(batch.action)).flatten(1)
    scores, loss = policy.network.logits(outputs_of(policy, inputs, bins)), policy.loss(batch, generator=generator())
    for row, tokens in enumerate((56, 49, 42)):
        own = F.cross_entropy(scores[row, :tokens], bins[row, :tokens] + policy.config.first_action_id)
        torch.testing.assert_close(loss[row], own)


def test_a_sample_that_is_all_padding_has_no_loss() -> None:
    policy = policy_of(openvla_tiny())
    batch = replace(batch_of(policy), is_pad=torch.ones(3, 1, dtype=torch.bool))
    assert policy.loss(batch, generator=generator()).tolist() == [0, 0, 0]


@BOTH
def test_an_action_without_a_number_has_a_loss_without_one(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    batch = batch_of(policy)
    action = batch.action.clone()
    action[1, 0, 2] = torch.nan
    loss, plain = (policy.loss(replace(batch, action=a), generator=generator()) for a in (action, batch.action))
    assert loss.isnan().tolist() == [False, True, False]
    assert torch.equal(loss[[0, 2]], plain[[0, 2]])


def test_what_stands_in_padded_steps_is_nowhere_read() -> None:
    policy = policy_of(openvla_oft_tiny())
    batch = batch_of(policy)
    odd = replace(batch, action=batch.action.masked_fill(batch.is_pad[..., None], torch.nan))
    assert torch.equal(policy.loss(odd, generator=generator()), policy.loss(batch, generator=generator()))


@BOTH
def test_a_prefix_that_is_given_saves_seeing_and_changes_nothing(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    batch = batch_of(policy)
    prefix = policy.encode(batch.observation)
    given = policy.loss(batch, generator=generator(), prefix=prefix)
    assert torch.equal(given, policy.loss(batch, generator=generator()))
    policy.network.see = None  # type: ignore[assignment]
    assert torch.equal(given, policy.loss(batch, generator=generator(), prefix=prefix))


# --- the critic ------------------------------------------------------------------------------------------------------


@torch.no_grad()
@BOTH
@VALUE_TOKENS
def test_the_value_is_a_function_of_the_observation_alone(config: OpenVlaConfig, value_token: ValueToken) -> None:
    policy, seen = policy_of(config), observation()
    policy.set_exploration(TokenExploration(value_token=value_token))
    drawn = [policy.sample(seen, explore=True, generator=generator(seed)) for seed in (0, 1)]
    assert not torch.equal(drawn[0].trace["bins"], drawn[1].trace["bins"])
    values = [*(d.value for d in drawn), *(policy.evaluate(seen, d.trace).value for d in drawn), policy.value(seen)]
    for value in values[1:]:
        torch.testing.assert_close(value, values[0], rtol=0, atol=1e-5)
    assert (values[0] - policy.value(observation(seed=3))).abs().max() > 1e-4


@BOTH
@VALUE_TOKENS
def test_the_critic_changes_the_policy_only_where_it_may(config: OpenVlaConfig, value_token: ValueToken) -> None:
    for value_gradient in (False, True):
        policy = policy_of(config)
        policy.set_exploration(TokenExploration(value_token=value_token, value_gradient=value_gradient))
        policy.value(observation()).sum().backward()
        learns = {name for name, p in policy.network.named_parameters() if p.grad is not None}
        assert bool(learns) == value_gradient
        assert all(p.grad is not None for p in policy.value_head.parameters())


# --- parts -----------------------------------------------------------------------------------------------------------


@BOTH
def test_every_parameter_learns_but_what_nothing_reads(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    policy.loss(batch_of(policy), generator=generator()).mean().backward()
    still = {name for name, p in policy.network.named_parameters() if p.grad is None}
    unused = {id(p) for p in policy.network.unused_parameters()}
    assert still == {name for name, p in policy.network.named_parameters() if id(p) in unused}
    assert any("attn_pool" in name for name in still)
    last = config.dino.depth - 1
    assert {name for name in still if name.startswith("vision_backbone.featurizer.")} == {
        name
        for name, _ in policy.network.named_parameters()
        if name.startswith((f"vision_backbone.featurizer.blocks.{last}.", "vision_backbone.featurizer.norm."))
    }


@BOTH
def test_the_expert_is_the_language_model(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    policy.set_trainable("expert")
    policy.loss(batch_of(policy), generator=generator()).mean().backward()
    learns = {name for name, p in policy.network.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in learns} == {"language_model"} | ({"proprio"} if config.proprio else set())
    # the grounding token is made of the words: with it, they are seen by
    assert ("language_model.model.embed_tokens.weight" in learns) == (not config.grounding_heads)
    assert not policy.prefix_trains


def test_an_adapter_beside_the_output_map_is_heard_in_the_action_tokens() -> None:
    from peft import LoraConfig, inject_adapter_in_model

    policy = policy_of(openvla_tiny())
    out = torch.randn(4, policy.config.width, generator=generator())
    plain = policy.network.action_logits(out)
    inject_adapter_in_model(LoraConfig(r=2, target_modules=r".*lm_head", lora_dropout=0.0), policy.network)
    torch.testing.assert_close(policy.network.action_logits(out), plain)  # its B starts at zero
    with torch.no_grad():
        for parameter in adapter_parameters(policy.network):
            parameter += 0.3
    adapted = policy.network.action_logits(out)
    assert (adapted - plain).abs().max() > 0.1
    own = slice(policy.config.first_action_id, policy.config.text_vocabulary)
    torch.testing.assert_close(adapted, policy.network.logits(out)[..., own])


# --- another answer of the same weights ------------------------------------------------------------------------------


@torch.no_grad()
def test_the_same_weights_answer_in_chunks() -> None:
    policy = policy_of(openvla_tiny())
    chunks = policy.answering_as(replace(openvla_tiny(), head="parallel", horizon=4, executed=2))
    assert chunks.network is policy.network
    assert chunks.value_head is policy.value_head
    sample = chunks.sample(observation(), explore=True, generator=generator())
    assert sample.action.shape == (3, 4, 7)
    assert torch.equal(chunks.value(observation()), policy.value(observation()))
    inputs = policy.preprocessor(observation())  # the prompt alone predicts the first token
    first, one = outputs_of(chunks, inputs, bins_of(chunks.config)), outputs_of(policy, inputs, bins_of(policy.config))
    assert torch.equal(first[:, 0], one[:, 0])


def test_another_answer_draws_no_critic_and_keeps_as_much_of_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of(openvla_tiny())
    policy.most_prefix_bytes = 5.0
    monkeypatch.setattr("rlco.policies.openvla.policy.ValueHead", None)
    chunks = policy.answering_as(replace(openvla_tiny(), head="parallel", horizon=4, executed=2))
    assert chunks.most_prefix_bytes == 5


def test_an_answer_that_needs_other_weights_is_refused() -> None:
    with pytest.raises(ValueError, match=r"another head or horizon, not with other sizes: depth\."):
        policy_of(openvla_tiny()).answering_as(replace(openvla_tiny(), depth=3))


# --- precision, memory -----------------------------------------------------------------------------------------------


@torch.no_grad()
@BOTH
def test_bfloat16_stays_close_and_speaks_float32(config: OpenVlaConfig) -> None:
    exact = policy_of(config)
    policy = copy.deepcopy(exact)
    policy.network.to_bfloat16()
    assert policy.layer_dtype == torch.bfloat16
    inputs, bins = policy.preprocessor(observation()), bins_of(config)
    prompt = policy.network.read(policy.network.see(inputs), inputs)
    assert {t.dtype for pair in prompt.kept for t in pair} == {torch.bfloat16}
    log_p = policy.log_probs(policy.outputs(prompt, bins), temperature=1.0)
    expected = exact.log_probs(outputs_of(exact, inputs, bins), temperature=1.0)
    error = (log_p - expected).square().mean().sqrt() / expected.std()
    assert 1e-4 < error < 0.05  # bfloat16 has 8 bits: 0.4 % an operation
    sample = policy.sample(observation(), explore=True, generator=generator())
    assert {t.dtype for t in (log_p, sample.action, sample.log_prob, sample.value)} == {torch.float32}
    again = policy.evaluate(observation(), sample.trace)
    torch.testing.assert_close(again.log_prob, sample.log_prob, rtol=0, atol=0.02)
    added = [p for name, p in policy.network.named_parameters() if name.startswith(("grounding", "proprio"))]
    assert all(p.dtype == torch.float32 for p in [*added, *policy.value_head.parameters()])


@BOTH
def test_recomputing_in_the_backward_pass_changes_no_gradient(config: OpenVlaConfig) -> None:
    policies = [policy_of(config), policy_of(config)]
    policies[1].network.set_recompute(recompute=True)
    for policy in policies:
        policy.loss(batch_of(policy), generator=generator()).mean().backward()
    for plain, again in zip(*(p.parameters() for p in policies), strict=True):
        assert (plain.grad is None) == (again.grad is None)
        if plain.grad is not None and again.grad is not None:
            torch.testing.assert_close(again.grad, plain.grad)


_COMPILED = """
import torch
from rlco.policies.openvla.config import CONFIGS
from tests.policies.token_policies import batch_of, generator, observation, policy_of

policy = policy_of(CONFIGS["openvla-tiny"]())
names = set(policy.state_dict())
plain = policy.sample(observation(), explore=True, generator=generator())
loss = policy.loss(batch_of(policy), generator=generator())
policy.network.compile_layers(backend="eager")  # traced, not generated: seconds instead of a minute
again = policy.sample(observation(), explore=True, generator=generator())
torch.testing.assert_close(again.log_prob, plain.log_prob)
torch.testing.assert_close(policy.loss(batch_of(policy), generator=generator()), loss)
assert set(policy.state_dict()) == names
print(sum(sum(c.values()) for k, c in torch._dynamo.utils.counters.items() if k == "stats"))
"""


def test_compiling_the_layers_changes_nothing() -> None:
    # a process of its own: torch.compile cannot trace the type checks of the tests
    done = subprocess.run([sys.executable, "-c", _COMPILED], capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0  # something was traced
