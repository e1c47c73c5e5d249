"""Statistics by hand, by law and by coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlco.evals.statistics import paired_difference, sign_test, success_rate, wilson


def test_wilson_of_eight_in_ten_by_hand() -> None:
    # z^2 = 3.8415; centre = (0.8 + 0.19207) / 1.38415 = 0.71674
    # half = 1.96 / 1.38415 * sqrt(0.016 + 0.0096036) = 0.22657
    interval = wilson(8, 10)
    assert interval.value == 0.8
    assert interval.low == pytest.approx(0.71674 - 0.22657, abs=2e-5)
    assert interval.high == pytest.approx(0.71674 + 0.22657, abs=2e-5)


def test_wilson_stays_inside_zero_and_one_and_is_never_a_point() -> None:
    none, every = wilson(0, 20), wilson(20, 20)
    assert none.low == 0.0
    assert 0.1 < none.high < 0.2
    assert every.high == 1.0
    assert 0.8 < every.low < 0.9


def test_wilson_of_nothing_knows_nothing() -> None:
    interval = wilson(0, 0)
    assert math.isnan(interval.value)
    assert (interval.low, interval.high) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(3, 2), (-1, 2)])
def test_wilson_refuses_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="0 <= successes <= trials"):
        wilson(successes, trials)


def test_wilson_of_failures_mirrors_wilson_of_successes() -> None:
    a, b = wilson(7, 30), wilson(23, 30)
    assert a.low == pytest.approx(1 - b.high)
    assert a.high == pytest.approx(1 - b.low)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_wilson_covers_the_truth_about_95_times_in_100(rate: float) -> None:
    draws = np.random.default_rng(0).binomial(150, rate, size=2000)
    covered = np.mean([wilson(int(k), 150).low <= rate <= wilson(int(k), 150).high for k in draws])
    assert 0.93 <= covered <= 0.97


def test_paired_difference_by_hand() -> None:
    first = {"a": [True, True], "b": [True, False], "c": [False, False], "d": [True, True]}
    second = {"a": [False, False], "b": [False, False], "c": [False, False], "d": [True, True]}
    # d = 1, 0.5, 0, 0: mean 0.375; deviations 0.625, 0.125, -0.375, -0.375: sum of squares 0.6875;
    # sd = sqrt(0.6875 / 3) = 0.47871; standard error 0.23936
    result = paired_difference(first, second)
    assert result.difference.value == pytest.approx(0.375)
    assert result.difference.low == pytest.approx(0.375 - 1.959964 * 0.239357, abs=1e-5)
    assert result.difference.high == pytest.approx(0.375 + 1.959964 * 0.239357, abs=1e-5)
    assert (result.num_states, result.wins, result.losses) == (4, 2, 0)
    assert result.sign_test_p == pytest.approx(0.5)  # 2 * 1 / 2^2


def test_paired_difference_uses_only_states_that_both_finished() -> None:
    first = {"a": [True], "b": [True], "only first": [True], "lost": []}
    second = {"a": [False], "b": [True], "only second": [False], "lost": [True]}
    result = paired_difference(first, second)
    assert result.num_states == 2
    assert result.difference.value == pytest.approx(0.5)


def test_swapping_the_methods_mirrors_the_difference() -> None:
    rng = np.random.default_rng(1)
    first = {f"s{i}": [bool(x) for x in rng.random(2) < 0.7] for i in range(40)}
    second = {f"s{i}": [bool(x) for x in rng.random(2) < 0.5] for i in range(40)}
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert there.difference.value == pytest.approx(-back.difference.value)
    assert there.difference.low == pytest.approx(-back.difference.high)
    assert there.sign_test_p == back.sign_test_p
    assert (there.wins, there.losses) == (back.losses, back.wins)


def test_repeating_every_episode_does_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(2)
    first = {f"s{i}": [bool(rng.random() < 0.7)] for i in range(60)}
    second = {f"s{i}": [bool(rng.random() < 0.5)] for i in range(60)}
    once = paired_difference(first, second)
    many = paired_difference({k: v * 10 for k, v in first.items()}, {k: v * 10 for k, v in second.items()})
    assert many.difference.low == pytest.approx(once.difference.low)
    assert many.difference.high == pytest.approx(once.difference.high)


def test_one_shared_state_proves_nothing() -> None:
    result = paired_difference({"a": [True]}, {"a": [False]})
    assert (result.difference.low, result.difference.high) == (-1.0, 1.0)


def test_paired_interval_covers_the_truth_when_repeats_of_a_state_agree() -> None:
    # Each state has its own difficulty, so both repeats mostly agree: an interval over episodes would be too narrow.
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(400):
        difficulty = rng.beta(0.4, 0.4, size=150)
        first = rng.random((150, 2)) < np.clip(difficulty + 0.1, 0, 1)[:, None]
        second = rng.random((150, 2)) < difficulty[:, None]
        interval = paired_difference(
            {str(s): [bool(x) for x in first[s]] for s in range(150)},
            {str(s): [bool(x) for x in second[s]] for s in range(150)},
        ).difference
        covered.append(interval.low <= TRUE_DIFFERENCE <= interval.high)
    assert 0.92 <= np.mean(covered) <= 0.98


# E[min(d + 0.1, 1) - d] for d ~ Beta(0.4, 0.4), by simulation with 10^7 draws.
TRUE_DIFFERENCE = float(
    np.mean(np.minimum((d := np.random.default_rng(4).beta(0.4, 0.4, size=1_000_000)) + 0.1, 1.0) - d)
)


def test_paired_interval_agrees_with_a_bootstrap_over_states() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.random((200, 2)) < 0.7, rng.random((200, 2)) < 0.55
    ours = paired_difference(
        {str(s): [bool(x) for x in first[s]] for s in range(200)},
        {str(s): [bool(x) for x in second[s]] for s in range(200)},
    ).difference
    deltas = first.mean(1) - second.mean(1)
    means = deltas[rng.integers(200, size=(4000, 200))].mean(1)
    assert ours.low == pytest.approx(np.quantile(means, 0.025), abs=0.015)
    assert ours.high == pytest.approx(np.quantile(means, 0.975), abs=0.015)


def test_sign_test_by_hand() -> None:
    assert sign_test(0, 0) == 1.0
    assert sign_test(5, 0) == pytest.approx(2 / 32)
    assert sign_test(1, 5) == pytest.approx(2 * (1 + 6) / 64)
    assert sign_test(3, 3) == 1.0


@pytest.mark.parametrize("repeats", [1, 4])
def test_repeats_of_a_state_that_always_agree_say_nothing_new(repeats: int) -> None:
    alike = success_rate({f"{i}": [i < 30] * repeats for i in range(100)})
    once = wilson(30, 100)
    assert (alike.value, alike.low, alike.high) == pytest.approx((0.3, once.low, once.high))


def test_states_that_differ_by_chance_alone_count_every_episode() -> None:
    # as many states with 0, 1 and 2 successes as coins have
    coins = [[False, False]] * 25 + [[True, False]] * 50 + [[True, True]] * 25
    rate = success_rate({f"{i}": wins for i, wins in enumerate(coins)})
    assert rate == wilson(100, 200)


def test_what_parts_differ_by_is_no_chance() -> None:
    easy = {f"{i}": [i % 10 > 0] * 4 for i in range(100)}  # .9, and a state's repeats always agree
    hard = {f"{i}": [i % 10 == 0] * 4 for i in range(100)}
    apart = success_rate(easy, hard)
    # half width: that of two means of 100 states with standard deviation .3, of which the mean is taken
    assert (apart.high - apart.low) / 2 == pytest.approx(1.96 * 0.3 / np.sqrt(200), rel=0.05)
    as_one = success_rate({**{f"e{k}": v for k, v in easy.items()}, **{f"h{k}": v for k, v in hard.items()}})
    assert as_one.high - as_one.low > 1.5 * (apart.high - apart.low)


def test_where_everything_succeeds_a_state_counts_once() -> None:
    assert success_rate({"a": [True] * 4, "b": [True] * 4}) == wilson(2, 2)
    assert success_rate({"a": [False] * 4, "b": [False] * 4}) == wilson(0, 2)


def test_the_interval_of_repeated_states_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(500):
        ease = rng.beta(1.2, 0.8, size=150)  # mean .6; states differ widely
        wins = rng.uniform(size=(150, 4)) < ease[:, None]
        rate = success_rate({f"{i}": row.tolist() for i, row in enumerate(wins)})
        covered.append(rate.low <= 0.6 <= rate.high)
    assert 0.93 <= np.mean(covered) <= 0.98


def test_success_rate_counts_episodes() -> None:
    rate = success_rate({"a": [True, False], "b": [True, True], "lost": []})
    assert rate == wilson(3, 4)
