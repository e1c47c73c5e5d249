from dataclasses import replace

import pytest
import torch

from rlco.core.policy import Batch, Observation, Policy
from rlco.data.normalise import Codec, Normaliser
from rlco.policies.contract import Trainable
from rlco.policies.pi.policy import PiPolicy
from tests.policies.networks import pi_policy

CODEC = Codec(state=Normaliser(low=(-1.0,) * 8, high=(1.0,) * 8), action=Normaliser(low=(-0.05,) * 7, high=(0.05,) * 7))


def tiny(seed: int = 0) -> PiPolicy:
    policy = pi_policy("pi05-tiny", CODEC, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # the adaptive norms start at zero, which would hide the expert's layers
        for parameter in policy.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return policy


def observation(count: int = 3, seed: int = 0) -> Observation:
    generator = torch.Generator().manual_seed(seed)
    return Observation(
        image=torch.randint(0, 256, (count, 32, 32, 3), generator=generator, dtype=torch.uint8),
        state=torch.rand(count, 8, generator=generator) * 2 - 1,
        instruction=("push the pink cube", "push the green cube", "pick up the ball")[:count],
    )


def batch(count: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(7)
    return Batch(
        observation=observation(count),
        action=0.05 * torch.randn(count, 8, 7, generator=generator),
        is_pad=torch.zeros(count, 8, dtype=torch.bool),
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_it_is_a_policy() -> None:
    assert isinstance(tiny(), Policy)


@pytest.mark.parametrize("part", ["all", "expert"])
def test_scoring_repeats_what_sampling_said(part: Trainable) -> None:
    policy = tiny()
    policy.set_trainable(part)
    with torch.no_grad():
        sample = policy.sample(observation(), explore=True, generator=generator())
    evaluation = policy.evaluate(observation(), sample.trace)
    assert torch.equal(evaluation.log_prob, sample.log_prob)
    assert torch.equal(evaluation.value, sample.value)


def test_scoring_is_the_exact_density_when_the_parameters_have_moved() -> None:
    policy = tiny()
    with torch.no_grad():
        chain = policy.sample(observation(), explore=True, generator=generator()).trace["chain"]
        for parameter in policy.network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator(9))
    trace = {"chain": chain, "time": torch.tensor([[1.0, 0.75, 0.5, 0.25, 0.0]]).expand(3, -1)}
    # by hand: what is not drawn follows the flow of the *new* parameters
    prefix, x, expected, frozen = policy.encode(observation()), chain[:, 0], torch.zeros(3), torch.zeros(3)
    for k in range(4):
        for source, total in ((x, expected), (chain[:, k], frozen)):
            velocity, features = policy.network.expert(source[:, None], trace["time"][:1, [k]], prefix)
            mean, std = source - 0.25 * velocity[:, 0], policy.noise_head(features)[:, 0]
            drawn = torch.distributions.Normal(mean, std).log_prob(chain[:, k + 1])[:, :4, :7]
            total += drawn.sum((1, 2)).detach()
            if total is expected:
                x = mean.clone()
                x[:, :4, :7] = chain[:, k + 1, :4, :7]
    scored = policy.evaluate(observation(), trace).log_prob
    torch.testing.assert_close(scored, expected, rtol=1e-4, atol=1e-3)
    assert (scored - frozen).abs().max() > 0.05  # the recorded entries would have given another number


def test_a_kept_prefix_scores_like_a_fresh_one() -> None:
    policy = tiny()
    policy.set_trainable("expert")
    with torch.no_grad():
        trace = dict(policy.sample(observation(), explore=True, generator=generator()).trace)
    fresh = {name: value for name, value in trace.items() if not name.startswith("prefix")}
    kept = policy.evaluate(observation(), trace)
    again = policy.evaluate(observation(), fresh)
    assert torch.equal(kept.log_prob, again.log_prob)
    assert torch.equal(kept.value, again.value)


def test_noise_off_is_the_euler_solution_and_ignores_the_noise_head() -> None:
    policy, noise = tiny(), torch.randn(3, 8, 8, generator=generator())
    first = policy.sample(observation(), explore=False, generator=generator(), noise=noise).action
    with torch.no_grad():
        for parameter in policy.noise_head.parameters():
            parameter += 1.0
    second = policy.sample(observation(), explore=False, generator=generator(5), noise=noise).action
    assert torch.equal(first, second)


def test_exploration_moves_only_what_is_executed() -> None:
    policy, noise = tiny(), torch.randn(3, 8, 8, generator=generator())
    prefix_chain = policy.sample(observation(), explore=True, generator=generator(), noise=noise).trace["chain"]
    mean = policy.sample(observation(), explore=False, generator=generator(), noise=noise).trace["chain"]
    assert torch.equal(prefix_chain[:, 1, 4:], mean[:, 1, 4:])  # beyond the executed steps
    assert torch.equal(prefix_chain[:, 1, :, 7:], mean[:, 1, :, 7:])  # beyond the real dimensions
    assert not torch.isclose(prefix_chain[:, 1, :4, :7], mean[:, 1, :4, :7]).any()


def test_another_time_grid_is_refused() -> None:
    policy = tiny()
    trace = dict(policy.sample(observation(), explore=True, generator=generator()).trace)
    trace["time"] = trace["time"] * 0.5
    with pytest.raises(ValueError, match="time grid"):
        policy.evaluate(observation(), trace)


def test_padded_steps_and_padded_dimensions_do_not_count() -> None:
    policy, plain = tiny(), batch()
    is_pad = plain.is_pad.clone()
    is_pad[:, 5:] = True
    garbage = plain.action.clone()
    garbage[:, 5:] = 1e3
    a = policy.loss(replace(plain, is_pad=is_pad), generator=generator())
    with torch.no_grad():
        policy.network.action_out_proj.bias[7] += 100.0  # the padded dimension
    b = policy.loss(replace(plain, is_pad=is_pad), generator=generator())
    torch.testing.assert_close(a, b)
    assert not torch.allclose(policy.loss(replace(plain, action=garbage), generator=generator()), a)


def test_the_prefix_does_not_depend_on_padding_tokens() -> None:
    policy = tiny()
    inputs = policy.preprocessor(observation())
    padded = policy.network.prefix(inputs)
    used = int(inputs.is_token.sum(1).max())
    shorter = {name: getattr(inputs, name)[:, :used] for name in ("tokens", "is_token", "is_word")}
    cut = policy.network.prefix(replace(inputs, **shorter))
    torch.testing.assert_close(padded.summary, cut.summary)
    noisy = torch.randn(3, 2, 8, 8, generator=generator())
    time = torch.tensor([[0.3, 0.9]])
    velocities = [policy.network.expert(noisy, time, prefix)[0] for prefix in (padded, cut)]
    torch.testing.assert_close(*velocities)


def test_copies_that_share_a_prefix_do_not_see_each_other() -> None:
    policy = tiny()
    prefix = policy.encode(observation())
    noisy = torch.randn(3, 4, 8, 8, generator=generator())
    time = torch.tensor([[1.0, 0.75, 0.5, 0.25]])
    together, _ = policy.network.expert(noisy, time, prefix)
    alone = torch.cat([policy.network.expert(noisy[:, [k]], time[:, [k]], prefix)[0] for k in range(4)], dim=1)
    torch.testing.assert_close(together, alone)


def test_a_frozen_prefix_gets_no_gradient_and_the_expert_does() -> None:
    policy = tiny()
    policy.set_trainable("expert")
    policy.loss(batch(), generator=generator()).mean().backward()
    assert all(p.grad is None for p in policy.network.prefix_parameters())
    assert policy.network.action_in_proj.weight.grad is not None
    assert policy.network.action_in_proj.weight.grad.any()
    policy.set_trainable("all")
    policy.loss(batch(), generator=generator()).mean().backward()
    tower = policy.network.paligemma_with_expert.paligemma.model.vision_tower
    assert any(p.grad is not None and p.grad.any() for p in tower.parameters())


def test_the_critic_sends_no_gradient_into_the_policy() -> None:
    policy = tiny()
    trace = policy.sample(observation(), explore=True, generator=generator()).trace
    policy.evaluate(observation(), {k: v.detach() for k, v in trace.items()}).value.sum().backward()
    critic = {id(p) for p in policy.critic_parameters()}
    assert all(p.grad is None or not p.grad.any() for p in policy.parameters() if id(p) not in critic)


def test_the_image_and_the_words_matter() -> None:
    policy, noise = tiny(), torch.randn(3, 8, 8, generator=generator())
    seen = observation()
    plain = policy.sample(seen, explore=False, generator=generator(), noise=noise).action
    dark = policy.sample(replace(seen, image=seen.image // 4), explore=False, generator=generator(), noise=noise).action
    words_changed = replace(seen, instruction=("push the orange cube",) * 3)
    other = policy.sample(words_changed, explore=False, generator=generator(), noise=noise).action
    assert not torch.allclose(plain, dark, rtol=1e-3)
    assert not torch.allclose(plain, other, rtol=1e-3)
