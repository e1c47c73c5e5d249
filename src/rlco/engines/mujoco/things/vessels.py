"""How containers and a cabinet with a drawer are drawn, in metres. They stand on z = 0."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rlco.core.scene import Part
from rlco.core.shapes import box, egg, rod
from rlco.engines.mujoco.things.pieces import Parts, Rng, any_rgb, drum


def _ring(count: int, *, foot: float, rim: float, height: float, thick: float) -> Parts:
    """Return slabs that lean outwards from a round foot to a wider rim, the foot at z = 0."""
    lean, middle = float(np.arctan2(rim - foot, height)), (foot + rim) / 2
    half = (thick, rim * float(np.tan(np.pi / count)), height / np.cos(lean) / 2)
    return tuple(
        Part(
            half_size_m=half,
            position_m=(middle * float(np.cos(a)), middle * float(np.sin(a)), height / 2),
            rpy_rad=(0.0, lean, float(a)),
        )
        for a in np.linspace(0, 2 * np.pi, count, endpoint=False)
    )


def bowl(rng: Rng) -> Parts:
    rim, height = rng.uniform(0.05, 0.09), rng.uniform(0.03, 0.06)
    foot = rim * rng.uniform(0.45, 0.75)
    thick = rng.uniform(0.002, 0.005)
    wall = _ring(int(rng.integers(9, 13)), foot=foot, rim=rim, height=height, thick=thick)
    return drum(foot, 0.004, at=0.004), *wall


def plate(rng: Rng) -> Parts:
    rim = rng.uniform(0.055, 0.095)
    wall = _ring(10, foot=0.7 * rim, rim=rim, height=rng.uniform(0.008, 0.018), thick=0.002)
    return drum(0.72 * rim, 0.003, at=0.003), *wall


def pan(rng: Rng) -> Parts:
    rim, height = rng.uniform(0.05, 0.08), rng.uniform(0.02, 0.035)
    wall = _ring(10, foot=0.85 * rim, rim=rim, height=height, thick=0.003)
    grip = rod(0.006, rng.uniform(0.035, 0.055), at=(rim + 0.035, 0.0, 0.8 * height), rgb=any_rgb(rng))
    return drum(0.87 * rim, 0.003, at=0.003), *wall, grip


def walled(*, height: tuple[float, float]) -> Callable[[Rng], Parts]:
    """Return how to draw an open box whose walls are this high."""

    def draw(rng: Rng) -> Parts:
        x, y, z = rng.uniform(0.045, 0.08), rng.uniform(0.04, 0.075), rng.uniform(*height) / 2
        sides = tuple(box(0.003, y, z, at=(s * x, 0.0, z)) for s in (-1.0, 1.0))
        ends = tuple(box(x, 0.003, z, at=(0.0, s * y, z)) for s in (-1.0, 1.0))
        return box(x, y, 0.003, at=(0.0, 0.0, 0.003)), *sides, *ends

    return draw


def cabinet(rng: Rng) -> Parts:
    """Return a cabinet whose front looks to -x, its drawer shut or open by up to 12 cm; the last part is the handle.

    It is 6 to 26 cm wide, half of them below 13 cm.
    """
    y = float(np.exp(rng.uniform(np.log(0.03), np.log(0.13))))
    x, z = rng.uniform(0.06, 0.095), rng.uniform(0.025, 0.05)
    opening = float(rng.uniform(0.0, 0.12) * (rng.random() < 0.5))
    front = -x - opening - 0.004
    panel_rgb = any_rgb(rng) if rng.random() < 0.5 else None
    panel = box(0.004, 0.97 * y, 0.9 * z, at=(front, 0.0, z), rgb=panel_rgb)
    inside = -x - opening / 2
    tray = (
        box(opening / 2, 0.9 * y, 0.002, at=(inside, 0.0, 0.4 * z)),
        *(box(opening / 2, 0.002, 0.5 * z, at=(inside, s * 0.9 * y, 0.8 * z)) for s in (-1.0, 1.0)),
    )
    body = box(x, y, z, at=(0.0, 0.0, z))
    return (
        body,
        panel,
        *(tray if opening > 0.005 else ()),
        _handle(rng, front=front - 0.004, height=1.3 * z, most=0.9 * y),
    )


def _handle(rng: Rng, *, front: float, height: float, most: float) -> Part:
    """Return a bar, upright or across (at most so wide, by half), or a knob."""
    out = rng.uniform(0.01, 0.02)
    wide, high = [(0.007, 0.016), (min(rng.uniform(0.02, 0.05), most), 0.006), (0.012, 0.012)][int(rng.integers(3))]
    at = (front - out, 0.0, height)
    return box(out, wide, high, at=at) if wide != high else egg(out, wide, high, at=at)
