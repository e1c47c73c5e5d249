"""Recipes of open-drawer and close-drawer."""

from __future__ import annotations

from dataclasses import replace

from rlco.recipes.config import RunConfig
from rlco.train.rl import RLConfig
from rlco.train.sft import SFTConfig


def open_drawer_demo() -> RunConfig:
    """The main job within 20 minutes on two CPU cores."""
    return RunConfig(
        task="open-drawer",
        real_demonstrations=20,
        sim_demonstrations=300,
        alpha=0.5,
        real_only=SFTConfig(steps=250),
        cotraining=SFTConfig(steps=500),
        rl=RLConfig(iterations=30, beta=2.0, lr=2e-4, lr_warmup=40, sft_batch_size=64),
    )


def close_drawer_demo() -> RunConfig:
    """The main job within 20 minutes on two CPU cores."""
    return replace(open_drawer_demo(), task="close-drawer")
