"""How a compiled scene looks. The defaults are the digital twin's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlco.core.scene import RGB, Shape

Vector = tuple[float, float, float]
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
