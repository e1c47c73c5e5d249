"""The stand-in for the real world: another look and other dynamics, drawn once by ``reality`` and never told.

Imported inside worker processes only. Training code has no path to it: what it would need to know is how the real
world differs from the twin, and that nobody tells it on a robot either.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.rng import numpy_generator
from rlco.core.scene import RGB, Shape
from rlco.engines.mujoco.appearance import Appearance, Clutter, Vector
from rlco.engines.mujoco.dynamics import MAX_LATENCY_S, Dynamics

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class StandInRanges:
    """All that the stand-in is drawn from, in this one place. Lengths in metres, angles in radians.

    A strength of 0 is the twin, 1 is the ranges as written: each drawn number is mixed with the twin's.
    """

    appearance_strength: float = 1.0
    dynamics_strength: float = 1.0

    table_hue: Range = (0.04, 0.14)
    table_saturation: Range = (0.20, 0.50)
    table_value: Range = (0.40, 0.72)
    texture_contrast: Range = (0.15, 0.35)
    surroundings_value: Range = (0.25, 0.75)
    light_offset_m: float = 0.7
    light_diffuse: Range = (0.30, 0.65)
    ambient: Range = (0.35, 0.55)
    robot_value: Range = (0.80, 1.0)
    object_brightness: Range = (0.75, 1.05)
    object_saturation: Range = (0.70, 1.0)
    camera_offset_m: float = 0.015
    """Largest displacement along each of the camera's axes."""
    camera_offset_rad: float = float(np.deg2rad(1.5))
    colour_gain: Range = (0.88, 1.10)
    colour_bias: Range = (-0.03, 0.03)
    pixel_noise: Range = (0.010, 0.025)
    clutter_count: tuple[int, int] = (3, 5)

    friction_scale: Range = (1.2, 1.8)
    mass_scale: Range = (1.2, 2.0)
    stiffness_scale: Range = (0.30, 0.50)
    damping_scale: Range = (0.6, 1.0)
    latency_s: Range = (0.05, 0.10)
    gripper_speed_scale: Range = (0.5, 0.9)
    drawer_damping_scale: Range = (1.5, 3.0)
    drawer_friction_scale: Range = (1.2, 2.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class StandIn:
    """One drawn world."""

    appearance: Appearance = field(default_factory=Appearance)
    dynamics: Dynamics = field(default_factory=Dynamics)


RANGES = StandInRanges()

CLUTTER_PLACES: tuple[tuple[Range, Range], ...] = (
    ((0.25, 0.60), (0.36, 0.50)),
    ((0.25, 0.60), (-0.52, -0.38)),
    ((0.05, 0.20), (0.25, 0.45)),
    ((0.05, 0.20), (-0.45, -0.25)),
    ((0.80, 0.92), (-0.30, -0.10)),
)
"""Rectangles (x, y) around the working area where clutter may stand: never between the camera and the cubes."""


def draw(reality: int, *, ranges: StandInRanges = RANGES) -> StandIn:
    """Return the world named by ``reality``."""
    return StandIn(
        appearance=_appearance(numpy_generator(reality, "standin", "appearance"), ranges, texture_seed=reality),
        dynamics=_dynamics(numpy_generator(reality, "standin", "dynamics"), ranges),
    )


def _dynamics(rng: np.random.Generator, ranges: StandInRanges) -> Dynamics:
    def scale(limits: Range) -> float:
        return 1.0 + ranges.dynamics_strength * (float(rng.uniform(*limits)) - 1.0)

    return Dynamics(
        friction_scale=scale(ranges.friction_scale),
        mass_scale=scale(ranges.mass_scale),
        stiffness_scale=scale(ranges.stiffness_scale),
        damping_scale=scale(ranges.damping_scale),
        gripper_speed_scale=scale(ranges.gripper_speed_scale),
        latency_s=min(ranges.dynamics_strength * float(rng.uniform(*ranges.latency_s)), MAX_LATENCY_S),
        drawer_damping_scale=scale(ranges.drawer_damping_scale),
        drawer_friction_scale=scale(ranges.drawer_friction_scale),
    )


def _appearance(rng: np.random.Generator, ranges: StandInRanges, *, texture_seed: int) -> Appearance:
    twin, mix = Appearance(), _Mixer(ranges.appearance_strength)
    table = colorsys.hsv_to_rgb(
        rng.uniform(*ranges.table_hue), rng.uniform(*ranges.table_saturation), rng.uniform(*ranges.table_value)
    )
    texture = "wood" if rng.uniform() < 0.5 else "cloth"
    return Appearance(
        table_rgb=mix(twin.table_rgb, table),
        table_texture=texture if ranges.appearance_strength > 0 else "plain",
        texture_seed=texture_seed,
        texture_contrast=ranges.appearance_strength * float(rng.uniform(*ranges.texture_contrast)),
        floor_rgb=mix(twin.floor_rgb, rng.uniform(*ranges.surroundings_value, 3)),
        wall_rgb=mix(twin.wall_rgb, rng.uniform(*ranges.surroundings_value, 3)),
        light_position_m=mix(twin.light_position_m, _around(rng, twin.light_position_m, ranges.light_offset_m)),
        light_direction=mix(twin.light_direction, _around(rng, twin.light_direction, ranges.light_offset_m / 2)),
        light_diffuse=mix(twin.light_diffuse, _tinted(rng, ranges.light_diffuse)),
        ambient=mix(twin.ambient, _tinted(rng, ranges.ambient)),
        shadows=ranges.appearance_strength > 0,
        robot_tint=mix(twin.robot_tint, _tinted(rng, ranges.robot_value)),
        object_brightness=mix.number(twin.object_brightness, rng.uniform(*ranges.object_brightness)),
        object_saturation=mix.number(twin.object_saturation, rng.uniform(*ranges.object_saturation)),
        camera_offset_m=mix(twin.camera_offset_m, _around(rng, (0.0, 0.0, 0.0), ranges.camera_offset_m)),
        camera_offset_rad=mix(twin.camera_offset_rad, _around(rng, (0.0, 0.0, 0.0), ranges.camera_offset_rad)),
        colour_gain=mix(twin.colour_gain, rng.uniform(*ranges.colour_gain, 3)),
        colour_bias=mix(twin.colour_bias, rng.uniform(*ranges.colour_bias, 3)),
        pixel_noise=ranges.appearance_strength * float(rng.uniform(*ranges.pixel_noise)),
        clutter=_clutter(rng, ranges) if ranges.appearance_strength > 0 else (),
    )


@dataclass(frozen=True, slots=True)
class _Mixer:
    """Goes from the twin's value to the drawn one."""

    strength: float

    def __call__(self, twin: Vector, drawn: Float[ndarray, " 3"] | Vector) -> Vector:
        red, green, blue = (self.number(a, b) for a, b in zip(twin, drawn, strict=True))
        return red, green, blue

    def number(self, twin: float, drawn: float) -> float:
        return float(twin + self.strength * (drawn - twin))


def _around(rng: np.random.Generator, centre: Vector, half: float) -> Float[ndarray, " 3"]:
    return np.array(centre) + rng.uniform(-half, half, 3)


def _tinted(rng: np.random.Generator, limits: Range) -> Float[ndarray, " 3"]:
    """Return a grey with a slight hue."""
    return np.clip(rng.uniform(*limits) * rng.uniform(0.92, 1.08, 3), 0, 1)


def _clutter(rng: np.random.Generator, ranges: StandInRanges) -> tuple[Clutter, ...]:
    low, high = ranges.clutter_count
    places = rng.permutation(len(CLUTTER_PLACES))[: int(rng.integers(low, high + 1))]
    return tuple(_thing(rng, *CLUTTER_PLACES[int(place)]) for place in places)


def _thing(rng: np.random.Generator, x: Range, y: Range) -> Clutter:
    shapes: tuple[Shape, ...] = ("box", "cylinder", "sphere")
    shape = shapes[int(rng.integers(len(shapes)))]
    radius, height = float(rng.uniform(0.02, 0.04)), float(rng.uniform(0.02, 0.06))
    height = radius if shape == "sphere" else height
    rgb: RGB = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.1, 0.7), rng.uniform(0.3, 0.9))
    return Clutter(
        shape=shape,
        position_m=(float(rng.uniform(*x)), float(rng.uniform(*y)), height),
        half_size_m=(radius, float(rng.uniform(0.5, 1.0)) * radius, height),
        rgb=rgb,
        yaw_rad=float(rng.uniform(0, np.pi)),
    )
