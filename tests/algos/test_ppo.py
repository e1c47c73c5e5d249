import math

import pytest
import torch

from rlco.algos.ppo import normalised, policy_loss, value_loss


def test_ratio_one_gives_minus_the_mean_advantage() -> None:
    log_prob = torch.tensor([-1.0, -2.0])
    out = policy_loss(log_prob, log_prob.clone(), torch.tensor([1.0, 3.0]), clip=0.2)
    assert float(out.loss) == -2.0
    assert float(out.clip_fraction) == float(out.kl) == float(out.ratio_error) == 0.0


def test_clipping_by_hand() -> None:
    # ratios 2, 2, 0.5, 0.5 with advantages +1, -1, +1, -1 and clip 0.2:
    # min(2, 1.2) = 1.2; min(-2, -1.2) = -2; min(.5, .8) = .5; min(-.5, -.8) = -.8; mean = -.275
    log_ratio = torch.tensor([2.0, 2.0, 0.5, 0.5]).log()
    out = policy_loss(log_ratio, torch.zeros(4), torch.tensor([1.0, -1.0, 1.0, -1.0]), clip=0.2)
    assert float(out.loss) == pytest.approx(0.275)
    assert float(out.clip_fraction) == 1.0


def test_no_gradient_beyond_the_clip_in_the_profitable_direction() -> None:
    log_prob = torch.tensor([math.log(2.0), math.log(0.5)], requires_grad=True)
    policy_loss(log_prob, torch.zeros(2), torch.tensor([1.0, 1.0]), clip=0.2).loss.backward()
    assert log_prob.grad is not None
    assert float(log_prob.grad[0]) == 0.0  # already raised enough
    assert float(log_prob.grad[1]) == pytest.approx(-0.25)  # -ratio * A / 2


def test_value_loss_takes_the_worse_of_plain_and_clipped() -> None:
    # value 1, old 0, target 1: plain 0, clipped to .2: Huber .5 * .8^2
    loss = value_loss(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([1.0]), clip=0.2)
    assert float(loss) == pytest.approx(0.32)


def test_normalised_has_mean_zero_and_std_one() -> None:
    out = normalised(torch.tensor([1.0, 2.0, 3.0, 10.0]))
    assert float(out.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(out.std(correction=0)) == pytest.approx(1.0, abs=1e-4)


def test_normalising_does_not_depend_on_the_order() -> None:
    advantage = torch.randn(64, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(normalised(advantage[order]), normalised(advantage)[order])


def test_kl_is_the_estimate_that_is_never_negative() -> None:
    # log-ratios l: mean of e^l - 1 - l
    log_ratio = torch.tensor([0.1, -0.3])
    out = policy_loss(log_ratio, torch.zeros(2), torch.ones(2), clip=0.2)
    assert float(out.kl) == pytest.approx((math.exp(0.1) - 1.1 + math.exp(-0.3) - 0.7) / 2, abs=1e-7)
    assert float(out.clip_fraction) == 0.5
