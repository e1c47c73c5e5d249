"""Group-relative policy optimisation (arXiv 2402.03300): episodes from one start are each other's baseline."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def group_advantage(score: Float[Tensor, "S G"], is_valid: Bool[Tensor, "S G"]) -> Float[Tensor, "S G"]:
    """Return (r - mean) / (std + 1e-6) of each episode within its group; 0 for one that is not valid.

    S groups of G episodes from the same start. Mean and standard deviation (of the population) are over the valid ones.
    """
    count = is_valid.sum(1, keepdim=True).clamp(min=1)
    mean = (score * is_valid).sum(1, keepdim=True) / count
    centred = (score - mean) * is_valid
    std = (centred.square().sum(1, keepdim=True) / count).sqrt()
    return centred / (std + 1e-6)


def is_informative(score: Float[Tensor, "S G"], is_valid: Bool[Tensor, "S G"]) -> Bool[Tensor, " S"]:
    """Return which groups hold episodes of different scores: one that all win, or all lose, prefers none of them."""
    highest = torch.where(is_valid, score, -torch.inf).amax(1)
    lowest = torch.where(is_valid, score, torch.inf).amin(1)
    return highest > lowest
