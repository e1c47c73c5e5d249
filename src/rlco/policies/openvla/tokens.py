"""Actions as tokens: 256 ids at the end of the text vocabulary, written directly, never through text."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlco.policies.openvla.config import BINS


def to_bins(value: Float[Tensor, "*b"]) -> Int[Tensor, "*b"]:
    """Return the bin, 0 to 255, of normalised actions; what lies outside [-1, 1] is clipped.

    Bin b is ``id - first_action_id``: 255 stands for -1, 0 for exactly 1. OpenVLA digitises at 256 edges from -1 to 1.
    """
    edges = torch.linspace(-1, 1, BINS, dtype=torch.float64, device=value.device)
    digit = torch.bucketize(value.double().clamp(-1, 1), edges, right=True)
    return BINS - digit


def to_values(bin_: Int[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Return the centres of bins. There are 255 of them: bins 0 and 1 share one."""
    edges = torch.linspace(-1, 1, BINS, dtype=torch.float64, device=bin_.device)
    centres = ((edges[1:] + edges[:-1]) / 2).float()
    return centres[(BINS - 1 - bin_).clamp(0, BINS - 2)]
