"""How a token policy draws and scores: one distribution over the 256 action tokens, for sampler and score alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rlco.policies.contract import Trainable
from rlco.policies.openvla.answers import at_share
from rlco.policies.openvla.config import OpenVlaConfig, openvla_oft_tiny, openvla_tiny
from rlco.policies.openvla.exploration import TokenExploration
from rlco.policies.openvla.policy import OpenVlaPolicy
from tests.policies.token_policies import CODEC, generator, observation, policy_of

BOTH = pytest.mark.parametrize("config", [openvla_tiny(), openvla_oft_tiny()], ids=["autoregressive", "parallel"])


def log_probs_of(policy: OpenVlaPolicy, bins: Tensor) -> Tensor:
    """Return the log-probabilities (B, N, 256) of every token at every slot."""
    inputs = policy.preprocessor(observation(len(bins)))
    prompt = policy.network.read(policy.network.see(inputs), inputs)
    return policy.log_probs(policy.outputs(prompt, bins), temperature=policy.config.exploration.temperature)


# --- the draw --------------------------------------------------------------------------------------------------------


def test_a_share_falls_into_the_token_that_reaches_it() -> None:
    log_p = torch.tensor([0.2, 0.0, 0.5, 0.3]).log()  # reached at 0.2, never, 0.7 and 1
    shares = torch.tensor([0.0, 0.1, 0.21, 0.69, 0.71, 0.999, 1.0])
    assert at_share(log_p.expand(7, -1), shares).tolist() == [0, 0, 2, 2, 3, 3, 3]


def test_no_share_falls_into_a_token_without_probability() -> None:
    log_p = torch.tensor([0.0, 0.4, 0.0, 0.59999, 0.0, 0.0]).log()  # rounding leaves sums beside 1, less than this
    ends = torch.tensor([0.0, 1e-45, 1e-30, 1 - 1e-7, 1.0])
    assert at_share(log_p.expand(5, -1), ends).tolist() == [1, 1, 1, 3, 3]
    shares = torch.rand(2000, generator=generator())
    assert set(at_share(log_p.expand(2000, -1), shares).tolist()) == {1, 3}


def test_numbers_that_are_none_are_said_by_the_log_probability() -> None:
    log_p = torch.full((1, 4), torch.nan)
    bins = at_share(log_p, torch.tensor([0.5]))
    assert log_p.gather(1, bins[:, None]).isnan().all()


@torch.no_grad()
def test_tokens_are_drawn_as_often_as_they_are_probable() -> None:
    policy, count = policy_of(openvla_tiny()), 20_000
    policy.network.language_model.lm_head.weight.mul_(3)  # a distribution that is far from even
    inputs = policy.preprocessor(observation(1))
    prompt = policy.network.read(policy.network.see(inputs), inputs)
    p = policy.log_probs(prompt.last, temperature=1.0).exp()[0]
    normal = torch.randn(count, generator=generator())
    log_p = policy.log_probs(prompt.last, temperature=1.0).expand(count, -1)
    counts = at_share(log_p, torch.special.ndtr(normal)).bincount(minlength=256)
    # tokens that are expected fewer than 5 times are one class
    rare = count * p < 5
    expected = torch.cat([count * p[~rare], count * p[rare].sum()[None]])
    found = torch.cat([counts[~rare], counts[rare].sum()[None]])
    classes = len(expected) - 1
    chi_square = ((found - expected) ** 2 / expected.clamp(min=1e-9)).sum()
    # its mean is the number of free classes, its variance twice that: five standard deviations
    assert abs(chi_square - classes) < 5 * (2 * classes) ** 0.5
    assert p.max() > 0.02  # an even one has 0.004


@torch.no_grad()
@BOTH
def test_sampling_is_that_draw_at_every_slot(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    noise = torch.randn(3, config.slots, generator=generator())
    sample = policy.sample(observation(), explore=True, generator=generator(1), noise=noise)
    log_p = log_probs_of(policy, sample.trace["bins"])
    assert torch.equal(at_share(log_p, torch.special.ndtr(noise)), sample.trace["bins"])
    again = policy.sample(observation(), explore=True, generator=generator(2), noise=noise)
    assert torch.equal(again.action, sample.action)
    other = policy.sample(observation(), explore=True, generator=generator(2))
    assert not torch.equal(other.action, sample.action)


@torch.no_grad()
@BOTH
def test_probabilities_sum_to_one_over_the_action_tokens_and_no_other_is_drawn(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    before = policy.sample(observation(), explore=True, generator=generator())
    total = log_probs_of(policy, before.trace["bins"]).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones(3, config.slots))
    first, after = config.first_action_id, config.text_vocabulary
    head = policy.network.language_model.lm_head.weight
    head[:first] *= 1e3  # whatever else the model would say
    head[after:] *= 1e3
    sample = policy.sample(observation(), explore=True, generator=generator())
    assert torch.equal(sample.trace["bins"], before.trace["bins"])
    assert torch.equal(sample.log_prob, before.log_prob)


# --- temperature -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_temperature_divides_the_scores() -> None:
    policy = policy_of(openvla_tiny())
    head, first = policy.network.language_model.lm_head.weight, policy.config.first_action_id
    head[first : first + 256] = 0
    head[first + 3], head[first + 9] = 2.0, 1.0
    out = torch.zeros(1, policy.config.width)
    out[0, 0] = 1.5  # scores: 3 and 1.5, and 254 zeros
    for temperature in (1.0, 0.5, 2.0):
        p = policy.log_probs(out, temperature=temperature)[0].exp()
        e3, e15 = torch.tensor([3.0, 1.5]).div(temperature).exp()
        torch.testing.assert_close(p[3], e3 / (e3 + e15 + 254))
        torch.testing.assert_close(p[9], e15 / (e3 + e15 + 254))


@torch.no_grad()
@BOTH
def test_evaluation_draws_warmly_or_takes_the_likeliest_token(config: OpenVlaConfig) -> None:
    policy = policy_of(replace(config, eval_temperature=0.0))
    sample, again = (policy.sample(observation(), explore=False, generator=generator(s)) for s in (0, 1))
    assert torch.equal(sample.action, again.action)
    log_p = log_probs_of(policy, sample.trace["bins"])
    assert torch.equal(log_p.argmax(-1), sample.trace["bins"])
    assert sample.log_prob.eq(0).all()

    policy = policy_of(config)
    assert config.eval_temperature == 0.6
    noise = torch.randn(3, config.slots, generator=generator())
    warm = policy.sample(observation(), explore=False, generator=generator(), noise=noise)
    policy.set_exploration(TokenExploration(temperature=0.6))
    assert torch.equal(
        warm.trace["bins"], at_share(log_probs_of(policy, warm.trace["bins"]), torch.special.ndtr(noise))
    )


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_cannot_be_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=rf"TokenExploration\.temperature must be above 0 .*, got {temperature}"):
        TokenExploration(temperature=temperature)
    if temperature:
        with pytest.raises(ValueError, match=rf"OpenVlaConfig\.eval_temperature must be 0 or .*, got {temperature}"):
            replace(openvla_tiny(), eval_temperature=temperature)


# --- scoring ---------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("part", ["all", "expert"])
def test_scoring_repeats_what_sampling_said(config: OpenVlaConfig, part: Trainable) -> None:
    policy = policy_of(config)
    policy.set_exploration(TokenExploration(temperature=0.8, value_token="mean"))
    policy.set_trainable(part)
    sample = policy.sample(observation(), explore=True, generator=generator())
    assert ("looks" in sample.trace) == (part == "expert")  # kept where nothing that sees learns
    fresh = {k: v for k, v in sample.trace.items() if k != "looks"}
    for trace in (sample.trace, fresh):
        evaluation = policy.evaluate(observation(), trace)
        torch.testing.assert_close(evaluation.log_prob, sample.log_prob, rtol=0, atol=1e-5)
        torch.testing.assert_close(evaluation.value, sample.value, rtol=0, atol=1e-5)
        assert evaluation.log_prob.requires_grad


def test_kept_looks_are_not_larger_than_they_may_be() -> None:
    policy = policy_of(openvla_tiny())
    policy.set_trainable("expert")
    looks = policy.encode(observation(1)).looks
    for budget, is_kept in ((looks.nbytes, True), (looks.nbytes - 1, False)):
        policy.most_prefix_bytes = budget
        assert ("looks" in policy.sample(observation(), explore=True, generator=generator()).trace) == is_kept


@torch.no_grad()
@BOTH
def test_a_decision_is_scored_by_the_tokens_of_its_executed_steps(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    sample = policy.sample(observation(), explore=True, generator=generator())
    bins, counted = sample.trace["bins"], 7 * config.executed
    log_p = log_probs_of(policy, bins)
    per_token = log_p.gather(-1, bins[..., None]).squeeze(-1)
    torch.testing.assert_close(sample.log_prob, per_token[:, :counted].sum(1), rtol=1e-5, atol=1e-5)
    entropy = torch.distributions.Categorical(logits=log_p).entropy()[:, :counted].sum(1)
    torch.testing.assert_close(policy.evaluate(observation(), sample.trace).entropy, entropy, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@BOTH
def test_the_action_is_the_tokens_centres_in_si_units(config: OpenVlaConfig) -> None:
    sample = policy_of(config).sample(observation(), explore=True, generator=generator())
    # bin b is the interval from 1 - 2 (b + 1) / 255 to 1 - 2 b / 255, after bins 0 and 1 share the highest
    centre = 1 - (2 * (sample.trace["bins"].float() - 1).clamp(min=0) + 1) / 255
    expected = CODEC.action.undo(centre.unflatten(1, (-1, 7)))
    torch.testing.assert_close(sample.action, expected, rtol=1e-4, atol=1e-6)


@BOTH
def test_tokens_of_another_temperature_or_of_evaluation_are_not_scored(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    drawn = policy.sample(observation(), explore=False, generator=generator())
    with pytest.raises(ValueError, match="drawn without exploration: they have no log-probability"):
        policy.evaluate(observation(), drawn.trace)
    drawn = policy.sample(observation(), explore=True, generator=generator())
    policy.set_exploration(replace(policy.config.exploration, temperature=1.5))
    with pytest.raises(ValueError, match=r"drawn at temperature 1, this policy scores at 1\.5"):
        policy.evaluate(observation(), drawn.trace)


def test_sampling_has_no_gradient_and_leaves_none_behind() -> None:
    policy = policy_of(openvla_tiny())
    sample = policy.sample(observation(), explore=True, generator=generator())
    assert not sample.log_prob.requires_grad
    assert not sample.value.requires_grad
    assert all(p.grad is None for p in policy.parameters())


@BOTH
@pytest.mark.parametrize(("explore", "eval_temperature"), [(False, 0.0), (False, 0.6), (True, 0.0)])
def test_scores_that_are_no_numbers_are_no_action(
    config: OpenVlaConfig, eval_temperature: float, *, explore: bool
) -> None:
    policy = policy_of(replace(config, eval_temperature=eval_temperature))
    with torch.no_grad():
        policy.network.language_model.model.norm.weight[3] = torch.nan
    assert policy.sample(observation(), explore=explore, generator=generator()).action.isnan().all()


@pytest.mark.parametrize("eval_temperature", [0.0, 0.6])
def test_one_sample_without_numbers_leaves_the_others_as_they_are(eval_temperature: float) -> None:
    policy, seen = policy_of(replace(openvla_oft_tiny(), eval_temperature=eval_temperature)), observation()
    plain = policy.sample(seen, explore=False, generator=generator())
    state = seen.state.clone()
    state[1] = torch.nan
    odd = policy.sample(replace(seen, state=state), explore=False, generator=generator())
    assert odd.action[1].isnan().all()
    assert torch.equal(odd.action[[0, 2]], plain.action[[0, 2]])
