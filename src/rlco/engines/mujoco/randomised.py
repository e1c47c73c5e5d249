"""Widely randomised tabletop pictures with free labels, for pretraining a small policy's eyes and reach.

Everything here is drawn from broad ranges of its own; nothing is read from a task or from the stand-in.
"""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's compiled modules carry no type stubs.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from numpy import ndarray

from rlco.core.poses import quat_conjugate, quat_rotate
from rlco.core.rng import numpy_generator, seed_of
from rlco.core.scene import RGB, CameraSpec, InitialState, MarkerSpec, ObjectSpec, Part, SceneSpec, Shape
from rlco.engines.mujoco.appearance import Appearance, Clutter
from rlco.engines.mujoco.simulation import Simulation

OBJECTS = 5
"""Objects in a scene's model; each picture shows 1 to 5 of them."""
SHAPES: dict[str, Shape] = {
    "cube": "box",
    "box": "box",
    "ball": "sphere",
    "can": "cylinder",
    "egg": "ellipsoid",
    "capsule": "capsule",
}
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
_SHAPE_NAMES, _COLOUR_NAMES = list(SHAPES), list(COLOURS)
_TABLE_X_M, _TABLE_Y_M = (0.36, 0.74), (-0.28, 0.28)
_HIDDEN = (-5.0, 0.0, -5.0, 1.0, 0.0, 0.0, 0.0)
_CAMERA_M, _TARGET_M = np.array([1.22, 0.34, 0.66]), np.array([0.51, 0.01, 0.02])


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """N pictures; each scene has O objects, of which some are hidden."""

    image: UInt8[ndarray, "N H W 3"]
    state: Float[ndarray, "N 8"]
    position_m: Float[ndarray, "N O 3"]
    """Object centres, base frame."""
    pixel: Float[ndarray, "N O 2"]
    """Where the centres are in the picture: (down, right), each in [-1, 1] inside the frame."""
    size_m: Float[ndarray, "N O"]
    """Largest half extent."""
    colour: Int64[ndarray, "N O"]
    """Index into ``COLOURS``."""
    shape: Int64[ndarray, "N O"]
    """Index into ``SHAPES``."""
    is_shown: Bool[ndarray, "N O"]

    @staticmethod
    def concatenate(parts: list[Pictures]) -> Pictures:
        """Stack along N."""
        return Pictures(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Pictures)})


def render_pictures(*, look: int, count: int, seed: int, image_size: int) -> Pictures:
    """Draw look number ``look`` (table, lamp, camera, object sizes) and render ``count`` scenes under it."""
    rng = numpy_generator(seed, "pictures", look)
    shape = rng.integers(0, len(SHAPES), OBJECTS)
    objects = tuple(_object(rng, f"thing{i}", _SHAPE_NAMES[s]) for i, s in enumerate(shape))
    scene = SceneSpec(objects=objects, markers=_markers(rng), camera=_camera(rng))
    simulation = Simulation(
        scene, num_envs=1, image_size=image_size, appearance=random_appearance(rng, texture_seed=look)
    )
    half = np.array([item.parts[0].half_size_m for item in objects])
    try:
        return Pictures.concatenate([_picture(rng, simulation, half, shape, image_size) for _ in range(count)])
    finally:
        simulation.close()


def random_appearance(rng: np.random.Generator, *, texture_seed: int) -> Appearance:
    """Draw a look: any table colour, any of the textures, lamp, shadows, colour cast, camera error and noise."""
    grey = rng.uniform(0.2, 0.95)
    bright, ambient = rng.uniform(0.2, 0.65), rng.uniform(0.35, 0.65)
    return Appearance(
        table_rgb=_tinted(rng, grey, 0.15),
        table_texture=str(rng.choice(["plain", "wood", "cloth"])),  # pyright: ignore[reportArgumentType]
        texture_seed=seed_of(texture_seed, "table"),
        texture_contrast=float(rng.uniform(0.1, 0.7)),
        floor_rgb=_tinted(rng, rng.uniform(0.1, 0.8), 0.1),
        wall_rgb=_tinted(rng, rng.uniform(0.3, 0.95), 0.1),
        light_position_m=(float(rng.uniform(-0.5, 1.5)), float(rng.uniform(-1, 1)), float(rng.uniform(1.2, 2.2))),
        light_direction=(float(rng.uniform(-0.7, 0.7)), float(rng.uniform(-0.7, 0.7)), -1.0),
        light_diffuse=_tinted(rng, bright, 0.1),
        ambient=_tinted(rng, ambient, 0.1),
        shadows=bool(rng.random() < 0.5),
        robot_tint=_tinted(rng, rng.uniform(0.6, 1.0), 0.1),
        object_brightness=float(rng.uniform(0.75, 1.15)),
        object_saturation=float(rng.uniform(0.7, 1.15)),
        camera_offset_m=_normal3(rng, 0.02),
        camera_offset_rad=_normal3(rng, 0.025),
        colour_gain=_tinted(rng, rng.uniform(0.85, 1.1), 0.1),
        colour_bias=_normal3(rng, 0.02),
        pixel_noise=float(rng.uniform(0, 0.03)),
        clutter=tuple(_clutter(rng) for _ in range(rng.integers(0, 5))),
    )


def _picture(
    rng: np.random.Generator,
    simulation: Simulation,
    half: Float[ndarray, "O 3"],
    shape: Int64[ndarray, " O"],
    image_size: int,
) -> Pictures:
    shown = rng.permutation(OBJECTS) < rng.integers(1, OBJECTS + 1)
    colour = rng.permutation(len(COLOURS))[:OBJECTS] if rng.random() < 0.7 else rng.integers(0, len(COLOURS), OBJECTS)
    position = _places(rng, half)
    poses = {
        f"thing{i}": (*position[i], np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)) if shown[i] else _HIDDEN
        for i, yaw in enumerate(rng.uniform(-0.8, 0.8, OBJECTS) * (rng.random() < 0.5))
    }
    rgb = {f"thing{i}": _jittered(rng, COLOURS[_COLOUR_NAMES[c]]) for i, c in enumerate(colour)}
    state = InitialState(
        name="picture",
        task="pretrain",
        instruction="",
        object_pose=poses,
        object_rgb=rgb,
        tcp_offset_m=(float(rng.uniform(-0.06, 0.30)), float(rng.uniform(-0.26, 0.26)), float(rng.uniform(-0.1, 0.1))),
    )
    simulation.reset(0, state, noise_seed=int(rng.integers(1 << 30)))
    image = np.empty((image_size, image_size, 3), np.uint8)
    simulation.render(0, image)
    return Pictures(
        image=image[None],
        state=simulation.observe_state(0)[None],
        position_m=position[None],
        pixel=_project(simulation.model(0), position)[None],
        size_m=half.max(1)[None],
        colour=colour[None].astype(np.int64),
        shape=shape[None].astype(np.int64),
        is_shown=shown[None],
    )


def _project(model: mujoco.MjModel, points: Float[ndarray, "O 3"]) -> Float[ndarray, "O 2"]:
    """Project points of the base frame through the model's only camera (it looks along its -z, its y is up)."""
    inverse = quat_conjugate(model.cam_quat[0])
    right, up, back = quat_rotate(np.broadcast_to(inverse, (len(points), 4)), points - model.cam_pos[0]).T
    focal = 1.0 / np.tan(np.radians(model.cam_fovy[0]) / 2)
    return np.stack([focal * up / back, -focal * right / back], axis=1)


def _places(rng: np.random.Generator, half: Float[ndarray, "O 3"]) -> Float[ndarray, "O 3"]:
    """Draw centres on the table, no two closer than their sizes."""
    placed: list[ndarray] = []
    for size in half:
        for _ in range(30):
            xy = np.array([rng.uniform(*_TABLE_X_M), rng.uniform(*_TABLE_Y_M)])
            if all(np.hypot(*(xy - other[:2])) > size.max() + 0.05 for other in placed):
                break
        placed.append(np.array([*xy, size[2]]))
    return np.stack(placed)


def _object(rng: np.random.Generator, name: str, kind: str) -> ObjectSpec:
    radius = float(rng.uniform(0.016, 0.036))
    half = {
        "cube": (radius, radius, radius),
        "box": (radius, radius * rng.uniform(0.6, 1.6), radius * rng.uniform(0.5, 1.5)),
        "ball": (radius, radius, radius),
        "can": (radius * 0.8, radius * 0.8, radius * 1.4),
        "egg": (radius, radius * 0.8, radius * 0.7),
        "capsule": (radius * 0.7, radius * 0.7, radius * 1.5),
    }[kind]
    return ObjectSpec(name=name, parts=(Part(shape=SHAPES[kind], half_size_m=_triple(half)),), mass_kg=0.1)


def _camera(rng: np.random.Generator) -> CameraSpec:
    position, target = _CAMERA_M + rng.normal(0, 0.015, 3), _TARGET_M + rng.normal(0, 0.01, 3)
    return CameraSpec(position_m=_triple(position), target_m=_triple(target), fovy_deg=float(rng.normal(36, 0.6)))


def _markers(rng: np.random.Generator) -> tuple[MarkerSpec, ...]:
    return tuple(
        MarkerSpec(
            name=f"marker{i}",
            centre_m=(float(rng.uniform(0.4, 0.75)), float(rng.uniform(-0.2, 0.2))),
            half_size_m=(float(rng.uniform(0.01, 0.06)), float(rng.uniform(0.05, 0.35))),
            rgb=_tinted(rng, rng.uniform(0.05, 0.95), 0.3),
        )
        for i in range(rng.integers(0, 3))
    )


def _clutter(rng: np.random.Generator) -> Clutter:
    """A distractor at the table's edge."""
    side = rng.choice([-1.0, 1.0])
    place = (float(rng.uniform(0.1, 0.9)), float(side * rng.uniform(0.36, 0.55)))
    if rng.random() < 0.3:
        place = (float(rng.uniform(0.85, 1.0)), float(rng.uniform(-0.4, 0.1)))
    half = _triple(rng.uniform(0.015, 0.07, 3))
    return Clutter(
        shape=str(rng.choice(["box", "cylinder", "sphere"])),  # pyright: ignore[reportArgumentType]
        position_m=(*place, half[2]),
        half_size_m=half,
        rgb=_tinted(rng, rng.uniform(0.2, 0.8), 0.4),
        yaw_rad=float(rng.uniform(-3, 3)),
    )


def _tinted(rng: np.random.Generator, grey: float, spread: float) -> RGB:
    return _triple(np.clip(grey + rng.uniform(-spread, spread, 3), 0.02, 1.3))


def _jittered(rng: np.random.Generator, rgb: RGB) -> RGB:
    return _triple(np.clip(np.array(rgb) * rng.uniform(0.85, 1.1) + rng.normal(0, 0.04, 3), 0, 1))


def _normal3(rng: np.random.Generator, std: float) -> tuple[float, float, float]:
    return _triple(rng.normal(0, std, 3))


def _triple(values: Sequence[float] | ndarray) -> tuple[float, float, float]:
    a, b, c = values
    return float(a), float(b), float(c)
