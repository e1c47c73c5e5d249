import pytest
import torch
from torch import nn

from rlco.train.ema import Ema


def moved(parameter: nn.Parameter, value: float) -> None:
    with torch.no_grad():
        parameter.fill_(value)


def test_the_average_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    ema = Ema([weight], [weight], decay=0.5, warm_up=False)
    for value in (3.0, 5.0):
        moved(weight, value)
        ema.update()
    # 1 -> (1 + 3) / 2 = 2 -> (2 + 5) / 2 = 3.5
    with ema.averaged():
        assert weight.item() == 3.5


def test_the_warm_up_weighs_the_first_weights_less() -> None:
    weight = nn.Parameter(torch.tensor([0.0]))
    ema = Ema([weight], [weight], decay=0.999)
    moved(weight, 1.0)
    ema.update()
    # decay (1 + 1) / (10 + 1) in the first step
    ema.adopt()
    assert weight.item() == pytest.approx(9 / 11)


def test_the_warm_up_ends_at_the_decay() -> None:
    weight = nn.Parameter(torch.tensor([0.0]))
    ema = Ema([weight], [weight], decay=0.5)
    ema.steps = 1000
    moved(weight, 1.0)
    ema.update()
    ema.adopt()
    assert weight.item() == 0.5


def test_the_weights_come_back_even_after_an_error() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    ema = Ema([weight], [weight], decay=0.5, warm_up=False)
    moved(weight, 3.0)
    ema.update()
    with pytest.raises(ZeroDivisionError), ema.averaged():
        weight.data[0] = weight.item() / 0
    assert weight.item() == 3.0


def test_sixteen_bit_parameters_are_averaged_in_float32() -> None:
    parameter = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    master = torch.ones(1)
    ema = Ema([parameter], [master], decay=0.5, warm_up=False)
    for _ in range(8):  # each step is a quarter of what bfloat16 can show at 1
        master += 2**-9
        ema.update()
    # the average lags the last weight, 1 + 8/512, by (1 - 2^-8) / 512
    assert ema.state_dict()["shadow"][0].item() == pytest.approx(1 + (7 + 2**-8) / 512, abs=1e-7)
    ema.adopt()
    assert parameter.item() == 1 + 2 / 128  # 1 + 7/512 rounded to steps of 1/128


def test_a_saved_average_goes_on_as_if_it_had_not_stopped() -> None:
    weights = [nn.Parameter(torch.randn(3, generator=torch.Generator().manual_seed(0))) for _ in range(2)]
    straight, stopped = (Ema([w], [w], decay=0.9) for w in weights)
    for weight in weights:
        moved(weight, 1.0)
    straight.update()
    stopped.update()
    fresh = Ema([weights[1]], [weights[1]], decay=0.9)
    fresh.load_state_dict(stopped.state_dict())
    for weight in weights:
        moved(weight, 2.0)
    straight.update()
    fresh.update()
    straight.adopt()
    fresh.adopt()
    assert torch.equal(*weights)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1])
def test_a_decay_that_averages_nothing_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=rf"decay must be in \(0, 1\), got {decay}"):
        Ema([], [], decay=decay)
