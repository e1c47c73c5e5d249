"""The reader's twin of RL-Co: it runs, and its formulas are the package's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from examples import rlco_one_file as one_file
from rlco.algos import flow, ppo
from rlco.algos.gae import Rollout, gae
from rlco.core.policy import Batch, Observation
from rlco.policies.checkpoint import base_policy
from rlco.policies.pi.network import Prefix
from rlco.policies.pi.policy import PiPolicy

ROOT = Path(__file__).parents[1]
gae_of_the_file = one_file.gae


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def drawn(*shape: int, using: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=using)


@pytest.fixture
def policy() -> one_file.Policy:
    torch.manual_seed(0)
    base = base_policy(one_file.BASE)
    assert isinstance(base, PiPolicy)
    return one_file.Policy(base)


def observation(count: int, *, using: torch.Generator) -> Observation:
    return Observation(
        image=torch.randint(256, (count, 96, 96, 3), generator=using, dtype=torch.uint8),
        state=0.3 * drawn(count, 8, using=using),
        instruction=("push the pink cube",) * count,
    )


def demonstrations(count: int, *, using: torch.Generator) -> Batch:
    action = 0.02 * drawn(count, one_file.H, one_file.ACTION, using=using)
    is_pad = torch.arange(one_file.H).expand(count, -1) >= torch.randint(2, one_file.H, (count, 1), generator=using)
    return Batch(observation=observation(count, using=using), action=action, is_pad=is_pad)


def seen_by(policy: one_file.Policy, count: int, *, using: torch.Generator) -> Prefix:
    with torch.no_grad():
        return policy.see(observation(count, using=using))


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
    assert [line.split()[0] for line in done.stdout.splitlines() if re.match(r"\s+\d+\s", line)] == ["1", "2", "3"]
    # only printed when the gradient was seen to be the sum of the two
    norms = re.findall(r"gradient norms of the first update: RL ([\d.]+), beta SFT ([\d.]+)", done.stdout)
    assert len(norms) == 1
    assert min(float(norm) for norm in norms[0]) > 0
    reports = re.findall(r"success in the twin ([\d.]+), in the stand-in ([\d.]+)", done.stdout)
    assert len(reports) == 3  # pretrained, after Stage I, after Stage II


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
    assert counts.sum() == one_file.EXECUTED * one_file.ACTION
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


def test_its_supervised_loss_of_demonstrations_is_the_packages(policy: one_file.Policy) -> None:
    batch = demonstrations(5, using=generator())
    base = base_policy(one_file.BASE)
    base.config = replace(base.config, flow_copies=one_file.FLOW_COPIES)
    with torch.no_grad():
        prefix, chunks = policy.see(batch.observation), one_file.chunks_of(policy, batch)
        ours = one_file.sft_loss(policy, prefix, chunks, generator=generator())
        theirs = base.loss(batch, generator=generator()).mean()
    torch.testing.assert_close(ours, theirs)


def test_without_noise_it_acts_as_the_package_does(policy: one_file.Policy) -> None:
    using = generator()
    seen, noise = observation(3, using=using), drawn(3, one_file.H, one_file.A, using=using)
    with torch.no_grad():
        chain, _ = one_file.walk(policy, policy.see(seen), noise, lambda _k, mean, _std: mean)
        theirs = base_policy(one_file.BASE).sample(seen, explore=False, generator=using, noise=noise)
    ours = torch.from_numpy(one_file.actions_of(policy, chain))
    torch.testing.assert_close(ours, theirs.action[:, : one_file.EXECUTED])


def test_a_drawn_chain_is_scored_as_it_was_drawn(policy: one_file.Policy) -> None:
    using = generator()
    seen, noise = seen_by(policy, 6, using=using), drawn(6, one_file.H, one_file.A, using=using)
    z, draws = drawn(one_file.K, 6, one_file.H, one_file.A, using=using), []

    def draw(k: int, mean: Tensor, std: Tensor) -> Tensor:
        draws.append(mean + std * z[k])
        return draws[-1]

    chain, log_prob = one_file.walk(policy, seen, noise, draw)
    counts = one_file.STOCHASTIC_HA
    torch.testing.assert_close(chain[:, 1:, counts], torch.stack(draws, 1)[:, :, counts], rtol=0, atol=0)
    again, scored = one_file.walk(policy, seen, noise, lambda k, _mean, _std: chain[:, k + 1])
    torch.testing.assert_close(scored, log_prob, rtol=0, atol=0)
    torch.testing.assert_close(again, chain, rtol=0, atol=0)


def test_noise_and_critic_carry_no_gradient_into_what_they_read(policy: one_file.Policy) -> None:
    seen = seen_by(policy, 2, using=generator())
    features = drawn(2, one_file.H, 128, using=generator()).requires_grad_()
    summary = seen.summary.clone().requires_grad_()
    (policy.std(features).sum() + policy.value(replace(seen, summary=summary)).sum()).backward()
    assert features.grad is None
    assert summary.grad is None


class ScriptedWorld:
    """Environment 0 succeeds in the first chunk, 1 runs out of time in the second; every picture is another."""

    num_envs = 3

    def __init__(self) -> None:
        self.using, self.decisions = generator(), 0
        self.shown: list[Observation] = []

    def show(self, kept: np.ndarray | None = None) -> dict[str, Any]:
        new = observation(self.num_envs, using=self.using)
        if kept is not None:  # what has not ended is seen as before
            new.image[torch.from_numpy(kept)] = self.shown[-1].image[torch.from_numpy(kept)]
            new.state[torch.from_numpy(kept)] = self.shown[-1].state[torch.from_numpy(kept)]
        self.shown.append(new)
        return {"image": new.image.numpy(), "state": new.state.numpy(), "instruction": list(new.instruction)}

    def reset(self, *, mask: np.ndarray | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.show(None if mask is None else ~mask), {}

    def step_chunk(self, actions: np.ndarray) -> tuple[Any, ...]:
        assert actions.shape == (self.num_envs, one_file.EXECUTED, 7)
        won, late = (np.zeros((self.num_envs, one_file.EXECUTED), dtype=bool) for _ in range(2))
        won[0, 2], late[1, 3] = self.decisions == 0, self.decisions == 1
        self.decisions += 1
        return self.show(), won.astype(np.float32), won, late, {"lost": np.zeros(self.num_envs, dtype=bool)}


def test_an_episode_that_ends_is_judged_by_its_last_picture_and_the_next_begins_with_its_own(
    policy: one_file.Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_file, "NUM_ENVS", 3)
    monkeypatch.setattr(one_file, "DECISIONS", 3)
    judged: list[tuple[Tensor, ...]] = []
    monkeypatch.setattr(one_file, "gae", lambda *columns: judged.append(columns) or gae_of_the_file(*columns))
    world: Any = ScriptedWorld()
    with torch.no_grad():
        seen = policy.see(one_file.look(world.reset()[0]))
        prefix, decisions, after, _ = one_file.collect(world, policy, seen, generator=generator())
        # shown: 0 at first, 1 after decision 0, 2 with the reset of 0, 3 after decision 1, 4 with that of 1, 5
        value = [policy.value(policy.see(shown)) for shown in world.shown]
    reward, was, following, terminated, truncated = judged[0]
    torch.testing.assert_close(was, torch.stack([value[0], value[2], value[4]]))
    torch.testing.assert_close(following, torch.stack([value[1], value[3], value[5]]))
    assert terminated.nonzero().tolist() == [[0, 0]]
    assert truncated.nonzero().tolist() == [[1, 1]]
    assert reward.nonzero().tolist() == [[0, 0]]
    torch.testing.assert_close(policy.value(prefix), was.flatten())
    torch.testing.assert_close(policy.value(after), value[5])
    torch.testing.assert_close(decisions.target, (gae_of_the_file(*judged[0]) + was).flatten())


def test_stage_two_leaves_the_prefix_alone_and_reaches_all_the_rest(policy: one_file.Policy) -> None:
    using = generator()
    batch = demonstrations(4, using=using)
    with torch.no_grad():
        prefix = policy.see(batch.observation)
    _, log_prob = one_file.walk(policy, prefix, drawn(4, one_file.H, one_file.A, using=using), partial(_shifted, 0.1))
    real = one_file.sft_loss(policy, prefix, one_file.chunks_of(policy, batch), generator=using)
    (log_prob.mean() + real + policy.value(prefix).mean()).backward()
    reached = {name for name, p in policy.named_parameters() if p.grad is not None}
    learns = {id(p) for p in [*policy.actor_parameters(), *policy.critic.parameters()]}
    assert reached == {name for name, p in policy.named_parameters() if id(p) in learns}
    assert not any("paligemma." in name or "grounding" in name for name in reached)


def test_a_real_term_that_is_left_out_of_the_loss_is_noticed(policy: one_file.Policy) -> None:
    using, actor = generator(), policy.actor_parameters()
    batch = demonstrations(4, using=using)
    with torch.no_grad():
        seen, noise = policy.see(batch.observation), drawn(4, one_file.H, one_file.A, using=using)
        chain, log_prob = one_file.walk(policy, seen, noise, partial(_shifted, 1.0))
    _, scored = one_file.walk(policy, seen, noise, lambda k, _mean, _std: chain[:, k + 1])
    rl, _ = one_file.ppo_loss(scored, log_prob, torch.tensor([1.0, -1.0, 0.5, 2.0]))
    real = one_file.BETA * one_file.sft_loss(policy, seen, one_file.chunks_of(policy, batch), generator=using)
    critic = policy.value(seen).mean()
    assert min(one_file.require_sum(rl + real + critic, rl, real, actor)) > 0
    with pytest.raises(AssertionError, match="is not grad"):
        one_file.require_sum(rl + critic, rl, real, actor)


def _shifted(by: float, _k: int, mean: Tensor, std: Tensor) -> Tensor:
    return mean + by * std
