"""The one seed scheme: every generator is named by the run's seed and a path of words and numbers.

Two different paths never share a stream, and adding a consumer never shifts another one's numbers.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(seed: int, *path: str | int) -> int:
    """Return a 63-bit seed for ``path`` under ``seed``.

    >>> seed_of(0, "env", 3) == seed_of(0, "env", 3), seed_of(0, "env", 3) == seed_of(0, "env", 4)
    (True, False)
    """
    if seed < 0:
        raise ValueError(f"A seed must be 0 or more, got {seed}.")
    text = "/".join([str(seed), *map(str, path)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def numpy_generator(seed: int, *path: str | int) -> np.random.Generator:
    """Return the NumPy generator of ``path`` under ``seed``."""
    return np.random.default_rng(seed_of(seed, *path))
