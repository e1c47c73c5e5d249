"""From experience to how much better than expected each decision was: PPO's way and GRPO's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlco.algos.gae import explained_variance, gae
from rlco.algos.grpo import group_advantage, is_informative
from rlco.algos.ppo import normalised
from rlco.rollout.collect import Experience
from rlco.train.rl_config import Algorithm, RLConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What an iteration's decisions are worth. Flat: row t * E + e of the experience."""

    advantage: Float[Tensor, " N"]
    target: Float[Tensor, " N"]
    """Of the critic."""
    is_kept: Bool[Tensor, " N"]
    """Whether anything is to be learnt from the decision."""
    figures: Mapping[str, float]


def by_critic(experience: Experience, config: RLConfig) -> Judgement:
    """Return generalised advantages, normalised over all valid decisions of the iteration at once."""
    rollout = experience.rollout
    advantage = gae(rollout, discount=config.discount, lam=config.lam, discount_per=config.discount_per).flatten()
    value, valid = rollout.value.flatten(), rollout.is_valid.flatten()
    target = advantage + value
    figures = {
        "rl/explained_variance": explained_variance(value[valid], target[valid]),
        "rl/value": float(value[valid].mean()),
    }
    scaled = torch.zeros_like(advantage)
    scaled[valid] = normalised(advantage[valid])
    return Judgement(advantage=scaled, target=target, is_kept=valid, figures=figures)


def by_group(experience: Experience, config: RLConfig) -> Judgement:
    """Return each episode's advantage over the others from its start, for all of its decisions alike.

    Groups in which all episodes score the same are left out: they prefer nothing.
    """
    rollout, round_of = experience.rollout, experience.round_of
    assert round_of is not None, "groups need whole episodes"
    rounds, environments = int(round_of.max()) + 1, rollout.reward.shape[1]
    played = torch.zeros(rounds, environments)
    score = played.index_add(0, round_of, rollout.reward * rollout.is_valid)
    is_valid = played.index_add(0, round_of, rollout.is_valid.float()) > 0
    groups = (score.unflatten(1, (-1, config.group_size)).flatten(0, 1), is_valid.view(-1, config.group_size))
    advantage = group_advantage(*groups).view(rounds, environments)[round_of].flatten()
    informative = is_informative(*groups)
    kept = informative[:, None].expand_as(groups[1]).reshape(rounds, environments)[round_of] & rollout.is_valid
    return Judgement(
        advantage=advantage,
        target=torch.zeros_like(advantage),
        is_kept=kept.flatten(),
        figures={"rl/informative_groups": float(informative.float().mean())},
    )


JUDGES: Mapping[Algorithm, Callable[[Experience, RLConfig], Judgement]] = {"ppo": by_critic, "grpo": by_group}
