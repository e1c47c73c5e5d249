"""The recipe of push-cube."""

from __future__ import annotations

from rlco.recipes.config import RunConfig
from rlco.tasks.push_cube import REAL_COLOURS
from rlco.train.rl import RLConfig
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
        rl=RLConfig(iterations=30, beta=2.0, lr=2e-4, sft_batch_size=64),
    )
