"""Recipes of pick-place."""

from __future__ import annotations

from dataclasses import replace

from rlco.recipes.config import RunConfig
from rlco.recipes.push_cube import debug
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


def pick_place_pi05_nano() -> RunConfig:
    """300 states, and Stage II without the real term beside it."""
    return replace(pick_place_demo(), num_states=300, repeats=1, without_real_term=True)


def pick_place_pi05_nano_debug() -> RunConfig:
    """Every stage in seconds; proves nothing."""
    return debug(pick_place_demo())
