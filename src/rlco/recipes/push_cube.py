"""Recipes of push-cube."""

from __future__ import annotations

from dataclasses import replace

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


def push_cube_pi05_nano() -> RunConfig:
    """The main result: 300 states, and Stage II without the real term beside it."""
    return replace(push_cube_demo(), num_states=300, repeats=1, without_real_term=True)


def push_cube_pi05_nano_debug() -> RunConfig:
    """Every stage in seconds; proves nothing."""
    return debug(push_cube_demo())


def debug(config: RunConfig) -> RunConfig:
    """Return the same run with so little of everything that it takes seconds."""
    few = SFTConfig(steps=2, batch_size=4, save_every=1, log_every=1)
    return replace(
        config,
        base="untrained:pi05-tiny",
        image_size=32,
        real_demonstrations=2,
        sim_demonstrations=2,
        real_only=few,
        cotraining=few,
        rl=RLConfig(iterations=2, num_envs=2, decisions=2, minibatch=4, sft_batch_size=4, save_every=1),
        num_states=2,
        repeats=1,
        num_envs=2,
    )
