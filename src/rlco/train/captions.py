"""Sentences and labels for randomised pictures: where the named things are, and how a gripper does what is said.

A sentence names one thing, or two: one that fits a hand and one that is a landmark, a container or a cabinet. The
grounding token reads a sentence's words without their order, so what a thing is must say which of the two it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from rlco.core.policy import Batch, Observation
from rlco.core.shapes import grasp_height_m
from rlco.engines.mujoco.randomised import NOTHING, Pictures
from rlco.engines.mujoco.things.kinds import CABINET, CONTAINERS, HANDLE, KIND_NAMES, WIDEST_GRIP_M
from rlco.train.motions import CLOSE, FUNNEL_M, OPEN, Way, motion
from rlco.train.phrases import phrase, pick

_TEXTS = (
    "where is the {}",
    "find the {}",
    "the {}",
    "push the {}",
    "pull the {}",
    "put the {} down",
    "move the {}",
)
"""Without a motion."""
# where the gripper goes, in units of the thing's half extents, then metres
_REACHES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "reach the {}": ((0, 0, 1), (0, 0, 0.01)),
    "touch the {}": ((0, 0, 1), (0, 0, 0.0)),
    "go to the {}": ((0, 0, 1), (0, 0, 0.02)),
    "go above the {}": ((0, 0, 1), (0, 0, 0.08)),
    "go behind the {}": ((-1, 0, 0), (-0.03, 0, 0)),
    "go in front of the {}": ((1, 0, 0), (0.03, 0, 0)),
    "go left of the {}": ((0, 1, 0), (0, 0.03, 0)),
    "go right of the {}": ((0, -1, 0), (0, -0.03, 0)),
}
_GRASPS = ("pick up the {}", "pick the {} up", "grasp the {}", "grab the {}", "lift the {}", "take the {}")
_INTO = (
    "put the {} in the {}",
    "put the {} into the {}",
    "place the {} in the {}",
    "place the {} into the {}",
    "drop the {} into the {}",
    "move the {} into the {}",
    "put {} in {}",
    "lay the {} inside the {}",
)
_ONTO = (
    "put the {} on the {}",
    "put the {} onto the {}",
    "place the {} on the {}",
    "set the {} on the {}",
    "move the {} onto the {}",
    "put {} on {}",
    "put the {} on top of the {}",
)
_BESIDE = (
    "put the {} next to the {}",
    "place the {} beside the {}",
    "move the {} next to the {}",
    "set the {} down beside the {}",
    "bring the {} near the {}",
)
_OF_TWO = (
    "push the {} to the {}",
    "where are the {} and the {}",
    "is the {} near the {}",
    "take the {} away from the {}",
    "the {} by the {}",
)
"""Without a motion."""
_OF_CABINETS = ("open the {}", "close the {}", "pull the {} open", "shut the {}", "push the {} shut")
_APPROACH = "go behind the {}"
"""To the handle: the hand comes from the side that it looks to."""
_CABINET_SHARE, _TWO_SHARE, _REACH_SHARE, _GRASP_SHARE = 0.5, 0.7, 0.5, 0.3
"""Of all sentences where a picture has what they need: about a cabinet or its handle, else of two; and of those that
name one thing."""
_INSIDE_SHARE, _BESIDE_SHARE = 0.6, 0.2
"""Of those that name two."""
_DROP_M = 0.02
"""How far above where it will lie a thing is released."""
_BESIDE_M = 0.03
_DEEP = frozenset({"bowl", "basket", "tray"})
_CONTAINERS = frozenset(kind.name for kind in CONTAINERS)
_LANDMARKS = _CONTAINERS | {CABINET.name}
_HANDLE, _CABINET = KIND_NAMES.index(HANDLE), KIND_NAMES.index(CABINET.name)
_IS_LANDMARK = np.array([name in _LANDMARKS for name in KIND_NAMES])
PLACE_CENTRE_M, PLACE_HALF_M = np.array([0.55, 0.0, 0.03]), np.array([0.2, 0.3, 0.03])
"""Scale of the place labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """Where the named things are. Where a sentence names one, the second is the first."""

    place: Float[Tensor, "B 3"]
    """Base frame, scaled by ``PLACE_CENTRE_M`` and ``PLACE_HALF_M``."""
    pixel: Float[Tensor, "B 2"]
    """(down, right), each in [-1, 1] inside the frame."""
    second_place: Float[Tensor, "B 3"]
    second_pixel: Float[Tensor, "B 2"]
    has_second: Bool[Tensor, " B"]
    """Whether the sentence names two things."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentence:
    """What is said of a picture. The things are indices of its row."""

    text: str
    first: int
    second: int | None = None
    way: Way | None = None
    """None: nothing that the hand could do from where it is."""


def caption_batch(
    pictures: Pictures, index: Int[ndarray, " B"], *, horizon: int, rng: np.random.Generator
) -> tuple[Batch, Labels]:
    """Return supervised samples of pictures, and where the things are that each one names.

    Sentences without a motion have padding for all of their action steps.
    """
    said = [sentence(pictures, row, rng) for row in index.tolist()]
    nowhere = Way(goal_m=np.zeros(3))
    action = motion(
        pictures.state[index, :3].astype(np.float64),
        [nowhere if one.way is None else one.way for one in said],
        horizon=horizon,
        rng=rng,
    )
    rests = np.array([one.way is None for one in said])
    action[rests] = 0.0
    batch = Batch(
        observation=Observation(
            image=torch.from_numpy(pictures.image[index]),
            state=torch.from_numpy(pictures.state[index]),
            instruction=tuple(one.text for one in said),
        ),
        action=torch.from_numpy(action),
        is_pad=torch.from_numpy(np.repeat(rests[:, None], horizon, axis=1)),
    )
    return batch, _labels(pictures, index, said)


def sentence(pictures: Pictures, row: int, rng: np.random.Generator) -> Sentence:
    """Say something of one picture."""
    shown = np.flatnonzero(pictures.is_shown[row])
    kinds = pictures.kind[row, shown]
    landmarks = shown[_IS_LANDMARK[kinds]].tolist()
    movable = shown[~_IS_LANDMARK[kinds] & (kinds != _HANDLE)].tolist()
    cabinets = shown[(kinds == _CABINET) | (kinds == _HANDLE)]
    if len(cabinets) and rng.random() < _CABINET_SHARE:
        return _about_one(pictures, row, int(cabinets[rng.integers(len(cabinets))]), rng)
    if landmarks and movable and rng.random() < _TWO_SHARE:
        first, second = (options[int(rng.integers(len(options)))] for options in (movable, landmarks))
        return _about_two(pictures, row, first, second, rng)
    return _about_one(pictures, row, int(shown[rng.integers(len(shown))]), rng)


def _about_one(pictures: Pictures, row: int, thing: int, rng: np.random.Generator) -> Sentence:
    name = phrase(pictures, row, thing, rng)
    if pictures.kind[row, thing] == _CABINET and rng.random() < 0.5:
        # what a hand needs to open it is its handle
        handle = int(np.flatnonzero(pictures.kind[row] == _HANDLE)[0])
        way = _reach(pictures, row, handle, _APPROACH)
        return Sentence(text=pick(_OF_CABINETS, rng).format(name), first=thing, second=handle, way=way)
    drawn, is_held = float(rng.random()), bool(pictures.held[row] == thing)
    if drawn < _REACH_SHARE:
        text = pick(tuple(_REACHES), rng)
        way = None if is_held else _reach(pictures, row, thing, text)
    elif drawn < _REACH_SHARE + _GRASP_SHARE:
        text, way = pick(_GRASPS, rng), _grasp(pictures, row, thing)
    else:
        text, way = pick(_TEXTS, rng), None
    return Sentence(text=text.format(name), first=thing, way=way)


def _about_two(pictures: Pictures, row: int, first: int, second: int, rng: np.random.Generator) -> Sentence:
    names = phrase(pictures, row, first, rng), phrase(pictures, row, second, rng)
    drawn, goal = float(rng.random()), None
    texts = _OF_TWO
    if drawn < _INSIDE_SHARE:
        texts = _INTO if KIND_NAMES[pictures.kind[row, second]] in _DEEP else _ONTO
        goal = _over(pictures, row, first, second)
    elif drawn < _INSIDE_SHARE + _BESIDE_SHARE:
        texts, goal = _BESIDE, _beside(pictures, row, first, second)
    way = None
    if goal is not None and pictures.held[row] == first:
        way = Way(goal_m=goal, funnel_m=FUNNEL_M, before=CLOSE, after=OPEN)
    elif goal is not None:
        way = _grasp(pictures, row, first)
    return Sentence(text=pick(texts, rng).format(*names), first=first, second=second, way=way)


def _reach(pictures: Pictures, row: int, thing: int, text: str) -> Way:
    """Return the straight way to the thing; the gripper stays as it is."""
    (x, y, z), metres = _REACHES[text]
    wide, high = pictures.half_m[row, thing, :2].max(), pictures.half_m[row, thing, 2]
    goal = pictures.position_m[row, thing] + np.array([x * wide, y * wide, z * high]) + np.array(metres)
    gripper = float(pictures.state[row, 7])
    return Way(goal_m=goal, before=gripper, after=gripper)


def _grasp(pictures: Pictures, row: int, thing: int) -> Way | None:
    """Return the way down to the thing with an open gripper; None where it is too wide, or the hand is full."""
    _, wide, high = pictures.half_m[row, thing]
    if pictures.held[row] != NOTHING or wide > WIDEST_GRIP_M or KIND_NAMES[pictures.kind[row, thing]] in _LANDMARKS:
        return None
    x, y, z = pictures.position_m[row, thing]
    goal = np.array([x, y, grasp_height_m(float(z), float(z + high))])
    return Way(goal_m=goal, funnel_m=FUNNEL_M, before=OPEN, after=CLOSE)


def _over(pictures: Pictures, row: int, first: int, second: int) -> Float[ndarray, " 3"]:
    """Return where the TCP releases the first thing so that it falls into the second, or on its top."""
    x, y, _ = pictures.position_m[row, second]
    high = float(pictures.half_m[row, first, 2])
    is_container = KIND_NAMES[pictures.kind[row, second]] in _CONTAINERS
    floor = 0.0 if is_container else 2 * pictures.half_m[row, second, 2]
    return np.array([x, y, floor + grasp_height_m(high, 2 * high) + _DROP_M])


def _beside(pictures: Pictures, row: int, first: int, second: int) -> Float[ndarray, " 3"]:
    """Return where the TCP puts the first thing down beside the second, on the side from which the hand comes."""
    middle = pictures.position_m[row, second, :2]
    towards = pictures.state[row, :2] - middle
    apart = pictures.half_m[row, [first, second], :2].max(1).sum() + _BESIDE_M
    high = float(pictures.half_m[row, first, 2])
    xy = middle + towards * (apart / max(float(np.linalg.norm(towards)), 1e-6))
    return np.array([*xy, grasp_height_m(high, 2 * high)])


def _labels(pictures: Pictures, index: Int[ndarray, " B"], said: Sequence[Sentence]) -> Labels:
    first = np.array([one.first for one in said])
    second = np.array([one.first if one.second is None else one.second for one in said])

    def place(things: Int[ndarray, " B"]) -> Tensor:
        return torch.from_numpy((pictures.position_m[index, things] - PLACE_CENTRE_M) / PLACE_HALF_M).float()

    def pixel(things: Int[ndarray, " B"]) -> Tensor:
        return torch.from_numpy(pictures.pixel[index, things]).float()

    return Labels(
        place=place(first),
        pixel=pixel(first),
        second_place=place(second),
        second_pixel=pixel(second),
        has_second=torch.tensor([one.second is not None for one in said]),
    )
