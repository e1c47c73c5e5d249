"""Films of policies on one initial state, side by side.

Letters: T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont

from rlco.core.rng import seed_of
from rlco.core.scene import InitialState
from rlco.evals.suite import EvaluatedPolicy, EvaluatedWorld, EvaluationSettings, chunk_of, require_distinct

Frames = UInt8[ndarray, "T H W 3"]
TILE_PX = 192
"""Side of one policy's picture in a grid."""
BORDER_PX = 4
CAPTION_PX = 16
LABEL_PX = 80
INK, PAPER = (40, 44, 52), (255, 255, 255)
GREEN, RED, GREY = (46, 160, 67), (207, 34, 46), (208, 215, 222)


@dataclass(frozen=True, kw_only=True, slots=True)
class Film:
    """What the camera saw in one episode, the first frame before the first action."""

    state: InitialState
    frames: Frames
    success: bool


def film(
    policy: EvaluatedPolicy,
    *,
    settings: EvaluationSettings,
    initial_states: Sequence[InitialState],
    make_world: Callable[..., EvaluatedWorld],
) -> list[Film]:
    """Film the first repeat of each state: the same noise, so the same episode, as in ``evaluate``."""
    require_distinct(initial_states)
    num_envs = len(initial_states)
    world = make_world(
        settings.task,
        domain=settings.domain,
        num_envs=num_envs,
        seed=settings.seed,
        reality=settings.reality,
        image_size=settings.image_size,
    )
    try:
        shots, success = _episodes(policy, world, initial_states=initial_states, seed=settings.seed)
    finally:
        world.close()
    return [
        Film(state=state, frames=np.stack(shots[e]), success=bool(success[e])) for e, state in enumerate(initial_states)
    ]


def _episodes(
    policy: EvaluatedPolicy, world: EvaluatedWorld, *, initial_states: Sequence[InitialState], seed: int
) -> tuple[list[list[ndarray]], ndarray]:
    num_envs = len(initial_states)
    generators = [torch.Generator().manual_seed(seed_of(seed, "evaluation", state.name, 0)) for state in initial_states]
    observation, _ = world.reset(initial_states=initial_states, mask=np.ones(num_envs, dtype=bool))
    shots = [[observation["image"][e].copy()] for e in range(num_envs)]
    over, success = np.zeros(num_envs, dtype=bool), np.zeros(num_envs, dtype=bool)
    while not over.all():
        noise = torch.stack([torch.randn(policy.noise_shape, generator=g) for g in generators])
        chunk = chunk_of(policy, observation, rows=range(num_envs), noise=noise)
        observation, _, terminated, truncated, info = world.step_chunk(chunk, render="all")
        for e in (~over).nonzero()[0]:
            shots[e].extend(info["images"][e][info["valid"][e]])
        success |= np.asarray(info["success"]) & ~over
        over |= np.any(terminated | truncated, axis=1) | np.asarray(info["lost"])
    return shots, success


def side_by_side(films: Mapping[str, Mapping[str, Film]]) -> Frames:
    """Return one film of a grid: ``films[row][column]``, for example world and method.

    A film that ends early keeps its last frame in a green (success) or red frame.
    """
    columns = list(next(iter(films.values())))
    length = max(len(f.frames) for row in films.values() for f in row.values())
    canvas = _canvas(rows=list(films), columns=columns)
    frames = np.repeat(np.asarray(canvas)[None], length, axis=0)
    for r, row in enumerate(films.values()):
        for c, name in enumerate(columns):
            top, left = CAPTION_PX + r * TILE_PX, LABEL_PX + c * TILE_PX
            frames[:, top : top + TILE_PX, left : left + TILE_PX] = _tile(row[name], length=length)
    return frames


def _canvas(*, rows: Sequence[str], columns: Sequence[str]) -> Image.Image:
    """Return an empty grid with its captions."""
    size = (LABEL_PX + TILE_PX * len(columns), CAPTION_PX + TILE_PX * len(rows))
    canvas = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    for c, name in enumerate(columns):
        draw.text((LABEL_PX + (c + 0.5) * TILE_PX, CAPTION_PX / 2), name, fill=INK, font=font, anchor="mm")
    for r, name in enumerate(rows):
        draw.text((LABEL_PX - 8, CAPTION_PX + (r + 0.5) * TILE_PX), name, fill=INK, font=font, anchor="rm")
    return canvas


def _tile(shot: Film, *, length: int) -> UInt8[ndarray, "T h w 3"]:
    inner = TILE_PX - 2 * BORDER_PX
    small = [np.asarray(Image.fromarray(f).resize((inner, inner), Image.Resampling.BICUBIC)) for f in shot.frames]
    pictures = np.stack(small + [small[-1]] * (length - len(small)))
    tile = np.empty((length, TILE_PX, TILE_PX, 3), dtype=np.uint8)
    tile[:] = GREY
    tile[len(small) - 1 :] = GREEN if shot.success else RED
    tile[:, BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = pictures
    return tile
