"""Stage II at the smallest size, for the tests of this folder."""

from __future__ import annotations

import torch

from rlco.rollout.collect import Collector
from rlco.rollout.groups import GroupCollector
from rlco.train.real_term import RealTerm
from rlco.train.rl import StageTwo
from rlco.train.rl_config import RLConfig
from tests.train.fakes import CountingWorld, PayingWorld, start
from tests.train.samples import demonstrations, small


def config(**changes: object) -> RLConfig:
    """Return a configuration that runs in a second."""
    small = {"iterations": 4, "num_envs": 4, "decisions": 4, "minibatch": 8, "sft_batch_size": 6, "critic_warmup": 0}
    return RLConfig(**{**small, "group_size": 2, "save_every": 1, "kl_stop": 1e9, **changes})


def stage(cfg: RLConfig, *, world: CountingWorld | None = None, kind: str = "pi05-tiny") -> StageTwo:
    """Return Stage II of a tiny policy in a world of arithmetic."""
    policy, world = small(kind), world or CountingWorld()
    cfg.prepare(policy)
    shown, size = demonstrations(horizon=policy.horizon), cfg.sft_batch_size
    real = RealTerm(policy, shown, batch_size=size, jitter=None, seed=0) if cfg.beta else None
    if cfg.algo == "grpo":
        return StageTwo(policy, GroupCollector(world, group_size=cfg.group_size, starts=start), real, cfg)
    return StageTwo(policy, Collector(world), real, cfg)


def gradients(two: StageTwo, *, term: str = "total") -> list[torch.Tensor]:
    """Return the gradient of the total loss of one fixed minibatch, or of a term of it, per actor parameter."""
    experience = two.collector.collect(two.policy, decisions=two.config.decisions, generator=two.generator)
    data, _ = two._learnable(experience)
    two.generator.manual_seed(5)
    found = torch.autograd.grad(getattr(two.loss(data), term), two.actor, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, two.actor, strict=True)]


def require_gradient_identity(kind: str = "pi05-tiny", **changes: object) -> None:
    """Assert that the real term adds beta grad(sft) to every actor parameter's gradient, and that no term's is 0."""
    beta = 0.7

    def fresh(beta: float) -> StageTwo:
        return stage(config(beta=beta, **changes), world=PayingWorld(), kind=kind)

    both, without, rl = gradients(fresh(beta)), gradients(fresh(0.0)), gradients(fresh(0.0), term="rl")
    repeat = stage(config(beta=beta, **changes), kind=kind)
    assert repeat.real_term is not None
    repeat.generator.manual_seed(5)
    sft = torch.autograd.grad(repeat.real_term.loss(generator=repeat.generator), repeat.actor, allow_unused=True)
    assert any(g is not None and g.norm() > 1e-4 for g in sft)
    assert any(g.norm() > 1e-4 for g in rl)
    for a, b, c in zip(both, without, sft, strict=True):
        expected = beta * c if c is not None else torch.zeros_like(a)
        torch.testing.assert_close(a - b, expected, atol=2e-5, rtol=1e-3)
