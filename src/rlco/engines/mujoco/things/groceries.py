"""How plain shapes, fruit, vegetables and household things are drawn: one function for each, in metres."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rlco.core.scene import RGB, Part
from rlco.core.shapes import box, egg, rod
from rlco.engines.mujoco.things.pieces import COLOURS, LEAF, LYING, STALK, Parts, Rng, any_rgb, drum


def cube(rng: Rng) -> Parts:
    half = rng.uniform(0.016, 0.036)
    return (box(half, half, half),)


def plain_box(rng: Rng) -> Parts:
    half = rng.uniform(0.016, 0.036)
    return (box(half, half * rng.uniform(0.6, 1.6), half * rng.uniform(0.5, 1.5)),)


def ball(rng: Rng) -> Parts:
    radius = rng.uniform(0.016, 0.036)
    return (Part(shape="sphere", half_size_m=(radius, radius, radius)),)


def can(rng: Rng) -> Parts:
    radius = 0.8 * rng.uniform(0.016, 0.036)
    half = radius * rng.uniform(1.2, 1.9)
    lid = drum(0.88 * radius, 0.002, at=half, rgb=(0.75, 0.75, 0.78))
    return (drum(radius, half), lid) if rng.random() < 0.5 else (drum(radius, half),)


def oval(*aspect: tuple[float, float]) -> Callable[[Rng], Parts]:
    """Return how to draw an ellipsoid whose y and z are these shares of its x, from broad ranges."""

    def draw(rng: Rng) -> Parts:
        long = rng.uniform(0.022, 0.038)
        y, z = (long * rng.uniform(*share) for share in aspect)
        return (egg(long, y, z),)

    return draw


def capsule(rng: Rng) -> Parts:
    radius = rng.uniform(0.016, 0.036)
    return (Part(shape="capsule", half_size_m=(0.7 * radius, 0.7 * radius, 1.5 * radius)),)


def fruit(*, squash: tuple[float, float], stalk: RGB | None) -> Callable[[Rng], Parts]:
    """Return how to draw a round fruit: as high as these shares of its width, with a stalk or without."""

    def draw(rng: Rng) -> Parts:
        radius = rng.uniform(0.021, 0.037)
        height = radius * rng.uniform(*squash)
        body = egg(radius, radius, height)
        return (body,) if stalk is None else (body, drum(0.003, 0.007, at=height, rgb=stalk))

    return draw


def lemon(rng: Rng) -> Parts:
    long, thick = rng.uniform(0.026, 0.036), rng.uniform(0.018, 0.026)
    return egg(long, thick, thick), egg(1.25 * long, 0.35 * thick, 0.35 * thick)


def tomato(rng: Rng) -> Parts:
    radius = rng.uniform(0.022, 0.036)
    height = radius * rng.uniform(0.65, 0.85)
    leaf = 0.5 * radius
    star = tuple(rod(0.003, leaf, at=(0.0, 0.0, height), yaw=yaw, rgb=LEAF) for yaw in (0.0, np.pi / 2))
    return egg(radius, radius, height), *star


def banana(rng: Rng) -> Parts:
    radius, bend = rng.uniform(0.012, 0.017), rng.uniform(0.07, 0.09)
    ends = rng.uniform(0.35, 0.48)
    half = 0.19 * bend * ends / 0.5 + radius
    return tuple(
        rod(radius, half, at=(bend * float(np.sin(a)), bend * (1 - float(np.cos(a))), 0.0), yaw=float(a))
        for a in np.linspace(-ends, ends, 4)
    )


def pear(rng: Rng) -> Parts:
    radius = rng.uniform(0.023, 0.033)
    neck = 0.6 * radius
    return (
        egg(1.1 * radius, radius, radius),
        egg(radius, neck, neck, at=(radius, 0.0, neck - radius)),
        rod(0.003, 0.01, at=(2.05 * radius, 0.0, neck - radius), rgb=STALK),
    )


def carrot(rng: Rng) -> Parts:
    thick, long = rng.uniform(0.012, 0.019), rng.uniform(0.032, 0.046)
    tip = 0.65 * thick
    return (
        rod(thick, long),
        rod(tip, 0.75 * long, at=(long, 0.0, tip - thick)),
        box(0.018, 0.6 * thick, 0.003, at=(-long - 0.012, 0.0, 0.0), rgb=LEAF),
    )


def corn(rng: Rng) -> Parts:
    thick, long = rng.uniform(0.016, 0.023), rng.uniform(0.045, 0.06)
    return rod(thick, long), egg(0.55 * long, 1.08 * thick, 1.02 * thick, at=(-0.7 * long, 0.0, 0.0), rgb=LEAF)


def potato(rng: Rng) -> Parts:
    long = rng.uniform(0.03, 0.042)
    thick = long * rng.uniform(0.6, 0.8)
    lump = egg(0.6 * long, 0.92 * thick, 0.9 * thick, at=(0.5 * long, rng.uniform(-0.004, 0.004), -0.08 * thick))
    return egg(long, thick, 0.9 * thick), lump


def pepper(rng: Rng) -> Parts:
    wide, high = rng.uniform(0.02, 0.03), rng.uniform(0.024, 0.034)
    lobes = tuple(egg(0.75 * wide, wide, high, at=(x * wide, 0.0, 0.0)) for x in (-0.5, 0.5))
    return *lobes, drum(0.004, 0.007, at=high, rgb=LEAF)


def radish(rng: Rng) -> Parts:
    radius = rng.uniform(0.016, 0.024)
    return (
        egg(radius, radius, radius),
        rod(0.25 * radius, 0.018, at=(1.3 * radius, 0.0, -0.5 * radius), rgb=(0.93, 0.88, 0.88)),
        box(0.016, 0.008, 0.003, at=(-1.4 * radius, 0.0, -0.5 * radius), rgb=LEAF),
    )


def strawberry(rng: Rng) -> Parts:
    radius = rng.uniform(0.018, 0.026)
    return (
        egg(radius, radius, radius),
        egg(radius, 0.6 * radius, 0.6 * radius, at=(0.8 * radius, 0.0, -0.4 * radius)),
        egg(0.25 * radius, 0.8 * radius, 0.8 * radius, at=(-0.95 * radius, 0.0, 0.0), rgb=LEAF),
    )


def cucumber(rng: Rng) -> Parts:
    return (rod(rng.uniform(0.013, 0.02), rng.uniform(0.06, 0.085)),)


def eggplant(rng: Rng) -> Parts:
    thick, long = rng.uniform(0.02, 0.028), rng.uniform(0.04, 0.055)
    return (
        egg(long, thick, thick),
        egg(0.6 * long, 0.7 * thick, 0.7 * thick, at=(-0.6 * long, 0.0, -0.2 * thick)),
        egg(0.012, 0.6 * thick, 0.6 * thick, at=(-1.1 * long, 0.0, -0.2 * thick), rgb=LEAF),
    )


def mushroom(rng: Rng) -> Parts:
    cap, stem = rng.uniform(0.022, 0.034), rng.uniform(0.012, 0.02)
    return egg(cap, cap, 0.55 * cap, at=(0.0, 0.0, stem)), drum(0.45 * cap, stem, rgb=(0.92, 0.88, 0.8))


def soap(rng: Rng) -> Parts:
    x, y, z = rng.uniform(0.028, 0.04), rng.uniform(0.017, 0.026), rng.uniform(0.009, 0.014)
    return box(x, y, z), egg(0.9 * x, 0.88 * y, 1.3 * z)


def sponge(rng: Rng) -> Parts:
    x, y, z = rng.uniform(0.034, 0.048), rng.uniform(0.022, 0.03), rng.uniform(0.008, 0.012)
    rough = COLOURS["green"] if rng.random() < 0.7 else any_rgb(rng)
    return box(x, y, z), box(x, y, 0.4 * z, at=(0.0, 0.0, 1.4 * z), rgb=rough)


def carton(rng: Rng) -> Parts:
    x, y, z = rng.uniform(0.018, 0.028), rng.uniform(0.014, 0.022), rng.uniform(0.034, 0.05)
    return box(x, y, z), box(0.3 * x, 1.02 * y, 0.5 * z, rgb=COLOURS["white"])


def jar(rng: Rng) -> Parts:
    radius, half = rng.uniform(0.02, 0.032), rng.uniform(0.02, 0.034)
    lid = rng.uniform(0.004, 0.008)
    return drum(radius, half), drum(0.9 * radius, lid, at=half + lid, rgb=any_rgb(rng))


def roll(rng: Rng) -> Parts:
    radius, half = rng.uniform(0.019, 0.03), rng.uniform(0.026, 0.045)
    core = 0.4 * radius
    return (
        Part(shape="cylinder", half_size_m=(radius, radius, half), rpy_rad=LYING),
        Part(shape="cylinder", half_size_m=(core, core, half + 0.001), rpy_rad=LYING, rgb=STALK),
    )


def bottle(rng: Rng) -> Parts:
    radius, half = rng.uniform(0.018, 0.028), rng.uniform(0.034, 0.05)
    neck = 0.4 * radius
    return (
        drum(radius, half),
        egg(radius, radius, 0.7 * radius, at=(0.0, 0.0, half)),
        drum(neck, 0.014, at=half + 0.7 * radius, rgb=any_rgb(rng)),
    )
