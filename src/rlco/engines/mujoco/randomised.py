"""Widely randomised tabletop pictures with free labels, for pretraining a small policy's eyes and reach.

Everything here is drawn from broad ranges of its own; nothing is read from a task or from the stand-in.
"""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's compiled modules carry no type stubs.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from numpy import ndarray

from rlco.core.poses import quat_rotate, yaw_to_quat
from rlco.core.rng import numpy_generator, seed_of
from rlco.core.scene import RGB, CameraSpec, InitialState, MarkerSpec, ObjectSpec, SceneSpec, Triple
from rlco.core.shapes import FINGER_ABOVE_TOP_M, LOWEST_TCP_M, grasp_height_m
from rlco.engines.mujoco import panda
from rlco.engines.mujoco.appearance import Appearance, Clutter
from rlco.engines.mujoco.sight import is_seen, project
from rlco.engines.mujoco.simulation import Simulation
from rlco.engines.mujoco.things.kinds import (
    CABINET,
    CONTAINERS,
    HANDLE,
    KIND_NAMES,
    NAMED,
    PLAIN,
    Thing,
    draw_thing,
)
from rlco.engines.mujoco.things.pieces import COLOURS, Rng

EDITION = 3
"""Changes when what is drawn changes: pictures of another edition are not used again."""
OBJECTS = 5
"""Things in a scene's model; each picture shows 1 to 5 of them."""
NAMEABLE = OBJECTS + 1
"""What a picture has places of: its things, and the handle of the cabinet where there is one."""
NOTHING = -1
_COLOUR_NAMES = list(COLOURS)
_TABLE_X_M, _TABLE_Y_M = (0.36, 0.74), (-0.28, 0.28)
_CABINET_X_M, _CABINET_YAW_RAD = (0.52, 0.74), float(np.deg2rad(30.0))
_TCP_LOW_M, _TCP_HIGH_M = np.array([0.32, -0.26, 0.02]), np.array([0.68, 0.26, 0.22])
_OPEN_M = 2 * panda.FINGER_TRAVEL_M
_GAP_M = 0.012
"""Between two things."""
_CAMERA_M, _TARGET_M = np.array([1.22, 0.34, 0.66]), np.array([0.51, 0.01, 0.02])


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """N pictures of O nameable things, of which some are hidden. The last is the handle of the cabinet."""

    image: UInt8[ndarray, "N H W 3"]
    state: Float[ndarray, "N 8"]
    position_m: Float[ndarray, "N O 3"]
    """Middles, base frame."""
    pixel: Float[ndarray, "N O 2"]
    """Where the middles are in the picture: (down, right), each in [-1, 1] inside the frame."""
    half_m: Float[ndarray, "N O 3"]
    """Half extents in the thing's own axes; the last is half the height."""
    colour: Int64[ndarray, "N O"]
    """Index into ``COLOURS``."""
    kind: Int64[ndarray, "N O"]
    """Index into ``KIND_NAMES``."""
    is_shown: Bool[ndarray, "N O"]
    """Whether it is in the frame and not covered by what is before it."""
    held: Int64[ndarray, " N"]
    """Which thing is between the fingers, or ``NOTHING``."""

    @staticmethod
    def concatenate(parts: list[Pictures]) -> Pictures:
        """Stack along N."""
        return Pictures(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Pictures)})


def render_pictures(*, look: int, count: int, seed: int, image_size: int) -> Pictures:
    """Draw look number ``look`` (table, lamp, camera, things) and render ``count`` scenes under it."""
    rng = numpy_generator(seed, "pictures", look)
    things, handle = _things(rng)
    objects = tuple(ObjectSpec(name=f"thing{i}", parts=thing.parts, mass_kg=0.1) for i, thing in enumerate(things))
    scene = SceneSpec(objects=objects, markers=_markers(rng), camera=_camera(rng))
    simulation = Simulation(
        scene, num_envs=1, image_size=image_size, appearance=random_appearance(rng, texture_seed=look)
    )
    try:
        pictures: list[Pictures] = []
        while len(pictures) < count:
            picture = _picture(rng, simulation, things, handle, image_size)
            if picture.is_shown.any():
                pictures.append(picture)
        return Pictures.concatenate(pictures)
    finally:
        simulation.close()


def random_appearance(rng: Rng, *, texture_seed: int) -> Appearance:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Hand:
    """Where the gripper is and what it does."""

    tcp_m: Float[ndarray, " 3"]
    width_m: float
    command: float
    held: int


def _picture(
    rng: Rng, simulation: Simulation, things: Sequence[Thing], handle: _Handle | None, image_size: int
) -> Pictures:
    shown, position, yaw = _arranged(rng, things, rng.permutation(OBJECTS) < rng.integers(1, OBJECTS + 1))
    hand = _hand(rng, things, shown, position)
    if hand.held != NOTHING:
        half_height = things[hand.held].half_m[2]
        position[hand.held] = hand.tcp_m - [0.0, 0.0, max(half_height - FINGER_ABOVE_TOP_M, 0.0)]
        yaw[hand.held] = 0.0
    colour = _colours(rng, things)
    rgb = [things[i].kind.colours[_COLOUR_NAMES[c]] for i, c in enumerate(colour)]
    state = InitialState(
        name="picture",
        task="pretrain",
        instruction="",
        object_pose={f"thing{i}": _pose(i, position[i], yaw[i], is_shown=bool(shown[i])) for i in range(OBJECTS)},
        object_rgb={f"thing{i}": _jittered(rng, value) for i, value in enumerate(rgb)},
        tcp_offset_m=_triple(hand.tcp_m - panda.HOME_POSE[:3]),
    )
    simulation.reset(0, state, noise_seed=int(rng.integers(1 << 30)))
    data = simulation.data(0)
    data.qpos[panda.ARM_JOINTS : panda.ARM_JOINTS + 2] = hand.width_m / 2
    mujoco.mj_kinematics(simulation.model(0), data)
    image = np.empty((image_size, image_size, 3), np.uint8)
    simulation.render(0, image)
    observed = simulation.observe_state(0)
    observed[7] = hand.command
    at, half, its_colour = _last(things, handle, position, yaw)
    position, half = np.concatenate([position, at[None]]), np.array([*(thing.half_m for thing in things), half])
    return Pictures(
        image=image[None],
        state=observed[None],
        position_m=position[None],
        pixel=project(simulation.model(0), position)[None],
        half_m=half[None],
        colour=np.array([*colour, its_colour])[None],
        kind=np.array([KIND_NAMES.index(name) for name in (*(t.kind.name for t in things), HANDLE)])[None],
        is_shown=_seen(simulation, position, half, yaw, np.array([*shown, handle is not None and shown[-1]]))[None],
        held=np.array([hand.held]),
    )


def _seen(
    simulation: Simulation,
    position: Float[ndarray, "O 3"],
    half: Float[ndarray, "O 3"],
    yaw: Float[ndarray, " things"],
    there: Bool[ndarray, " O"],
) -> Bool[ndarray, " O"]:
    """Return which of the things that are there the camera sees."""
    model = simulation.model(0)
    geoms = [model.geom_bodyid == model.body(f"thing{i}").id for i in range(OBJECTS)]
    geoms.append(geoms[-1] & (np.arange(model.ngeom) == np.flatnonzero(geoms[-1])[-1]))
    turns = [*yaw.tolist(), float(yaw[-1])]
    return np.array(
        [
            bool(there[i])
            and is_seen(
                model, simulation.data(0), geoms[i], middle_m=position[i], half_m=half[i], yaw_rad=float(turns[i])
            )
            for i in range(NAMEABLE)
        ]
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Handle:
    """That of the cabinet, which is the last thing."""

    at_m: Triple
    """In the cabinet's frame."""
    half_m: Triple
    colour: int


def _things(rng: Rng) -> tuple[list[Thing], _Handle | None]:
    """Draw what may be on the table: mostly with a container or two, often with a cabinet, which comes last."""
    count = int(rng.choice(3, p=(0.2, 0.55, 0.25)))
    kinds = [CONTAINERS[i] for i in rng.permutation(len(CONTAINERS))[:count]]
    has_cabinet = bool(rng.random() < 0.35)
    free = OBJECTS - count - has_cabinet
    named = int(rng.binomial(free, 0.55))
    kinds += [NAMED[i] for i in rng.permutation(len(NAMED))[:named]]
    kinds += [PLAIN[i] for i in rng.integers(0, len(PLAIN), free - named)]
    things = [draw_thing(rng, kind) for kind in kinds]
    if not has_cabinet:
        return things, None
    cabinet = draw_thing(rng, CABINET)
    colour, part = int(rng.integers(len(COLOURS))), cabinet.parts[-1]
    painted = replace(part, rgb=_jittered(rng, COLOURS[_COLOUR_NAMES[colour]]))
    cabinet = replace(cabinet, parts=(*cabinet.parts[:-1], painted))
    return [*things, cabinet], _Handle(at_m=part.position_m, half_m=part.half_size_m, colour=colour)


def _last(
    things: Sequence[Thing], handle: _Handle | None, position: Float[ndarray, "O 3"], yaw: Float[ndarray, " O"]
) -> tuple[Float[ndarray, " 3"], Triple, int]:
    """Return place, size and colour of the handle; anything where there is none."""
    if handle is None:
        return position[-1], things[-1].half_m, 0
    at = position[-1] + quat_rotate(np.array(yaw_to_quat(float(yaw[-1]))), np.array(handle.at_m))
    return at, handle.half_m, handle.colour


def _arranged(
    rng: Rng, things: Sequence[Thing], shown: Bool[ndarray, " O"]
) -> tuple[Bool[ndarray, " O"], Float[ndarray, "O 3"], Float[ndarray, " O"]]:
    """Draw places on the table and turns about the vertical, the largest first; what finds no room is not shown."""
    position, yaw = np.zeros((len(things), 3)), np.zeros(len(things))
    circles: list[tuple[Float[ndarray, " 2"], float]] = []
    has_room = np.zeros(len(things), dtype=bool)
    most = float(rng.choice([0.0, 0.6, np.pi]))
    for i in sorted(np.flatnonzero(shown).tolist(), key=lambda i: -things[i].radius_m):
        thing = things[i]
        is_cabinet = thing.kind is CABINET
        x_m = _CABINET_X_M if is_cabinet else _TABLE_X_M
        for _ in range(30):
            turn = float(rng.uniform(-1, 1)) * (_CABINET_YAW_RAD if is_cabinet else most)
            xy = np.array([rng.uniform(*x_m), rng.uniform(*_TABLE_Y_M)])
            middle = xy + thing.middle_x_m * np.array([np.cos(turn), np.sin(turn)])
            if all(np.hypot(*(middle - at)) > thing.radius_m + radius + _GAP_M for at, radius in circles):
                circles.append((middle, thing.radius_m))
                position[i], yaw[i], has_room[i] = (*xy, thing.half_m[2]), turn, True
                break
    return has_room, position, yaw


def _hand(rng: Rng, things: Sequence[Thing], shown: Bool[ndarray, " O"], position: Float[ndarray, "O 3"]) -> _Hand:
    """Draw the hand anywhere or above a thing, the gripper closed, open, or closed on a thing."""
    tcp = rng.uniform(_TCP_LOW_M, _TCP_HIGH_M)
    graspable = [i for i in np.flatnonzero(shown).tolist() if things[i].is_graspable]
    does = float(rng.random())
    if does < 0.45 or not graspable:
        return _Hand(tcp_m=tcp, width_m=0.0, command=-1.0, held=NOTHING)
    i = graspable[int(rng.integers(len(graspable)))]
    if does < 0.62:
        return _Hand(tcp_m=tcp, width_m=min(2 * things[i].half_m[1], _OPEN_M), command=-1.0, held=i)
    if rng.random() < 0.6:
        # in a funnel above it: the higher, the farther to the side
        low = grasp_height_m(float(position[i, 2]), float(position[i, 2]) + things[i].half_m[2])
        above = float(rng.uniform(0.0, 0.12))
        xy = position[i, :2] + rng.normal(0, 0.004 + 0.3 * above, 2)
        tcp = np.clip([*xy, low + above], [*_TCP_LOW_M[:2], LOWEST_TCP_M], _TCP_HIGH_M)
    return _Hand(tcp_m=tcp, width_m=_OPEN_M, command=1.0, held=NOTHING)


def _colours(rng: Rng, things: Sequence[Thing]) -> list[int]:
    """Draw a usual colour of each thing, another one for each of a family, and mostly another one for each thing."""
    chosen = [NOTHING] * len(things)
    all_differ = bool(rng.random() < 0.7)
    # those with the fewest colours choose first
    for i in sorted(range(len(things)), key=lambda i: len(things[i].kind.colours)):
        kind = things[i].kind
        usual = [_COLOUR_NAMES.index(name) for name in kind.colours]
        others = [(things[j].kind.family, chosen[j]) for j in range(len(things)) if chosen[j] != NOTHING]
        alike = {colour for family, colour in others if family == kind.family}
        free = [c for c in usual if c not in alike] or usual
        rare = [c for c in free if c not in {colour for _, colour in others}] or free
        options = rare if all_differ else free
        chosen[i] = options[int(rng.integers(len(options)))]
    return chosen


def _pose(i: int, position: Float[ndarray, " 3"], yaw: float, *, is_shown: bool) -> tuple[float, ...]:
    """Return the pose of thing ``i``; what is hidden is behind the wall, where it touches nothing."""
    return (*_triple(position), *yaw_to_quat(float(yaw))) if is_shown else (-5.0, i - 2.0, 1.0, 1.0, 0.0, 0.0, 0.0)


def _camera(rng: Rng) -> CameraSpec:
    position, target = _CAMERA_M + rng.normal(0, 0.015, 3), _TARGET_M + rng.normal(0, 0.01, 3)
    return CameraSpec(position_m=_triple(position), target_m=_triple(target), fovy_deg=float(rng.normal(36, 0.6)))


def _markers(rng: Rng) -> tuple[MarkerSpec, ...]:
    return tuple(
        MarkerSpec(
            name=f"marker{i}",
            centre_m=(float(rng.uniform(0.4, 0.75)), float(rng.uniform(-0.2, 0.2))),
            half_size_m=(float(rng.uniform(0.01, 0.06)), float(rng.uniform(0.05, 0.35))),
            rgb=_tinted(rng, rng.uniform(0.05, 0.95), 0.3),
        )
        for i in range(rng.integers(0, 3))
    )


def _clutter(rng: Rng) -> Clutter:
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


def _tinted(rng: Rng, grey: float, spread: float) -> RGB:
    return _triple(np.clip(grey + rng.uniform(-spread, spread, 3), 0.02, 1.3))


def _jittered(rng: Rng, rgb: RGB) -> RGB:
    return _triple(np.clip(np.array(rgb) * rng.uniform(0.85, 1.1) + rng.normal(0, 0.04, 3), 0, 1))


def _normal3(rng: Rng, std: float) -> tuple[float, float, float]:
    return _triple(rng.normal(0, std, 3))


def _triple(values: Sequence[float] | ndarray) -> tuple[float, float, float]:
    a, b, c = values
    return float(a), float(b), float(c)
