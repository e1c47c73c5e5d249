"""Draw docs/worlds.png, the same starts of push-cube in the twin and in three draws of the stand-in, and
docs/tasks.png, a start of every task in both worlds.

Run: .venv/bin/python scripts/picture_of_worlds.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rlco.core.scene import InitialState
from rlco.tasks import TASKS, task
from rlco.worlds.make import make_world

SIDE_PX, CAPTION_PX, GAP_PX = 288, 26, 6
WORLDS = {"digital twin": ("twin", 0)} | {f"stand-in, reality {r}": ("standin", r) for r in range(3)}
DOCS = Path(__file__).parent.parent / "docs"
_INK = (40, 44, 52)


def column(domain: str, reality: int, *, states: Sequence[InitialState]) -> np.ndarray:
    """Return one world's pictures of the states of one task, one below the other."""
    options = {"domain": domain, "reality": reality, "num_envs": len(states), "image_size": SIDE_PX}
    with make_world(states[0].task, **options) as world:
        observation, _ = world.reset(initial_states=states)
        gap = np.full((GAP_PX, SIDE_PX, 3), 255, dtype=np.uint8)
        return np.concatenate([part for image in observation["image"] for part in (np.array(image), gap)])


def sheet(columns: Sequence[np.ndarray], *, above: Sequence[str], beside: Sequence[str] = ()) -> Image.Image:
    """Return columns of pictures with a caption above each, and beside each row where there are such."""
    margin = CAPTION_PX if beside else 0
    size = (margin + len(columns) * (SIDE_PX + GAP_PX) - GAP_PX, CAPTION_PX + columns[0].shape[0] - GAP_PX)
    canvas = Image.new("RGB", size, (255, 255, 255))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for i, (caption, pictures) in enumerate(zip(above, columns, strict=True)):
        left = margin + i * (SIDE_PX + GAP_PX)
        draw.text((left + SIDE_PX / 2, CAPTION_PX / 2), caption, fill=_INK, font=font, anchor="mm")
        canvas.paste(Image.fromarray(pictures), (left, CAPTION_PX))
    for i, caption in enumerate(beside):
        label = Image.new("RGB", (SIDE_PX, CAPTION_PX), (255, 255, 255))
        ImageDraw.Draw(label).text((SIDE_PX / 2, CAPTION_PX / 2), caption, fill=_INK, font=font, anchor="mm")
        canvas.paste(label.rotate(90, expand=True), (0, CAPTION_PX + i * (SIDE_PX + GAP_PX)))
    return canvas


def worlds_picture() -> Image.Image:
    """Return two starts of push-cube in four worlds."""
    states = task("push-cube").fixed_states(2, seed=0, prefix="picture")
    return sheet([column(*world, states=states) for world in WORLDS.values()], above=list(WORLDS))


def tasks_picture() -> Image.Image:
    """Return a start of every task in the twin and in one stand-in."""
    starts = {name: one.fixed_states(3, seed=0, prefix="picture")[2] for name, one in TASKS.items()}
    columns = [
        np.concatenate([column("twin", 0, states=[state]), column("standin", 0, states=[state])])
        for state in starts.values()
    ]
    above = [f"{name}: {state.instruction}" for name, state in starts.items()]
    return sheet(columns, above=above, beside=("digital twin", "stand-in, reality 0"))


def main() -> None:
    """Write both pictures."""
    worlds_picture().save(DOCS / "worlds.png", optimize=True)
    tasks_picture().save(DOCS / "tasks.png", optimize=True)


if __name__ == "__main__":
    main()
