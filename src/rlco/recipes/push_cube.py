"""The recipe of push-cube."""

from __future__ import annotations

from rlco.recipes.config import RunConfig
from rlco.recipes.stage_two import STAGE_TWO
from rlco.tasks.push_cube import REAL_COLOURS
from rlco.train.sft import SFTConfig


def push_cube_demo() -> RunConfig:
    """The main job within 20 minutes on two CPU cores."""
    return RunConfig(
        task="push-cube",
        real_objects=REAL_COLOURS,
        real_demonstrations=20,
        sim_demonstrations=300,
        alpha=0.5,
        real_only=SFTConfig(steps=250),
        cotraining=SFTConfig(steps=500),
        rl=STAGE_TWO,
    )
