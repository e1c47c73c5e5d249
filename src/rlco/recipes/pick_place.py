"""The recipe of pick-place."""

from __future__ import annotations

from rlco.recipes.config import RunConfig
from rlco.recipes.stage_two import STAGE_TWO
from rlco.tasks.pick_place import REAL_OBJECTS
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
        rl=STAGE_TWO,
    )
