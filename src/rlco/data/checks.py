"""Checks that reading and writing share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Num
from numpy import ndarray


def require_finite(values: Num[ndarray, "T D"], *, name: str, episode: int) -> None:
    """Raise ``ValueError`` naming the episode and frame of the first NaN or infinity."""
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        frame = int(bad.argmax())
        raise ValueError(f"Episode {episode}, frame {frame}: {name} is not finite ({values[frame].tolist()}).")


@contextmanager
def told_as_broken(folder: Path) -> Iterator[None]:
    """Turn what a value of an unexpected kind raises while ``folder`` is read into a ``ValueError`` in one line."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise ValueError(f"'{folder}' is broken ({what}). rlco data validate says where.") from error
