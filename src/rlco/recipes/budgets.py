"""What a task's job spends on each policy that ships pretrained. The tasks' own recipes are written for pi05-nano."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rlco.core.errors import unknown_name
from rlco.policies.exploration import Exploration
from rlco.policies.openvla.exploration import TokenExploration
from rlco.recipes.config import RunConfig
from rlco.train.rl import RLConfig
from rlco.train.sft import SFTConfig


def pi05(config: RunConfig) -> RunConfig:
    """Return the job as its task has it."""
    return replace(config, base="pi05-nano")


def openvla(config: RunConfig) -> RunConfig:
    """Return the job for OpenVLA: a decision lasts two control steps, so there are more, and they look further.

    It explores at temperature 1.5: at 1 it solves the twin from the start, and there is little to recover from. Beta is
    small: at 1 the real term learns 20 demonstrations by heart, and less of what the twin teaches reaches the stand-in.
    """
    rl = RLConfig(
        iterations=40,
        decisions=24,
        epochs=2,
        minibatch=384,
        discount=0.995,
        lam=0.965,
        beta=0.2,
        lr=2e-4,
        lr_warmup=20,
        sft_batch_size=64,
        exploration=Exploration(tokens=TokenExploration(temperature=1.5)),
    )
    return replace(config, base="openvla-nano", real_only=SFTConfig(steps=250), cotraining=SFTConfig(steps=400), rl=rl)


def openvla_oft(config: RunConfig) -> RunConfig:
    """Return the job for OpenVLA answering in chunks: a decision lasts four control steps, as pi05-nano's."""
    job = openvla(config)
    rl = replace(job.rl, decisions=12, minibatch=256, discount=0.99, lam=0.95)
    return replace(job, base="openvla-oft-nano", rl=rl)


BUDGETS: dict[str, Callable[[RunConfig], RunConfig]] = {
    "pi05-nano": pi05,
    "openvla-nano": openvla,
    "openvla-oft-nano": openvla_oft,
}
"""Shipped base -> a task's job for it."""


def budgeted(config: RunConfig, base: str) -> RunConfig:
    """Return the job of ``config``'s task for a shipped base. Raises ``LookupError`` naming the nearest one."""
    if base not in BUDGETS:
        raise unknown_name("pretrained base", base, BUDGETS)
    return BUDGETS[base](config)


def compared(config: RunConfig) -> RunConfig:
    """Return the same job as it is reported: 300 states, and Stage II without the real term beside it."""
    return replace(config, num_states=300, repeats=1, without_real_term=True)


def reduced(config: RunConfig, budget: float) -> RunConfig:
    """Return the same job with ``budget`` times the updates, iterations, generated demonstrations and states.

    Warm-ups shrink with what they warm up.

    Raises ``ValueError`` for a budget that is not in (0, 1].
    """
    if not 0 < budget <= 1:
        raise ValueError(f"A budget must be above 0 and at most 1, got {budget}.")

    def share(count: int) -> int:
        return max(2, round(budget * count))

    def shorter(stage: SFTConfig) -> SFTConfig:
        return replace(stage, steps=share(stage.steps), warmup_steps=round(budget * stage.warmup_steps))

    rl = config.rl
    return replace(
        config,
        sim_demonstrations=share(config.sim_demonstrations),
        real_only=shorter(config.real_only),
        cotraining=shorter(config.cotraining),
        rl=replace(rl, iterations=share(rl.iterations), lr_warmup=round(budget * rl.lr_warmup)),
        num_states=share(config.num_states),
    )


def debug(config: RunConfig) -> RunConfig:
    """Return the same job with so little of everything that it takes seconds; proves nothing."""
    few = SFTConfig(steps=2, batch_size=4, save_every=1, log_every=1)
    return replace(
        config,
        # every nano size has a tiny one beside it
        base=f"untrained:{config.base.removesuffix('nano')}tiny",
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
