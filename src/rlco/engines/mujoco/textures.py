"""Procedural table tops. Brightness patterns only: the colour comes from the appearance."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from rlco.core.rng import numpy_generator
from rlco.engines.mujoco.appearance import Appearance

SIZE = 256
"""Texels along an edge."""


def table_texture(appearance: Appearance) -> UInt8[ndarray, "size size 3"]:
    """Return the table's picture: its colour times a pattern of mean 1."""
    rng = numpy_generator(appearance.texture_seed, "texture", appearance.table_texture)
    pattern = {"wood": _wood, "cloth": _cloth}[appearance.table_texture](rng)
    shade = 1.0 + appearance.texture_contrast * (pattern - 0.5)
    rgb = shade[..., None] * np.array(appearance.table_rgb)
    return np.clip(255.0 * rgb, 0, 255).astype(np.uint8)


def _wood(rng: np.random.Generator) -> Float[ndarray, "size size"]:
    """Planks with wavy grain, in [0, 1]."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    wave = sum(
        rng.uniform(0.01, 0.04) * np.sin(2 * np.pi * (k * x + rng.uniform() + 2 * y * rng.integers(0, 2)))
        for k in range(1, 4)
    )
    grain = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(14, 22) * (y + wave))
    planks = np.repeat(rng.uniform(0, 1, 4), SIZE // 4)[:, None]
    return np.clip(0.55 * grain + 0.35 * planks + 0.1 * rng.uniform(size=(SIZE, SIZE)), 0, 1)


def _cloth(rng: np.random.Generator) -> Float[ndarray, "size size"]:
    """A woven check with slow stains, in [0, 1]."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    threads = rng.integers(8, 20)
    weave = 0.5 + 0.25 * (np.sin(2 * np.pi * threads * x) + np.sin(2 * np.pi * threads * y))
    stain = 0.5 + 0.5 * np.sin(2 * np.pi * (x + rng.uniform())) * np.sin(2 * np.pi * (y + rng.uniform()))
    return np.clip(0.5 * weave + 0.3 * stain + 0.2 * rng.uniform(size=(SIZE, SIZE)), 0, 1)
