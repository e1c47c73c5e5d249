"""How much of what a policy is taught lies outside what it can say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from rlco.data.layout import ACTION_NAMES
from rlco.policies.contract import AnyPolicy


def clipped_shares(
    policy: AnyPolicy, actions: Sequence[Float[ndarray, "_ A"]], weights: Sequence[float]
) -> Float[ndarray, " A"]:
    """Return for each action dimension the share of numbers that ``policy`` is taught the nearest of instead.

    ``actions``: raw ones of each dataset, which is drawn with the probability ``weights`` says.
    """
    each = [policy.clipped(torch.as_tensor(action)).double().mean(0).numpy() for action in actions]
    return np.average(each, axis=0, weights=weights)


def clipped_line(shares: Float[ndarray, " A"]) -> str | None:
    """Return one line for a person, or None where nothing is clipped."""
    if not shares.any():
        return None
    places = ", ".join(f"{name} {share:.1%}" for name, share in zip(ACTION_NAMES, shares, strict=True) if share)
    return (
        f"actions: {shares.mean():.1%} of the numbers are outside the range that the policy's tokens cover, and are "
        f"learnt as its end: {places}"
    )
