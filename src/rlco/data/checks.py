"""Checks that reading and writing share."""

from __future__ import annotations

import numpy as np
from jaxtyping import Num
from numpy import ndarray


def require_finite(values: Num[ndarray, "T D"], *, name: str, episode: int) -> None:
    """Raise ``ValueError`` naming the episode and frame of the first NaN or infinity."""
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        frame = int(bad.argmax())
        raise ValueError(f"Episode {episode}, frame {frame}: {name} is not finite ({values[frame].tolist()}).")
