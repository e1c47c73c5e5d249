"""What things are composed of. Long sides lie along x, the fingers close along y."""

from __future__ import annotations

import numpy as np

from rlco.core.scene import RGB, Part, Triple

COLOURS: dict[str, RGB] = {
    "red": (0.85, 0.10, 0.10),
    "green": (0.15, 0.65, 0.20),
    "blue": (0.12, 0.25, 0.85),
    "yellow": (0.95, 0.85, 0.10),
    "orange": (0.98, 0.50, 0.05),
    "purple": (0.45, 0.12, 0.70),
    "pink": (0.98, 0.45, 0.70),
    "brown": (0.42, 0.25, 0.10),
    "black": (0.06, 0.06, 0.06),
    "white": (0.95, 0.95, 0.95),
    "gray": (0.50, 0.50, 0.50),
    "cyan": (0.10, 0.80, 0.85),
    "magenta": (0.85, 0.10, 0.65),
    "lime": (0.60, 0.90, 0.15),
    "navy": (0.08, 0.10, 0.35),
    "teal": (0.05, 0.50, 0.50),
}
LEAF: RGB = (0.18, 0.48, 0.15)
STALK: RGB = (0.38, 0.25, 0.13)
LYING: Triple = (0.0, np.pi / 2, 0.0)
"""Turns a round part's axis from the vertical to x."""

Rng = np.random.Generator
Parts = tuple[Part, ...]


def drum(radius: float, half_height: float, *, at: float = 0.0, rgb: RGB | None = None) -> Part:
    """Return an upright cylinder at a height."""
    return Part(shape="cylinder", half_size_m=(radius, radius, half_height), position_m=(0.0, 0.0, at), rgb=rgb)


def any_rgb(rng: Rng) -> RGB:
    return list(COLOURS.values())[int(rng.integers(len(COLOURS)))]
