"""Statistics of success rates.

Letters: n episodes, k successes, S states.

Two methods are compared on the same named states. A state is one observation of the difference, however often each
method was evaluated on it: repeats on a state are not independent, states are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Z_95 = 1.959963984540054
"""97.5 % quantile of the normal distribution: two-sided 95 %."""

Successes = Mapping[str, Sequence[bool]]
"""State name -> success of each finished episode on it. Lost episodes are left out before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedDifference:
    """How much more often one method succeeds than another on the same states."""

    difference: Interval
    num_states: int
    """States on which both methods finished at least one episode."""
    wins: int
    """States on which the first method is better."""
    losses: int
    sign_test_p: float
    """Exact two-sided sign test over states; with one episode a state it is McNemar's exact test."""


def wilson(successes: int, trials: int) -> Interval:
    """Return the Wilson score interval of a rate, 95 %.

    With p = k / n and z = 1.96: centre (p + z^2 / 2n) / (1 + z^2 / n),
    half width z / (1 + z^2 / n) * sqrt(p (1 - p) / n + z^2 / 4n^2).
    No trials: the value is NaN and the interval is everything.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"wilson() needs 0 <= successes <= trials, got {successes} of {trials}.")
    return _wilson(successes / trials, float(trials)) if trials else Interval(value=math.nan, low=0.0, high=1.0)


def _wilson(rate: float, trials: float) -> Interval:
    z2 = Z_95**2
    shrink = 1.0 / (1.0 + z2 / trials)
    centre = shrink * (rate + z2 / (2 * trials))
    half = shrink * Z_95 * math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2))
    return Interval(value=rate, low=max(0.0, centre - half), high=min(1.0, centre + half))


def success_rate(*parts: Successes) -> Interval:
    """Return the share of successful episodes with its Wilson interval for as many episodes as they are worth.

    Repeats of a state are alike: n episodes are worth n / D independent ones (Kish's design effect), D the variance of
    the share with states as clusters, sum_s (k_s - p n_s)^2 / n^2, over p (1 - p) / n, and at least 1. Several parts
    (tasks, draws) are pooled: p in the sum is then a state's own part's, for what parts differ by is no chance.
    Where all succeed or all fail, or of a single state, D cannot be told: a state then counts once.
    """
    counts = [[(sum(map(bool, wins)), len(wins)) for wins in part.values() if len(wins)] for part in parts]
    states = [state for part in counts for state in part]
    trials = sum(n for _, n in states)
    if not trials:
        return wilson(0, 0)
    rate = sum(k for k, _ in states) / trials
    if rate in (0.0, 1.0) or len(states) < 2:
        return _wilson(rate, float(len(states)))
    between = sum(_spread(part) for part in counts) / trials**2
    effect = max(1.0, between / (rate * (1 - rate) / trials))
    return _wilson(rate, trials / effect)


def _spread(states: Sequence[tuple[int, int]]) -> float:
    """Return sum_s (k_s - p n_s)^2 of states with k_s of n_s successes, p their common share."""
    trials = sum(n for _, n in states)
    rate = sum(k for k, _ in states) / trials if trials else 0.0
    return sum((k - rate * n) ** 2 for k, n in states)


def paired_difference(first: Successes, second: Successes) -> PairedDifference:
    """Compare two methods on the states they share.

    d_s = mean success of ``first`` on state s - mean success of ``second`` on s. The estimate is the mean of d_s over
    the S shared states, its interval mean +- 1.96 * sd(d_s) / sqrt(S): the variance between states, so that repeats of
    one state do not count as new evidence. Fewer than two shared states: the interval is everything.
    """
    deltas = state_differences(first, second)
    wins, losses = int((deltas > 0).sum()), int((deltas < 0).sum())
    return PairedDifference(
        difference=_mean_interval(deltas),
        num_states=len(deltas),
        wins=wins,
        losses=losses,
        sign_test_p=sign_test(wins, losses),
    )


def state_differences(first: Successes, second: Successes) -> Float[ndarray, " S"]:
    """Return d_s = mean success of ``first`` on state s - mean success of ``second``, for the S states they share."""
    shared = sorted(s for s in first.keys() & second.keys() if len(first[s]) and len(second[s]))
    return np.array([np.mean(first[s]) - np.mean(second[s]) for s in shared])


def sign_test(wins: int, losses: int) -> float:
    """Return the exact two-sided p that wins and losses are equally likely; ties do not count.

    p = min(1, 2 * sum_{i <= min(w, l)} C(w + l, i) / 2^(w + l)).
    """
    trials = wins + losses
    tail = sum(math.comb(trials, i) for i in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**trials)


def _mean_interval(values: np.ndarray) -> Interval:
    if len(values) < 2:
        return Interval(value=float(values.mean()) if len(values) else math.nan, low=-1.0, high=1.0)
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    return Interval(value=mean, low=mean - Z_95 * error, high=mean + Z_95 * error)
