"""Recipes of open-drawer and close-drawer."""

from __future__ import annotations

from dataclasses import replace

from rlco.recipes.config import RunConfig
from rlco.recipes.stage_two import STAGE_TWO
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
        rl=STAGE_TWO,
    )


def close_drawer_demo() -> RunConfig:
    """The main job within 20 minutes on two CPU cores."""
    return replace(open_drawer_demo(), task="close-drawer")
