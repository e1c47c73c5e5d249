import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from rlco.algos.flow import (
    TRUST_REGIONS,
    Reduction,
    chain_entropy,
    chain_log_prob,
    draw_time,
    flow_loss,
    interpolate,
    sde_transition,
    time_grid,
)


def test_the_grid_goes_from_noise_to_data_in_equal_steps() -> None:
    torch.testing.assert_close(time_grid(4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))


def test_interpolation_is_noise_at_one_and_action_at_zero() -> None:
    action, noise = torch.randn(2, 1, 3, 2), torch.randn(2, 2, 3, 2)
    out = interpolate(action, noise, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    torch.testing.assert_close(out[:, 0], noise[:, 0])
    torch.testing.assert_close(out[:, 1], action[:, 0])


def test_times_follow_the_beta_distribution() -> None:
    time = draw_time((20_000,), generator=torch.Generator().manual_seed(0))
    # Beta(1.5, 1): mean 0.6, variance 1.5 / (2.5^2 * 3.5)
    assert abs(float(time.mean()) - (0.999 * 0.6 + 0.001)) < 0.005
    assert abs(float(time.var()) - 1.5 / (2.5**2 * 3.5)) < 0.003
    assert float(time.min()) >= 0.001


def test_padding_does_not_count_in_the_loss() -> None:
    velocity, target = torch.zeros(2, 3, 4, 8), torch.ones(2, 3, 4, 8)
    counts = torch.zeros(2, 4, 8, dtype=torch.bool)
    counts[0, :2, :7] = True
    poisoned = torch.where(counts[:, None], velocity, torch.tensor(1e6))
    torch.testing.assert_close(flow_loss(poisoned, target, counts), torch.tensor([1.0, 0.0]))


def test_log_prob_of_a_linear_field_matches_the_closed_form() -> None:
    # v(x) = a x, one entry: x_{k+1} ~ N(x_k (1 - a / K), s^2), so log p is a sum of K normal densities
    a, s, steps = 0.3, 0.2, 4
    generator = torch.Generator().manual_seed(1)
    chain = [torch.randn(5, 1, 1, generator=generator)]
    for _ in range(steps):
        chain.append(chain[-1] * (1 - a / steps) + s * torch.randn(5, 1, 1, generator=generator))
    x = torch.stack(chain, dim=1)
    log_prob = chain_log_prob(x, x[:, :-1] * (1 - a / steps), torch.full_like(x[:, 1:], s), torch.ones(1, 1).bool())
    expected = sum(
        torch.distributions.Normal(x[:, k] * (1 - a / steps), s).log_prob(x[:, k + 1]).flatten() for k in range(steps)
    )
    torch.testing.assert_close(log_prob, expected)


def test_entries_that_do_not_count_change_nothing() -> None:
    chain, mean, std = torch.randn(2, 3, 4, 8), torch.randn(2, 2, 4, 8), torch.full((2, 2, 4, 8), 0.1)
    counts = torch.zeros(4, 8, dtype=torch.bool)
    counts[:2, :7] = True
    other = torch.where(counts, chain, torch.randn(2, 3, 4, 8))
    torch.testing.assert_close(chain_log_prob(chain, mean, std, counts), chain_log_prob(other, mean, std, counts))


def test_entropy_of_unit_noise() -> None:
    entropy = chain_entropy(torch.ones(1, 4, 2, 3), torch.ones(2, 3, dtype=torch.bool))
    torch.testing.assert_close(entropy, torch.tensor([0.5 * math.log(2 * math.pi * math.e)]))


@pytest.mark.parametrize(("reduction", "terms"), [("sum", 1), ("mean-steps", 3), ("mean", 3 * 5)])
def test_a_mean_is_the_sum_divided_by_what_it_says(reduction: Reduction, terms: int) -> None:
    generator = torch.Generator().manual_seed(2)
    chain, mean = torch.randn(2, 4, 2, 4, generator=generator), torch.randn(2, 3, 2, 4, generator=generator)
    std = torch.rand(2, 3, 2, 4, generator=generator) + 0.1
    counts = torch.tensor([[True, True, True, False], [True, True, False, False]])
    by_hand = torch.zeros(2)
    for b in range(2):
        for k in range(3):
            for h, a in counts.nonzero().tolist():
                by_hand[b] += torch.distributions.Normal(mean[b, k, h, a], std[b, k, h, a]).log_prob(
                    chain[b, k + 1, h, a]
                )
    torch.testing.assert_close(chain_log_prob(chain, mean, std, counts, reduction=reduction), by_hand / terms)


def test_every_kl_stop_is_as_far_past_its_clip_range() -> None:
    # a log-ratio l has the KL estimate l^2 / 2; the stop is where |l| is sqrt(5) times the clip range
    for region in TRUST_REGIONS.values():
        assert region.kl_stop == pytest.approx(2.5 * region.clip**2)


def test_sde_steps_by_hand() -> None:
    # K = 4, a = .5. Inside, t = .5 to .25: s^2 = .25 * .5 / .5 = .25; x = 1, v = 2: noise = 1 + .5 * 2 = 2;
    # mean = 1 - .25 * 2 - .25 * .25 / (2 * .5) * 2 = .375; std = sqrt(.25 * .25) = .25
    # first, t = 1 to .75: s^2 = .25 * 1 / .25 = 1 (a sqrt(K) = 1); noise = x = 1;
    # mean = 1 - .25 * 2 - 1 * .25 / 2 * 1 = .375; std = sqrt(.25) = .5
    # last, t = .25 to 0: s^2 = .25 * .25 / .75 = 1/12; noise = 1 + .75 * 2 = 2.5;
    # mean = 1 - .5 - (1/12) * .25 / .5 * 2.5 = .5 - 5/48; std = sqrt(1/48)
    time = torch.tensor([[0.5, 0.25], [1.0, 0.75], [0.25, 0.0]])
    one = torch.ones(3, 1, 1)
    mean, std = sde_transition(one, 2 * one, time, noise_level=0.5)
    torch.testing.assert_close(mean.flatten(), torch.tensor([0.375, 0.375, 0.5 - 5 / 48]))
    torch.testing.assert_close(std.flatten(), torch.tensor([0.25, 0.5, math.sqrt(1 / 48)]))


def test_a_single_step_from_noise_to_data_is_finite() -> None:
    mean, std = sde_transition(torch.ones(1, 1, 1), torch.ones(1, 1, 1), torch.tensor([[1.0, 0.0]]), noise_level=0.5)
    assert float(mean) == pytest.approx(1 - 1 - 0.125)
    assert float(std) == pytest.approx(0.5)


MEAN, STD = 0.7, 0.3


def gaussian_velocity(x: Tensor, t: Tensor) -> Tensor:
    """Return E[noise - data | x_t = x] for data N(MEAN, STD^2): the exact flow of a Gaussian, linear in x."""
    variance = (1 - t) ** 2 * STD**2 + t**2
    return -MEAN + (t - (1 - t) * STD**2) / variance * (x - (1 - t) * MEAN)


def sde_samples(steps: int, *, noise_level: float, count: int = 100_000) -> Tensor:
    generator, grid = torch.Generator().manual_seed(0), time_grid(steps)[None]
    x = torch.randn(count, 1, 1, generator=generator)
    for k in range(steps):
        time = grid[:, k : k + 2]
        mean, std = sde_transition(x, gaussian_velocity(x, time[0, 0]), time, noise_level=noise_level)
        x = mean + std * torch.randn(x.shape, generator=generator)
    return x


@pytest.mark.parametrize("noise_level", [0.2, 0.5, 0.8])
def test_the_sde_comes_to_the_data_of_the_ode_as_the_steps_grow(noise_level: float) -> None:
    errors = []
    for steps in (4, 16, 64, 256):
        samples = sde_samples(steps, noise_level=noise_level)
        assert abs(float(samples.mean()) - MEAN) < 0.005
        errors.append(abs(float(samples.var()) - STD**2))
    # the standard error of the variance of 100,000 draws is .09 * sqrt(2e-5) = .0004
    assert all(before > 1.5 * after for before, after in pairwise(errors))
    assert errors[-1] < 0.0025
