import math

import pytest

from rlco.train.schedule import learning_rate, require_schedule


def test_a_constant_rate_only_warms_up() -> None:
    rates = [learning_rate(step, peak=2.0, schedule="constant", progress=step / 8, warmup_steps=4) for step in range(8)]
    assert rates == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0]


def test_a_cosine_falls_from_the_peak_to_its_floor() -> None:
    rates = [learning_rate(9, peak=2.0, schedule="cosine", progress=share, floor=0.2) for share in (0.0, 0.5, 1.0)]
    assert rates == pytest.approx([2.0, 1.2, 0.4])


def test_the_rates_of_supervised_training_have_the_bits_that_they_always_had() -> None:
    steps, warmup = 250, 20
    for step in range(steps):
        warm, progress = min(1.0, (step + 1) / warmup), step / steps
        before = 5e-4 * warm * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))
        assert learning_rate(step, peak=5e-4, schedule="cosine", progress=progress, warmup_steps=warmup) == before


@pytest.mark.parametrize(("schedule", "floor", "named"), [("line", 0.1, "lr_schedule"), ("cosine", 1.5, "lr_floor")])
def test_an_unknown_schedule_or_floor_is_refused(schedule: str, floor: float, named: str) -> None:
    with pytest.raises(ValueError, match=rf"SFTConfig.{named} must be .* got"):
        require_schedule("SFTConfig", schedule, floor)
