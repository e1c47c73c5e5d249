"""The recipe of pick-place."""

from __future__ import annotations

from rlco.recipes.config import RunConfig
from rlco.tasks.pick_place import REAL_OBJECTS
from rlco.train.rl import RLConfig
from rlco.train.sft import SFTConfig


def pick_place_demo() -> RunConfig:
    """The main job within 20 minutes on two CPU cores."""
    return RunConfig(
        task="pick-place",
        real_objects=REAL_OBJECTS,
        real_demonstrations=30,
        sim_demonstrations=300,
        alpha=0.5,
        real_only=SFTConfig(steps=250),
        cotraining=SFTConfig(steps=500),
        rl=RLConfig(iterations=30, beta=2.0, lr=2e-4, lr_warmup=40, sft_batch_size=64),
    )
