"""How a compiled scene looks. The defaults are the digital twin's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.scene import RGB, Look, Shape

Vector = tuple[float, float, float]
_GREY = np.array([0.299, 0.587, 0.114])
TextureKind = Literal["plain", "wood", "cloth"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Clutter:
    """A thing that is seen and never touched."""

    shape: Shape
    position_m: Vector
    half_size_m: Vector
    rgb: RGB
    yaw_rad: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Appearance:
    """Everything that changes pixels and no motion. Colours are in [0, 1]."""

    table_rgb: RGB = (0.62, 0.62, 0.60)
    table_texture: TextureKind = "plain"
    texture_seed: int = 0
    texture_contrast: float = 0.0
    """Relative brightness change between the texture's darkest and brightest point."""
    floor_rgb: RGB = (0.30, 0.31, 0.33)
    wall_rgb: RGB = (0.78, 0.80, 0.82)
    light_position_m: Vector = (0.9, 0.6, 1.8)
    light_direction: Vector = (-0.25, -0.3, -1.0)
    light_diffuse: RGB = (0.45, 0.45, 0.45)
    ambient: RGB = (0.55, 0.55, 0.55)
    shadows: bool = False
    shadow_size: int = 256
    robot_tint: RGB = (1.0, 1.0, 1.0)
    """Multiplies the robot's own colours."""
    object_brightness: float = 1.0
    object_saturation: float = 1.0
    camera_offset_m: Vector = (0.0, 0.0, 0.0)
    """Moves the camera, in its own axes: right, up, back."""
    camera_offset_rad: Vector = (0.0, 0.0, 0.0)
    """Turns the camera about its own axes: pitch, yaw, roll."""
    colour_gain: RGB = (1.0, 1.0, 1.0)
    colour_bias: RGB = (0.0, 0.0, 0.0)
    pixel_noise: float = 0.0
    """Standard deviation of independent pixel noise, in units of full scale."""
    clutter: tuple[Clutter, ...] = ()

    def seen_rgb(self, rgb: RGB) -> Float[ndarray, " 3"]:
        """Return an object's colour as this world paints it."""
        colour = np.array(rgb)
        grey = _GREY @ colour
        return np.clip(self.object_brightness * (grey + self.object_saturation * (colour - grey)), 0, 1)

    def under(self, look: Look) -> Appearance:
        """Return this world as it looks in an episode of its own lamp and camera."""

        def lit(rgb: RGB) -> RGB:
            red, green, blue = (look.brightness * tint * c for c, tint in zip(rgb, look.tint, strict=True))
            return red, green, blue

        return replace(
            self,
            light_diffuse=lit(self.light_diffuse),
            ambient=lit(self.ambient),
            camera_offset_m=_sum(self.camera_offset_m, look.camera_offset_m),
            camera_offset_rad=_sum(self.camera_offset_rad, look.camera_offset_rad),
        )


def _sum(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]
