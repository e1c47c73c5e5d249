import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from rlco.algos.flow import Reduction
from rlco.core.policy import Observation
from rlco.data.normalise import Codec, Normaliser
from rlco.policies.checkpoint import load_policy, save_policy
from rlco.policies.contract import Trainable
from rlco.policies.pi.config import ValueFrom
from rlco.policies.pi.exploration import FlowExploration, Method
from rlco.policies.pi.network import Prefix
from rlco.policies.pi.policy import PiPolicy
from tests.policies.networks import pi_policy

CODEC = Codec(state=Normaliser(low=(-1.0,) * 8, high=(1.0,) * 8), action=Normaliser(low=(-0.05,) * 7, high=(0.05,) * 7))
NOISE, REINFLOW = FlowExploration(), FlowExploration(method="reinflow")
SDE_ONE, SDE_ALL = FlowExploration(method="flow-sde"), FlowExploration(method="flow-sde", stochastic_steps="all")
EVERY = [
    pytest.param(NOISE, id="flow-noise"),
    pytest.param(SDE_ONE, id="flow-sde-one"),
    pytest.param(SDE_ALL, id="flow-sde-all"),
    pytest.param(REINFLOW, id="reinflow"),
]
STEPS, GRID = 4, (1.0, 0.75, 0.5, 0.25, 0.0)


def tiny(exploration: FlowExploration = NOISE, *, name: str = "pi05-tiny") -> PiPolicy:
    policy, random = pi_policy(name, CODEC, seed=0), generator()
    policy.set_exploration(exploration)
    with torch.no_grad():  # the adaptive norms start at zero, which would hide the expert's layers
        for parameter in policy.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=random)
    return policy


def moved(policy: PiPolicy) -> PiPolicy:
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator(9))
    return policy


def observation(count: int = 3) -> Observation:
    random = generator()
    return Observation(
        image=torch.randint(0, 256, (count, 32, 32, 3), generator=random, dtype=torch.uint8),
        state=torch.rand(count, 8, generator=random) * 2 - 1,
        instruction=("push the pink cube",) * count,
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(policy: PiPolicy, count: int = 3, *, seed: int = 0) -> dict[str, Tensor]:
    with torch.no_grad():
        return dict(policy.sample(observation(count), explore=True, generator=generator(seed)).trace)


def entries() -> Tensor:
    """Return what is executed of a chunk: four steps of eight, seven dimensions of eight."""
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:4, :7] = True
    return mask


@pytest.mark.parametrize("value_from", ["prefix", "expert"])
@pytest.mark.parametrize("part", ["all", "expert"])
@pytest.mark.parametrize("reduction", ["sum", "mean-steps", "mean"])
@pytest.mark.parametrize("exploration", EVERY)
def test_the_ratio_is_exactly_one_before_an_update(
    exploration: FlowExploration, reduction: str, part: Trainable, value_from: ValueFrom
) -> None:
    policy = tiny()
    policy.set_trainable(part)
    policy.set_exploration(replace(exploration, log_prob=reduction), value_from=value_from)
    with torch.no_grad():
        sample = policy.sample(observation(), explore=True, generator=generator())
    evaluation = policy.evaluate(observation(), sample.trace)
    assert torch.equal(evaluation.log_prob, sample.log_prob)
    assert torch.equal(evaluation.value, sample.value)
    assert sample.log_prob.std() > 1e-4  # and not a constant


@pytest.mark.parametrize("name", ["pi05-tiny", "pi0-tiny"])
@pytest.mark.parametrize("exploration", EVERY)
def test_both_families_explore(exploration: FlowExploration, name: str) -> None:
    policy = tiny(exploration, name=name)
    sample = policy.sample(observation(), explore=True, generator=generator())
    torch.testing.assert_close(policy.evaluate(observation(), sample.trace).log_prob, sample.log_prob)


def reference_step(policy: PiPolicy, x: Tensor, k: Tensor, prefix: Prefix) -> tuple[Tensor, Normal]:
    """Return where the flow goes from x at step k of each sample, and what is drawn instead: the formulas once more."""
    t, after = torch.tensor(GRID)[k], torch.tensor(GRID)[k + 1]
    velocity, features = policy.network.expert(x[:, None], t[:, None], prefix)
    v, t, d = velocity[:, 0], t[:, None, None], (t - after)[:, None, None]
    flow, e = x - d * v, policy.config.exploration
    if e.method == "flow-sde":
        s = e.noise_level * torch.sqrt(t / torch.where(t == 1, d, 1 - t))
        data, noise = x - t * v, x + (1 - t) * v
        mean = data * (1 - (t - d)) + noise * (t - d - s**2 * d / (2 * t))
        return flow, Normal(mean, (s * d.sqrt()).expand_as(mean))
    low, high = e.std_bounds
    share = (torch.tanh(policy.noise_head.layers(features[:, 0])) + 1) / 2
    mean = flow.clip(-3, 3) if e.method == "reinflow" else flow
    return flow, Normal(mean, low ** (1 - share) * high**share)


@pytest.mark.parametrize("exploration", [SDE_ALL, REINFLOW, NOISE])
def test_all_steps_are_scored_by_their_density_when_the_parameters_have_moved(exploration: FlowExploration) -> None:
    policy = tiny(replace(exploration, log_prob="sum"))
    trace = drawn(policy)
    moved(policy)
    prefix, chain, expected = policy.encode(observation()), trace["chain"], torch.zeros(3)
    x = chain[:, 0]
    for k in range(STEPS):
        flow, step = reference_step(policy, x, torch.full((3,), k), prefix)
        expected += step.log_prob(chain[:, k + 1])[:, :4, :7].sum((1, 2))
        # what is not drawn follows the flow of the new parameters
        x = torch.where(entries(), chain[:, k + 1], flow)
    torch.testing.assert_close(policy.evaluate(observation(), trace).log_prob, expected, rtol=1e-4, atol=1e-3)


def test_one_step_is_scored_by_its_density_when_the_parameters_have_moved() -> None:
    policy = tiny(SDE_ONE)
    trace = drawn(policy)
    moved(policy)
    prefix, k, rows = policy.encode(observation()), trace["step"], torch.arange(3)
    _, step = reference_step(policy, trace["chain"][rows, k], k, prefix)
    expected = step.log_prob(trace["chain"][rows, k + 1])[:, :4, :7].sum((1, 2))
    torch.testing.assert_close(policy.evaluate(observation(), trace).log_prob, expected, rtol=1e-4, atol=1e-4)


def linear(policy: PiPolicy, slope: float) -> None:
    """Replace the expert by v(x) = slope x, with features of zeros: the learned deviation is then one number."""

    def expert(noisy: Tensor, time: Tensor, prefix: Prefix, **_: object) -> tuple[Tensor, Tensor]:
        del time, prefix
        return slope * noisy, noisy.new_zeros(*noisy.shape[:3], 24)

    policy.network.expert = expert  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(("reduction", "terms"), [("sum", 1.0), ("mean-steps", 4.0), ("mean", 4.0 * 28)])
@pytest.mark.parametrize("method", ["flow-noise", "reinflow"])
def test_learned_noise_on_a_linear_field_has_the_closed_form(
    method: Method, reduction: Reduction, terms: float
) -> None:
    policy = pi_policy("pi05-tiny", CODEC, seed=0)
    policy.set_exploration(FlowExploration(method=method, log_prob=reduction))
    linear(policy, 0.3)
    std = policy.config.exploration.std_start
    sample = policy.sample(observation(), explore=True, generator=generator())
    chain = sample.trace["chain"]
    expected = torch.zeros(3)
    for k in range(STEPS):
        expected += Normal(chain[:, k] * (1 - 0.3 / 4), std).log_prob(chain[:, k + 1])[:, :4, :7].sum((1, 2))
    torch.testing.assert_close(sample.log_prob, expected / terms, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("reduction", "terms"), [("sum", 1.0), ("mean-steps", 4.0), ("mean", 4.0 * 28)])
def test_the_sde_on_a_linear_field_has_the_closed_form(reduction: str, terms: float) -> None:
    policy = pi_policy("pi05-tiny", CODEC, seed=0)
    policy.set_exploration(replace(SDE_ALL, log_prob=reduction))
    linear(policy, 0.3)
    sample = policy.sample(observation(), explore=True, generator=generator())
    chain, expected = sample.trace["chain"], torch.zeros(3)
    # v = .3 x: the mean is x (1 - .3 / 4 - c (1 + .3 (1 - t))), c = s^2 / (8 t); s^2 = .25 t / (1 - t), at t = 1: 1
    for k, (t, s_squared) in enumerate([(1.0, 1.0), (0.75, 0.75), (0.5, 0.25), (0.25, 0.25 / 3)]):
        factor = 1 - 0.3 / 4 - s_squared / (8 * t) * (1 + 0.3 * (1 - t))
        step = Normal(chain[:, k] * factor, math.sqrt(s_squared / 4))
        expected += step.log_prob(chain[:, k + 1])[:, :4, :7].sum((1, 2))
    torch.testing.assert_close(sample.log_prob, expected / terms, rtol=1e-4, atol=1e-4)


def test_one_step_of_the_sde_is_a_mean_over_one_step() -> None:
    by = {name: tiny(replace(SDE_ONE, log_prob=name)) for name in ("sum", "mean-steps", "mean")}
    total, steps, mean = (p.sample(observation(), explore=True, generator=generator()).log_prob for p in by.values())
    assert torch.equal(total, steps)
    torch.testing.assert_close(mean, total / 28)


@pytest.mark.parametrize("exploration", EVERY)
def test_noise_off_is_the_euler_solution_bit_for_bit(exploration: FlowExploration) -> None:
    policy, noise = tiny(exploration), torch.randn(3, 8, 8, generator=generator())
    sample = policy.sample(observation(), explore=False, generator=generator(5), noise=noise)
    prefix, x = policy.encode(observation()), noise
    for t, after in pairwise(torch.tensor(GRID)):
        velocity, _ = policy.network.expert(x[:, None], t.view(1, 1), prefix)
        x = x - (t - after) * velocity[:, 0]
    assert torch.equal(sample.trace["chain"][:, -1], x)
    assert torch.equal(sample.action, policy.codec.action.undo(x[..., :7]))
    assert sample.log_prob.tolist() == [0.0] * 3  # no density: nothing was drawn


@pytest.mark.parametrize("exploration", EVERY)
def test_noise_moves_what_is_executed_and_nothing_else(exploration: FlowExploration) -> None:
    policy = tiny(exploration)
    trace = drawn(policy)
    prefix, chain = policy.encode(observation()), trace["chain"]
    steps = trace.get("step")
    for k in range(STEPS):
        flow, _ = reference_step(policy, chain[:, k], torch.full((3,), k), prefix)
        is_noisy = torch.ones(3, dtype=torch.bool) if steps is None else steps == k
        torch.testing.assert_close(chain[:, k + 1, ~entries()], flow[:, ~entries()], atol=1e-5, rtol=0)
        torch.testing.assert_close(chain[~is_noisy, k + 1], flow[~is_noisy], atol=1e-5, rtol=0)
        off = (chain[:, k + 1, entries()] - flow[:, entries()])[is_noisy].abs()
        assert bool((off > 1e-5).float().mean() > 0.98) or not len(off)


def test_the_stochastic_step_is_drawn_for_every_sample_and_uniformly() -> None:
    policy = tiny(SDE_ONE)
    first = drawn(policy, 8)["step"]
    assert len(first.unique()) > 1
    steps = torch.cat([drawn(policy, 50, seed=seed)["step"] for seed in range(20)])
    # 1000 draws over 4 steps: each 250 +- 14
    counts = steps.bincount(minlength=STEPS)
    assert counts.sub(250).abs().max() < 56


def test_one_stochastic_step_is_scored_by_one_call_at_each_samples_own_time() -> None:
    policy = tiny(SDE_ONE)
    trace, expert = drawn(policy, 8), policy.network.expert
    asked = []

    def watched(noisy: Tensor, time: Tensor, prefix: Prefix, **others: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        asked.append(time)
        return expert(noisy, time, prefix, **others)

    policy.network.expert = watched  # pyright: ignore[reportAttributeAccessIssue]
    policy.evaluate(observation(8), trace)
    assert len(asked) == 1
    assert torch.equal(asked[0][:, 0], torch.tensor(GRID)[trace["step"]])


def test_the_mean_of_reinflow_is_cut_and_not_the_draw() -> None:
    policy = tiny(replace(REINFLOW, mean_bound=0.05))
    sample = policy.sample(observation(), explore=True, generator=generator())
    last = sample.trace["chain"][:, -1, :4, :7].detach()
    assert last.abs().max() > 0.1  # the noise leads beyond the bound
    assert abs(float(last.std()) - 0.11) < 0.04
    # the gradient knows that the mean is cut: where it is, it does not move
    (gradient,) = torch.autograd.grad(sample.log_prob.sum(), policy.network.action_out_proj.bias)
    free = tiny(replace(REINFLOW, mean_bound=0.0))
    (other,) = torch.autograd.grad(
        free.evaluate(observation(), sample.trace).log_prob.sum(), free.network.action_out_proj.bias
    )
    assert gradient.norm() < other.norm()


def test_the_entropy_of_learned_noise_is_the_closed_form() -> None:
    policy = pi_policy("pi05-tiny", CODEC, seed=0)  # its deviation is .12 everywhere
    entropy = policy.evaluate(observation(), drawn(policy)).entropy
    torch.testing.assert_close(entropy, torch.full((3,), math.log(0.12) + 0.5 * math.log(2 * math.pi * math.e)))


def test_the_entropy_of_the_sde_is_that_of_the_steps_that_were_drawn() -> None:
    policy = tiny(SDE_ONE)
    trace = drawn(policy, 6)
    std = torch.tensor([0.5, math.sqrt(0.75 / 4), 0.25, math.sqrt(0.25 / 3 / 4)])
    expected = std[trace["step"]].log() + 0.5 * math.log(2 * math.pi * math.e)
    torch.testing.assert_close(policy.evaluate(observation(6), trace).entropy, expected)


def shifted(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda trace: trace | {name: change(trace[name])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shifted("time", lambda t: t * torch.tensor([[1.0], [1.0], [0.5]])), r"time grid \[0.5, 0.375, 0.25, 0.125"),
        (shifted("time", lambda t: t[:, :3]), r"time grid \[1.0, 0.75, 0.5\]"),
        (shifted("step", lambda s: s + 4), "names step [4-7], there are 4"),
        (lambda trace: {k: v for k, v in trace.items() if k != "step"}, "all of its steps stochastic, .* scores one"),
    ],
)
def test_a_trace_that_does_not_match_is_refused(change: Callable, message: str) -> None:
    policy = tiny(SDE_ONE)
    with pytest.raises(ValueError, match=message):
        policy.evaluate(observation(), change(drawn(policy)))


def test_a_chain_with_one_stochastic_step_is_not_scored_as_if_all_were() -> None:
    with pytest.raises(ValueError, match="one of its steps stochastic, this policy scores all"):
        tiny(SDE_ALL).evaluate(observation(), drawn(tiny(SDE_ONE)))


def test_a_head_is_drawn_anew_only_where_it_would_mean_something_else() -> None:
    policy = tiny()
    noise, value = policy.noise_head, policy.value_head
    policy.set_exploration(replace(SDE_ONE, noise_level=0.8))
    assert (policy.noise_head, policy.value_head) == (noise, value)
    policy.set_exploration(REINFLOW)
    assert policy.noise_head is not noise
    assert policy.value_head is value
    std = policy.noise_head(torch.randn(2, 8, 24))
    torch.testing.assert_close(std, torch.full((2, 8, 8), 0.11))
    policy.set_exploration(REINFLOW, value_from="expert")
    assert policy.value_head is not value
    again = policy.value_head
    policy.set_exploration(NOISE)  # the critic reads what it read
    assert policy.value_head is again


def test_a_new_head_is_the_same_whatever_was_drawn_before() -> None:
    heads = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        policy = tiny()
        policy.set_exploration(REINFLOW, value_from="expert", seed=7)
        heads.append([p.clone() for h in (policy.noise_head, policy.value_head) for p in h.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*heads, strict=True))


@pytest.mark.parametrize("value_from", ["prefix", "expert"])
def test_a_loaded_policy_explores_alike(value_from: ValueFrom, tmp_path: Path) -> None:
    policy = tiny()
    policy.set_exploration(FlowExploration(method="reinflow", noise_std=(0.05, 0.3)), value_from=value_from)
    save_policy(tmp_path / "policy", policy, provenance={})
    loaded = load_policy(tmp_path / "policy")
    assert loaded.config == policy.config
    a, b = (p.sample(observation(), explore=True, generator=generator()) for p in (policy, loaded))
    assert torch.equal(a.action, b.action)
    assert torch.equal(a.log_prob, b.log_prob)
    assert torch.equal(a.value, b.value)


@pytest.mark.parametrize("value_from", ["prefix", "expert"])
@pytest.mark.parametrize("exploration", EVERY)
def test_the_value_is_one_function_of_the_observation(exploration: FlowExploration, value_from: ValueFrom) -> None:
    policy = tiny()
    policy.set_exploration(exploration, value_from=value_from)
    one, two = (policy.sample(observation(), explore=True, generator=generator(seed)) for seed in (0, 1))
    assert torch.equal(one.value, two.value)
    assert torch.equal(one.value, policy.value(observation()))
    assert torch.equal(one.value, policy.evaluate(observation(), two.trace).value)
    assert one.value.std() > 1e-5


@pytest.mark.parametrize("value_from", ["prefix", "expert"])
def test_padding_does_not_reach_the_value(value_from: ValueFrom) -> None:
    policy = tiny()
    policy.set_exploration(NOISE, value_from=value_from)
    inputs = policy.preprocessor(observation())
    assert not inputs.is_token.all()
    garbage = replace(inputs, tokens=torch.where(inputs.is_token, inputs.tokens, 300))
    plain, odd = (policy._value(policy.network.prefix(i), observation()) for i in (inputs, garbage))
    torch.testing.assert_close(plain, odd, atol=1e-6, rtol=0)


@pytest.mark.parametrize("value_from", ["prefix", "expert"])
def test_the_critic_sends_no_gradient_into_the_policy(value_from: ValueFrom) -> None:
    policy = tiny()
    policy.set_exploration(NOISE, value_from=value_from)
    policy.value(observation()).sum().backward()
    assert all(p.grad is None for p in policy.actor_parameters())
    assert all(p.grad is not None for p in policy.critic_parameters())


def test_a_chain_that_was_drawn_without_exploration_is_not_scored() -> None:
    policy = tiny()
    sample = policy.sample(observation(), explore=False, generator=generator())
    with pytest.raises(ValueError, match="drawn without exploration"):
        policy.evaluate(observation(), sample.trace)
