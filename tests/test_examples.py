"""The reader's twin of Stage II: it runs, and its formulas are the package's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from examples import rlco_one_file as one_file
from rlco.algos import flow, ppo
from rlco.algos.gae import Rollout, gae
from rlco.data.normalise import Normaliser

ROOT = Path(__file__).parents[1]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def drawn(*shape: int, using: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=using)


def small_policy() -> one_file.FlowPolicy:
    torch.manual_seed(0)
    state, action = (Normaliser(low=(-1.0,) * n, high=(1.0,) * n) for n in (one_file.S, one_file.A))
    return one_file.FlowPolicy(state, action)


def features(policy: one_file.FlowPolicy, count: int, *, using: torch.Generator) -> Tensor:
    image = torch.randint(256, (count, 32, 32, 3), generator=using, dtype=torch.uint8)
    state = drawn(count, one_file.S, using=using)
    return policy.features(one_file.see(image, state, ["open the drawer"] * count)).detach()


@pytest.mark.slow
@pytest.mark.sim
def test_the_one_file_runs_and_both_terms_reach_the_gradient() -> None:
    done = subprocess.run(
        [sys.executable, "examples/rlco_one_file.py", "--debug"],
        cwd=ROOT,
        env={**os.environ, "MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if re.match(r"\s+\d+\s", line)]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    # iteration, success, |grad RL|, |beta grad SFT|, real loss, ...; in the first only the critic learns
    assert [float(figure) for figure in rows[0][2:4]] == [0.0, 0.0]
    assert all(float(figure) > 0 for row in rows[1:] for figure in row[2:5])
    reports = re.findall(
        r"success in the twin ([\d.]+), in the stand-in ([\d.]+); held-out real loss ([\d.]+)", done.stdout
    )
    assert len(reports) == 3  # untrained, after Stage I, after Stage II


def test_its_advantages_are_the_packages() -> None:
    using, shape = generator(), (7, 5)
    reward, value, next_value = (drawn(*shape, using=using) for _ in range(3))
    kind = torch.randint(4, shape, generator=using)
    terminated, truncated = kind == 0, kind == 1
    assert terminated.any()
    assert truncated.any()
    ours = one_file.gae(reward, value, next_value, terminated, truncated)
    rollout = Rollout(
        reward=reward,
        value=value,
        next_value=next_value,
        terminated=terminated,
        truncated=truncated,
        is_valid=torch.ones(shape, dtype=torch.bool),
        steps=torch.full(shape, one_file.EXECUTED),
    )
    torch.testing.assert_close(ours, gae(rollout, discount=one_file.DISCOUNT, lam=one_file.LAM))


def test_its_log_probability_is_the_packages() -> None:
    using, shape = generator(), (3, one_file.K, one_file.H, one_file.A)
    chain, mean = drawn(3, one_file.K + 1, one_file.H, one_file.A, using=using), drawn(*shape, using=using)
    std = 0.05 + torch.rand(shape, generator=using)
    counts = one_file.STOCHASTIC_HA
    assert counts.sum() == one_file.EXECUTED * one_file.A
    ours = one_file.chain_log_prob(chain, mean, std, counts)
    torch.testing.assert_close(ours, flow.chain_log_prob(chain, mean, std, counts))


def test_its_flow_loss_and_times_are_the_packages() -> None:
    using = generator()
    velocity, target = (drawn(4, 3, one_file.H, one_file.A, using=using) for _ in range(2))
    counts = (torch.rand(4, one_file.H, generator=using) < 0.6)[..., None].expand(-1, -1, one_file.A)
    torch.testing.assert_close(one_file.flow_loss(velocity, target, counts), flow.flow_loss(velocity, target, counts))
    torch.testing.assert_close(
        one_file.draw_time((4, 3), generator=generator()), flow.draw_time((4, 3), generator=generator())
    )


def test_its_ppo_loss_is_the_packages() -> None:
    using = generator()
    old, advantage = drawn(50, using=using), drawn(50, using=using)
    log_prob = old + 0.3 * drawn(50, using=using)
    theirs = ppo.policy_loss(log_prob, old, advantage, clip=one_file.CLIP)
    loss, kl = one_file.ppo_loss(log_prob, old, advantage)
    assert 0 < float(theirs.clip_fraction) < 1
    torch.testing.assert_close(loss, theirs.loss)
    torch.testing.assert_close(kl, theirs.kl)


def test_a_drawn_chain_is_scored_as_it_was_drawn() -> None:
    using, policy = generator(), small_policy()
    seen, noise = features(policy, 6, using=using), drawn(6, one_file.H, one_file.A, using=using)
    chain, log_prob = one_file.walk(policy, seen, noise, lambda _k, mean, std: mean + std * torch.randn_like(mean))
    again, scored = one_file.walk(policy, seen, noise, lambda k, _mean, _std: chain[:, k + 1])
    torch.testing.assert_close(scored, log_prob, rtol=0, atol=0)
    torch.testing.assert_close(again, chain, rtol=0, atol=0)


def test_a_real_term_that_is_left_out_of_the_loss_is_noticed() -> None:
    using, policy = generator(), small_policy()
    actor, seen = policy.actor_parameters(), features(policy, 4, using=using)
    chunk = drawn(4, one_file.H, one_file.A, using=using)
    demos = {"chunk": chunk, "counts": torch.ones_like(chunk, dtype=torch.bool)}
    chain, log_prob = one_file.walk(policy, seen, chunk, lambda _k, mean, std: mean + std)
    for is_left_out in (False, True):
        _, scored = one_file.walk(policy, seen, chunk, lambda k, _mean, _std: chain[:, k + 1].detach())
        rl, _ = one_file.ppo_loss(scored, log_prob.detach(), torch.tensor([1.0, -1.0, 0.5, 2.0]))
        sft = one_file.sft_loss(policy, seen, demos, generator=using)
        apart = one_file.gradients_apart(rl, one_file.BETA * sft, actor)
        policy.zero_grad()
        (rl if is_left_out else rl + one_file.BETA * sft).backward()
        if is_left_out:
            with pytest.raises(AssertionError, match="is not grad"):
                one_file.require_sum(actor, apart)
        else:
            norms = one_file.require_sum(actor, apart)
            assert min(norms) > 0
