import math

import torch

from rlco.algos.flow import chain_entropy, chain_log_prob, draw_time, flow_loss, interpolate, time_grid


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
