"""Distribution shifts: how a named start is changed, the same for every task that offers it.

Each is a function of a start and a generator; a start carries everything that is different in its episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rlco.core.errors import unknown_name
from rlco.core.poses import yaw_to_quat
from rlco.core.rng import numpy_generator
from rlco.core.scene import InitialState, Look, Nudge, ObjectSpec, Part
from rlco.tasks.contract import Ends, Task

UNSEEN_OBJECTS = "unseen-objects"
"""Objects that are in no training set; the task itself draws them."""
UNSEEN_STATES = "unseen-states"
LIGHTING = "lighting"
CAMERA = "camera"
CLUTTER = "clutter"
MOVED_OBJECT = "moved-object"
PARAPHRASE = "paraphrase"

Change = Callable[[Task, InitialState, np.random.Generator], InitialState]

PERTURBED_TCP: tuple[tuple[tuple[float, float, float], float], ...] = (
    ((0.05, 0.0, 0.0), 1.0),
    ((-0.05, 0.0, 0.0), -1.0),
    ((0.0, 0.05, 0.0), 1.0),
    ((0.0, -0.05, 0.0), -1.0),
    ((0.0, 0.0, 0.05), 1.0),
)
"""Five starts of the robot: 5 cm forward, backward, left, right or up, each with one sign of the turn."""
PERTURBED_YAW_RAD = float(np.deg2rad(30.0))

_DISTRACTORS = ("block", "tin", "marble", "tube", "pebble")
_DISTRACTOR_RGB = ((0.30, 0.34, 0.42), (0.62, 0.60, 0.55), (0.25, 0.45, 0.45), (0.55, 0.38, 0.30), (0.45, 0.45, 0.48))
DISTRACTOR_PLACES = ((0.30, 0.22), (0.72, 0.28), (0.28, -0.24), (0.32, -0.35), (0.42, -0.40), (0.84, -0.04))
"""Beside the working area of every task and in the picture, x and y [m]."""
_AHEAD_RAD = 0.35
_ROOM_M = 0.14
"""A moved object stays this far from the others."""


def distractors() -> tuple[ObjectSpec, ...]:
    """Return the things that only the clutter shift puts on the table; every scene knows them."""
    parts = (
        Part(half_size_m=(0.020, 0.030, 0.015)),
        Part(shape="cylinder", half_size_m=(0.022, 0.022, 0.035)),
        Part(shape="sphere", half_size_m=(0.020, 0.020, 0.020)),
        Part(shape="capsule", half_size_m=(0.014, 0.014, 0.040)),
        Part(shape="ellipsoid", half_size_m=(0.030, 0.022, 0.018)),
    )
    named = zip(_DISTRACTORS, parts, strict=True)
    return tuple(ObjectSpec(name=f"distractor_{name}", parts=(part,), mass_kg=0.15) for name, part in named)


def shifted(task: Task, state: InitialState, shift: str | None, rng: np.random.Generator) -> InitialState:
    """Return ``state`` under ``shift``, its name and labels saying so.

    Raises ``LookupError`` if the task does not offer it. Unseen objects are the task's own matter.
    """
    if shift is None:
        return state
    require_shift(task, shift)
    change = _CHANGES.get(shift)
    changed = state if change is None else change(task, state, rng)
    return replace(changed, labels={**changed.labels, "shift": shift})


def require_shift(task: Task, shift: str | None) -> None:
    """Raise ``LookupError`` if the task does not offer ``shift``."""
    if shift is not None and shift not in task.shifts:
        raise unknown_name(f"shift of {task.name}", shift, task.shifts)


def _unseen_states(task: Task, state: InitialState, rng: np.random.Generator) -> InitialState:
    del task
    offset, sign = PERTURBED_TCP[int(rng.integers(len(PERTURBED_TCP)))]
    return replace(state, tcp_offset_m=offset, tcp_yaw_rad=sign * PERTURBED_YAW_RAD)


def _lighting(task: Task, state: InitialState, rng: np.random.Generator) -> InitialState:
    """A lamp much dimmer or brighter, warm or cold, one of eight so that few scenes are compiled."""
    del task
    brightness = (0.45, 0.6, 1.35, 1.6)[int(rng.integers(4))]
    tint = ((1.12, 1.0, 0.82), (0.85, 1.0, 1.12))[int(rng.integers(2))]
    return replace(state, look=Look(brightness=brightness, tint=tint))


def _camera(task: Task, state: InitialState, rng: np.random.Generator) -> InitialState:
    """The camera pushed by 3 cm and turned by 2.5 degrees, one of eight ways."""
    del task
    side, up, turn = (1.0 if rng.random() < 0.5 else -1.0 for _ in range(3))
    angle = float(np.deg2rad(2.5))
    return replace(
        state, look=Look(camera_offset_m=(0.03 * side, 0.03 * up, 0.0), camera_offset_rad=(0.0, angle * turn, 0.0))
    )


def _clutter(task: Task, state: InitialState, rng: np.random.Generator) -> InitialState:
    """Three things that are not part of the task, beside the working area."""
    del task
    things, places = rng.permutation(len(_DISTRACTORS))[:3], rng.permutation(len(DISTRACTOR_PLACES))[:3]
    pose, rgb = dict(state.object_pose), dict(state.object_rgb)
    specs = distractors()
    for thing, place in zip(things, places, strict=True):
        spec = specs[int(thing)]
        x, y = DISTRACTOR_PLACES[int(place)]
        turn = yaw_to_quat(float(rng.uniform(-1.5, 1.5)))
        pose[spec.name] = (x, y, spec.parts[0].half_size_m[2], *turn)
        rgb[spec.name] = _DISTRACTOR_RGB[int(thing)]
    return replace(state, object_pose=pose, object_rgb=rgb)


def _moved_object(task: Task, state: InitialState, rng: np.random.Generator) -> InitialState:
    """The object of the first stage is moved by 4 to 6 cm, a second or two after the start, not into another one.

    What is to be pushed is moved ahead, by up to 20 degrees aside: its lane is where it stood.
    """
    name = task.reference_object(state, 0)
    here = np.array(state.object_pose[name][:2])
    others = [np.array(pose[:2]) for other, pose in state.object_pose.items() if other != name]
    step, offsets = int(rng.integers(5, 11)), []
    half = np.pi if task.stages[0].ends is Ends.GRASP else _AHEAD_RAD
    for angle, way in zip(rng.uniform(-half, half, 8), rng.uniform(0.04, 0.06, 8), strict=True):
        offsets.append(way * np.array([np.cos(angle), np.sin(angle)]))
    room = [min((float(np.linalg.norm(here + offset - other)) for other in others), default=1.0) for offset in offsets]
    free = [i for i, distance in enumerate(room) if distance >= _ROOM_M]
    offset = offsets[free[0] if free else int(np.argmax(room))]
    return replace(state, nudge=Nudge(object=name, step=step, offset_m=(float(offset[0]), float(offset[1]))))


def _paraphrase(task: Task, state: InitialState, rng: np.random.Generator) -> InitialState:
    sentences = task.paraphrases(state)
    return replace(state, instruction=sentences[int(rng.integers(len(sentences)))])


def random_look(state: InitialState, rng: np.random.Generator) -> InitialState:
    """Return ``state`` under one of ``LOOKS``: domain randomisation of what is seen."""
    return replace(state, look=LOOKS[int(rng.integers(len(LOOKS)))])


def _looks(count: int) -> tuple[Look, ...]:
    """Return lamps from dim to bright and warm to cold, each with a camera up to 3 cm and 2.5 degrees out of place."""
    rng = numpy_generator(0, "looks")
    angle = float(np.deg2rad(2.5))
    found = []
    for _ in range(count):
        warmth = float(rng.uniform(-0.2, 0.2))
        right, up, back = rng.uniform(-0.03, 0.03, 3).tolist()
        pitch, yaw, roll = rng.uniform(-angle, angle, 3).tolist()
        found.append(
            Look(
                brightness=float(rng.uniform(0.5, 1.5)),
                tint=(1.0 + warmth, 1.0, 1.0 - warmth),
                camera_offset_m=(right, up, back),
                camera_offset_rad=(pitch, yaw, roll),
            )
        )
    return tuple(found)


LOOKS = _looks(16)
"""So many that no policy learns one by heart, so few that scenes are compiled in seconds."""

_CHANGES: dict[str, Change] = {
    UNSEEN_STATES: _unseen_states,
    LIGHTING: _lighting,
    CAMERA: _camera,
    CLUTTER: _clutter,
    MOVED_OBJECT: _moved_object,
    PARAPHRASE: _paraphrase,
}


def named(task_name: str, prefix: str, shift: str | None, index: int) -> str:
    """Return the name of a fixed start."""
    return f"{task_name}/{prefix}/{index:04d}" if shift is None else f"{task_name}/{prefix}/{shift}/{index:04d}"


def known(kind: str, chosen: Sequence[str] | None, all_names: Sequence[str]) -> list[str]:
    """Return the chosen names, all by default. Raises ``LookupError`` naming the nearest one for an unknown one."""
    names = list(all_names if chosen is None else chosen)
    for name in names:
        if name not in all_names:
            raise unknown_name(kind, name, all_names)
    if not names:
        raise ValueError(f"No {kind} was given. Known: {', '.join(all_names)}.")
    return names
