"""Words and labels for randomised pictures: where is the thing, and how would a gripper reach it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from rlco.core.policy import Batch, Observation
from rlco.core.scene import ACTION_DIM
from rlco.engines.mujoco.randomised import COLOURS, SHAPES, Pictures

_COLOURS, _SHAPES = list(COLOURS), list(SHAPES)
_SYNONYMS = {
    "cube": ("cube", "cube", "block", "box"),
    "box": ("box", "block"),
    "ball": ("ball", "sphere"),
    "can": ("can", "cylinder"),
    "egg": ("egg",),
    "capsule": ("capsule",),
}
_QUESTIONS = (
    "where is the {}",
    "find the {}",
    "the {}",
    "push the {}",
    "pick up the {}",
    "pull the {}",
    "put the {} down",
)
# where the gripper goes, in units of the object's half extent, then metres
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
_REACH_TEXTS = tuple(_REACHES)
_REACH_SHARE = 0.75
_SPEED_M = (0.03, 0.045)
"""Metres per control step."""
PLACE_CENTRE_M, PLACE_HALF_M = np.array([0.55, 0.0, 0.03]), np.array([0.2, 0.3, 0.03])
"""Scale of the place labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """Where the named things are."""

    place: Float[Tensor, "B 3"]
    """Base frame, scaled by ``PLACE_CENTRE_M`` and ``PLACE_HALF_M``."""
    pixel: Float[Tensor, "B 2"]
    """(down, right), each in [-1, 1] inside the frame."""


def caption_batch(
    pictures: Pictures, index: Int[ndarray, " B"], *, horizon: int, rng: np.random.Generator
) -> tuple[Batch, Labels]:
    """Return supervised samples of pictures, and where the thing is that each one names.

    Questions have no motion: all of their action steps are padding.
    """
    rows = index.tolist()
    named = [_name(pictures, row, rng) for row in rows]
    is_reach = rng.random(len(index)) < _REACH_SHARE
    texts, goals = [], []
    for row, (thing, phrase), reach in zip(rows, named, is_reach, strict=True):
        template = _pick(_REACH_TEXTS if reach else _QUESTIONS, rng)
        texts.append(template.format(phrase))
        units, metres = _REACHES.get(template, ((0, 0, 0), (0, 0, 0)))
        size = pictures.size_m[row, thing]
        goals.append(pictures.position_m[row, thing] + np.array(units) * size + np.array(metres))
    action = _motion(pictures.state[index, :3], np.stack(goals), horizon=horizon, rng=rng)
    things = np.array([thing for thing, _ in named])
    place = (pictures.position_m[index, things] - PLACE_CENTRE_M) / PLACE_HALF_M
    batch = Batch(
        observation=Observation(
            image=torch.from_numpy(pictures.image[index]),
            state=torch.from_numpy(pictures.state[index]),
            instruction=tuple(texts),
        ),
        action=torch.from_numpy(action),
        is_pad=torch.from_numpy(np.repeat(~is_reach[:, None], horizon, axis=1)),
    )
    pixel = pictures.pixel[index, things]
    return batch, Labels(
        place=torch.from_numpy(place.astype(np.float32)), pixel=torch.from_numpy(pixel.astype(np.float32))
    )


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    # Generator.choice converts its options to an array at every call: ten times slower
    return options[int(rng.integers(len(options)))]


def _motion(
    start: Float[ndarray, "B 3"], goal: Float[ndarray, "B 3"], *, horizon: int, rng: np.random.Generator
) -> Float[ndarray, "B H 7"]:
    """Return straight, speed-limited motions that stop at the goal, gripper closed."""
    goal = np.maximum(goal, [-np.inf, -np.inf, 0.015])
    offset = goal - start
    distance = np.linalg.norm(offset, axis=1, keepdims=True)
    speed = rng.uniform(*_SPEED_M, (len(start), 1))
    travelled = np.minimum(speed * np.arange(horizon + 1), distance)
    step = np.diff(travelled, axis=1)[..., None] * (offset / np.maximum(distance, 1e-6))[:, None]
    action = np.zeros((len(start), horizon, ACTION_DIM), np.float32)
    action[..., :3], action[..., 6] = step, -1.0
    return action


def _name(pictures: Pictures, row: int, rng: np.random.Generator) -> tuple[int, str]:
    """Return a shown thing and words that fit no other thing in the picture, or fit it at least."""
    shown = np.flatnonzero(pictures.is_shown[row])
    thing, phrase = 0, ""
    for _ in range(8):
        thing = int(shown[rng.integers(len(shown))])
        use_size, use_colour, use_shape = (rng.random(3) < (0.15, 0.92, 0.75)).tolist()
        fits = shown
        if use_colour:
            fits = fits[pictures.colour[row, fits] == pictures.colour[row, thing]]
        if use_shape:
            fits = fits[_same_kind(pictures.shape[row, fits], int(pictures.shape[row, thing]))]
        if use_size and len(fits) > 1:
            sizes = pictures.size_m[row, fits]
            fits = fits[[int(sizes.argmax() if pictures.size_m[row, thing] >= sizes.mean() else sizes.argmin())]]
        phrase = _phrase(pictures, row, thing, (use_size, use_colour, use_shape), rng)
        if len(fits) == 1 and (use_colour or use_shape):
            return int(fits[0]), phrase if int(fits[0]) == thing else _phrase(
                pictures, row, int(fits[0]), (use_size, use_colour, use_shape), rng
            )
    return thing, phrase


def _phrase(pictures: Pictures, row: int, thing: int, use: tuple[bool, bool, bool], rng: np.random.Generator) -> str:
    use_size, use_colour, use_shape = use
    sizes = pictures.size_m[row, pictures.is_shown[row]]
    big = pictures.size_m[row, thing] >= sizes.mean()
    kind = _SHAPES[pictures.shape[row, thing]]
    noun = _pick(_SYNONYMS[kind] if use_shape else ("object", "thing"), rng)
    size = ("big" if big else "small") if use_size else ""
    colour = _COLOURS[pictures.colour[row, thing]] if use_colour else ""
    return " ".join(filter(None, (size, colour, noun)))


def _same_kind(kinds: Int[ndarray, " n"], kind: int) -> ndarray:
    """A cube may be called a box, so the two count as one kind."""
    boxy = {_SHAPES.index("cube"), _SHAPES.index("box")}
    return np.array([k in boxy for k in kinds]) if kind in boxy else kinds == kind
