"""Draw docs/worlds.png: the same initial states in the twin and in three draws of the stand-in.

Run: .venv/bin/python scripts/picture_of_worlds.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rlco.core.scene import InitialState
from rlco.tasks import task
from rlco.worlds.make import make_world

SIDE_PX, CAPTION_PX, GAP_PX = 288, 26, 6
WORLDS = {"digital twin": ("twin", 0)} | {f"stand-in, reality {r}": ("standin", r) for r in range(3)}


def column(domain: str, reality: int, *, states: list[InitialState]) -> np.ndarray:
    """Return one world's pictures of the states, one below the other."""
    options = {"domain": domain, "reality": reality, "num_envs": len(states), "image_size": SIDE_PX}
    with make_world("push-cube", **options) as world:
        observation, _ = world.reset(initial_states=states)
        gap = np.full((GAP_PX, SIDE_PX, 3), 255, dtype=np.uint8)
        return np.concatenate([part for image in observation["image"] for part in (np.array(image), gap)])


def main() -> None:
    """Write the picture."""
    states = task("push-cube").fixed_states(2, seed=0, prefix="picture")
    columns = [column(domain, reality, states=states) for domain, reality in WORLDS.values()]
    size = (len(columns) * (SIDE_PX + GAP_PX) - GAP_PX, CAPTION_PX + columns[0].shape[0] - GAP_PX)
    canvas = Image.new("RGB", size, (255, 255, 255))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for i, (name, pictures) in enumerate(zip(WORLDS, columns, strict=True)):
        left = i * (SIDE_PX + GAP_PX)
        draw.text((left + SIDE_PX / 2, CAPTION_PX / 2), name, fill=(40, 44, 52), font=font, anchor="mm")
        canvas.paste(Image.fromarray(pictures), (left, CAPTION_PX))
    canvas.save(Path(__file__).parent.parent / "docs" / "worlds.png", optimize=True)


if __name__ == "__main__":
    main()
