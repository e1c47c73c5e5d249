"""RL-Co on a flow-matching policy, in one file. Read it from top to bottom.

RL-Co (arXiv 2602.12628) post-trains a robot policy that is already pretrained, in two stages:

    Stage I    L = alpha L_SFT(D_sim) + (1 - alpha) L_SFT(D_real)    supervised, on demonstrations of both worlds
    Stage II   L = L_RL(simulation) + beta L_SFT(D_real)             reinforcement learning in the digital twin,
                                                                     held to reality by the real demonstrations

From ``rlco`` come the worlds, the demonstrations (20 real ones, and those generated from them in the twin) and the
pretrained network, a small pi0.5: images, words and state become a *prefix*; an action expert reads it and tells the
velocity of a noisy action chunk. All that makes it learn is in this file: the flow-matching loss, exploration by
Flow-Noise (piRL), advantages of action chunks, PPO, the critic, and the real term. Only the package has exact
resumption, lost workers, other algorithms and controls. A test holds the formulas here to those of ``rlco.algos``.

    python examples/rlco_one_file.py             24 minutes, seen with one thread on two cores that others kept busy
    python examples/rlco_one_file.py --debug     the same in seconds, too short to learn anything

Seen in one run with the base before the shipped one, one seed, 150 starts: success in the stand-in .01 pretrained, .49
after Stage I, .97 after Stage II; in the twin .01, .73, .97. Stage II shows no gain in its first ten iterations, and
rises from then on.
"Real" means the stand-in, a second simulated world of another look and other dynamics. No robot is attached.

Letters: B batch, N noisy copies of a chunk, T decisions, E environments, K denoising steps, H horizon, A action
dimension. ``x_BHA`` is a tensor with these axes.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: spinning threads starve the simulators

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import rlco
from rlco.core.policy import Batch, Observation
from rlco.data.augment import ColourJitter
from rlco.data.chunks import ChunkDataset
from rlco.data.reader import Dataset
from rlco.demos.generate import GenerateConfig, generate_demonstrations
from rlco.demos.record import RecordConfig, record_demonstrations
from rlco.policies.checkpoint import base_policy
from rlco.policies.pi.network import Prefix
from rlco.policies.pi.policy import PiPolicy
from rlco.tasks import task
from rlco.tasks.push_cube import REAL_COLOURS
from rlco.worlds.world import World

DEBUG = "--debug" in sys.argv

# The job: push the cube that the instruction names, out of three. Two of the five colours are never seen in reality.
TASK = "push-cube"
REAL, SIM = (2, 2) if DEBUG else (20, 300)  # demonstrations
EPISODES = 2 if DEBUG else 150  # of an evaluation, on fixed starts

# The network, as it was pretrained
BASE = "pi05-nano"
H, EXECUTED = 8, 4  # predicts 8 control steps (1.6 s), executes 4, then looks again
K = 4  # denoising steps
ACTION, A = 7, 8  # dimensions of an action; padded

# Stage I
STEPS_1 = 2 if DEBUG else 500
BATCH, FLOW_COPIES = 64, 4
LR_1, WARMUP_1 = 5e-4, 20
ALPHA = 0.5  # probability that a sample is simulated

# Stage II
ITERATIONS, CRITIC_ONLY = (3, 1) if DEBUG else (30, 1)  # in the first iteration only the critic learns
NUM_ENVS, DECISIONS = (2, 4) if DEBUG else (64, 12)  # per iteration; one decision is one executed action chunk
EPOCHS, MINIBATCH = 2, 4 if DEBUG else 256
NOISE_STD, NOISE_STD_START = (0.03, 0.2), 0.12  # bounds of the learned exploration noise, in normalised action units
LOW, HIGH = (math.log(std) for std in NOISE_STD)
CLIP, KL_STOP = 0.2, 0.1  # a log-probability is a sum over K * EXECUTED * ACTION entries: small steps move it far
DISCOUNT, LAM = 0.99, 0.95  # per decision
BETA, REAL_BATCH = 2.0, 64
LR_2, LR_CRITIC = 2e-4, 1e-3

Table = TypeVar("Table")  # a dataclass of tensors with one first axis


def by_column(function: Callable[..., Tensor], *tables: Table) -> Table:
    """Return the table whose every column is ``function`` of that column of ``tables``."""
    columns: Any = fields(tables[0])  # type: ignore[arg-type]
    return type(tables[0])(**{c.name: function(*(getattr(table, c.name) for table in tables)) for c in columns})


def rows(table: Table, index: Tensor) -> Table:
    return by_column(lambda column: column[index], table)


class Policy(nn.Module):
    """The pretrained network, and the two heads that reinforcement learning needs beside it."""

    def __init__(self, base: PiPolicy) -> None:
        super().__init__()
        self.network, self.read, self.codec = base.network, base.preprocessor, base.codec
        last = nn.Linear(64, A)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, math.atanh(2 * (math.log(NOISE_STD_START) - LOW) / (HIGH - LOW) - 1))
        self.to_std = nn.Sequential(nn.Linear(base.config.expert.width, 64), nn.Tanh(), last)
        features = nn.Linear(base.network.summary_dim + base.config.model_state_dim, 256)
        self.critic = nn.Sequential(features, nn.SiLU(), nn.Linear(256, 128), nn.SiLU(), nn.Linear(128, 1))

    def see(self, observation: Observation) -> Prefix:
        """Return what the expert and the critic read of an observation: keys and values, and a summary."""
        return self.network.prefix(self.read(observation))

    def std(self, features: Tensor) -> Tensor:
        """Return the exploration noise's deviation. Detached: how to explore does not shape what is done."""
        return torch.exp(LOW + 0.5 * (1 + torch.tanh(self.to_std(features.detach()))) * (HIGH - LOW))

    def value(self, prefix: Prefix) -> Tensor:
        """Return V(s). Detached: a critic that starts from nothing would destroy the features."""
        summary = F.layer_norm(prefix.summary.detach(), prefix.summary.shape[1:])
        return self.critic(torch.cat([summary, prefix.state.clamp(-1.5, 1.5)], dim=1)).squeeze(1)

    def actor_parameters(self) -> list[nn.Parameter]:
        """Return what Stage II trains beside the critic. The prefix stays as it is, and is computed once a picture."""
        frozen = {id(parameter) for parameter in self.network.prefix_parameters()}
        return [p for p in self.network.parameters() if id(p) not in frozen] + list(self.to_std.parameters())


def draw_time(shape: tuple[int, ...], *, generator: torch.Generator) -> Tensor:
    """Return t = 0.999 Beta(1.5, 1) + 0.001: more often near the noise at t = 1 (pi0, appendix B)."""
    return 0.999 * torch.rand(shape, generator=generator) ** (1 / 1.5) + 0.001


def flow_loss(velocity_BNHA: Tensor, target_BNHA: Tensor, counts_BHA: Tensor) -> Tensor:
    """Return |v(x_t, t) - (noise - action)|^2 of each sample, mean over what is not padding."""
    error_BHA = (velocity_BNHA - target_BNHA).square().mean(1)
    return (error_BHA * counts_BHA).sum((1, 2)) / counts_BHA.sum((1, 2)).clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """The H actions that a demonstration has after each of B observations."""

    action: Tensor  # BHA, normalised and padded
    counts: Tensor  # BHA, False after the demonstration's end and where A is padding


def chunks_of(policy: Policy, batch: Batch) -> Chunks:
    is_action_A = torch.arange(A) < ACTION
    action_BHA = F.pad(policy.codec.action.do(batch.action), (0, A - ACTION))
    return Chunks(action=action_BHA, counts=~batch.is_pad[..., None] & is_action_A)


def sft_loss(policy: Policy, prefix: Prefix, chunks: Chunks, *, generator: torch.Generator) -> Tensor:
    """Return L_SFT: learn the straight way x_t = t noise + (1 - t) action (pi0, eq. 1). Scalar."""
    t_BN = draw_time((len(chunks.action), FLOW_COPIES), generator=generator)
    noise_BNHA = torch.randn(*t_BN.shape, H, A, generator=generator)
    t, action_B1HA = t_BN[..., None, None], chunks.action[:, None]
    velocity_BNHA, _ = policy.network.expert(t * noise_BNHA + (1 - t) * action_B1HA, t_BN, prefix)
    return flow_loss(velocity_BNHA, noise_BNHA - action_B1HA, chunks.counts).mean()


def stage_one(policy: Policy, sim: ChunkDataset, real: ChunkDataset, *, generator: torch.Generator) -> None:
    """L = alpha L_SFT(D_sim) + (1 - alpha) L_SFT(D_real) (RL-Co, eq. 7): a sample is of D_sim with chance alpha."""
    parameters, jitter = list(policy.network.parameters()), ColourJitter()
    optimiser = torch.optim.AdamW(parameters, lr=LR_1, betas=(0.9, 0.95), weight_decay=1e-4)
    for step in range(STEPS_1):
        cosine = 0.1 + 0.45 * (1 + math.cos(math.pi * step / STEPS_1))
        optimiser.param_groups[0]["lr"] = LR_1 * min((step + 1) / WARMUP_1, cosine)
        num_sim = int((torch.rand(BATCH, generator=generator) < ALPHA).sum())
        losses = []
        for demos, count in ((sim, num_sim), (real, BATCH - num_sim)):
            batch = demos.batch(torch.randint(len(demos), (count,), generator=generator).numpy())
            image = jitter(batch.observation.image, generator=generator)
            prefix = policy.see(replace(batch.observation, image=image))
            losses.append(count / BATCH * sft_loss(policy, prefix, chunks_of(policy, batch), generator=generator))
        loss = torch.stack(losses).sum()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if (step + 1) % 100 == 0 or step + 1 == STEPS_1:
            print(f"  update {step + 1:4d}: flow loss {loss.item():.3f}", flush=True)


STOCHASTIC_HA = (torch.arange(H) < EXECUTED)[:, None] & (torch.arange(A) < ACTION)  # where noise means something


def chain_log_prob(chain: Tensor, mean: Tensor, std: Tensor, counts_HA: Tensor) -> Tensor:
    """Return log p(x_1 .. x_K | x_0), B: each step is Gaussian (piRL, eq. 5). ``chain``: B K+1 H A; the others BKHA.

    A flow has no cheap density of its final action; the chain of noisy steps that led there has one in closed form.
    """
    density = -0.5 * ((chain[:, 1:] - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
    return (density * counts_HA).sum((1, 2, 3))


def walk(
    policy: Policy, prefix: Prefix, noise_BHA: Tensor, drawn: Callable[[int, Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Go from noise to actions in K steps x - v(x, t) / K; return the chain (B K+1 H A) and its log-probability.

    ``drawn(k, mean, std)`` gives the executed entries of the next x. Drawing and scoring both come here: what was drawn
    is scored by the same computation, so that PPO's first ratio is 1. Entries that are not executed follow the flow.
    """
    x, chain, means, stds = noise_BHA, [noise_BHA], [], []
    for k in range(K):
        velocity_B1HA, features = policy.network.expert(x[:, None], torch.full((1, 1), 1 - k / K), prefix)
        mean, std = x - velocity_B1HA[:, 0] / K, policy.std(features[:, 0])
        x = torch.where(STOCHASTIC_HA, drawn(k, mean, std), mean)
        chain, means, stds = [*chain, x], [*means, mean], [*stds, std]
    steps = torch.stack(chain, 1)
    return steps, chain_log_prob(steps, torch.stack(means, 1), torch.stack(stds, 1), STOCHASTIC_HA)


def actions_of(policy: Policy, chain: Tensor) -> np.ndarray:
    """Return the executed actions at the end of a chain, in SI units: what ``World.step_chunk`` takes."""
    return policy.codec.action.undo(chain[:, -1, :EXECUTED, :ACTION]).numpy()


def gae(reward: Tensor, value: Tensor, next_value: Tensor, terminated: Tensor, truncated: Tensor) -> Tensor:
    """Return A_t = sum_k (DISCOUNT LAM)^k delta_{t+k}, cut where an episode ends (arXiv 1506.02438, eq. 16). All TE.

    After success there is nothing more to win: bootstrap with 0. Where only the clock ran out, the world would have
    gone on: bootstrap with V of the last picture.
    """
    delta_TE = reward + DISCOUNT * torch.where(terminated, 0.0, next_value) - value
    advantage_TE, following_E = torch.zeros_like(delta_TE), torch.zeros_like(delta_TE[0])
    for t in reversed(range(len(delta_TE))):
        following_E = delta_TE[t] + DISCOUNT * LAM * following_E * ~(terminated[t] | truncated[t])
        advantage_TE[t] = following_E
    return advantage_TE


def ppo_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor) -> tuple[Tensor, Tensor]:
    """Return -E[min(r A, clip(r) A)] (arXiv 1707.06347, eq. 7) and an estimate of KL(old || new)."""
    log_ratio = (log_prob - old_log_prob).clamp(-20, 20)  # exp() overflows above 88
    ratio = log_ratio.exp()
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
    return -surrogate.mean(), (ratio - 1 - log_ratio).mean().detach()


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """Chunks that were drawn and executed, row t * E + e, and what they were worth."""

    chain: Tensor
    log_prob: Tensor
    advantage: Tensor  # mean 0, deviation 1
    target: Tensor  # of the critic


def look(raw: dict[str, Any]) -> Observation:
    """Return what a world shows now. Its arrays are written again at the next step: encode it before."""
    image, state = torch.from_numpy(raw["image"]), torch.from_numpy(raw["state"])
    return Observation(image=image, state=state, instruction=tuple(raw["instruction"]))


@torch.no_grad()
def collect(
    world: World, policy: Policy, seen: Prefix, *, generator: torch.Generator
) -> tuple[Prefix, Decisions, Prefix, str]:
    """Let the policy explore for T decisions in E environments, from what is ``seen`` there now.

    Returns what was seen, what was decided on it, what is seen now, and figures for the log.
    """
    prefixes, steps = [], []
    for _ in range(DECISIONS):
        noise = torch.randn(K + 1, NUM_ENVS, H, A, generator=generator)
        chain, log_prob = walk(policy, seen, noise[K], lambda k, mean, std, z=noise: mean + std * z[k])
        value_E, prefixes = policy.value(seen), [*prefixes, seen]
        raw, reward, terminated, truncated, info = world.step_chunk(actions_of(policy, chain))
        assert not info["lost"].any(), "a simulator process died; the package would mask its decisions"
        # E x 4 control steps become one decision; steps after an episode's end are not run and pay nothing
        reward_E, terminated_E = torch.from_numpy(reward).float().sum(1), torch.from_numpy(terminated.any(1))
        truncated_E = torch.from_numpy(truncated.any(1)) & ~terminated_E
        seen = policy.see(look(raw))
        next_value_E = policy.value(seen)  # of the last picture, before any reset
        steps.append((chain, log_prob, reward_E, value_E, next_value_E, terminated_E, truncated_E))
        ended_E = terminated_E | truncated_E
        if ended_E.any():
            begun = policy.see(look(world.reset(mask=ended_E.numpy())[0]).select(ended_E))
            seen = by_column(lambda now, new, where=ended_E: now.index_put((where,), new), seen, begun)
    chain, log_prob, *judged = (torch.stack(column) for column in zip(*steps, strict=True))
    advantage, (value, _, terminated, truncated) = gae(*judged).flatten(), judged[1:]
    target, scaled = advantage + value.flatten(), (advantage - advantage.mean()) / (advantage.std() + 1e-5)
    decisions = Decisions(chain=chain.flatten(0, 1), log_prob=log_prob.flatten(), advantage=scaled, target=target)
    figures = f"{int(terminated.sum()):5d}  {int(truncated.sum()):11d}  {1 - advantage.var() / target.var():9.2f}"
    return by_column(lambda *parts: torch.cat(parts), *prefixes), decisions, seen, figures


def rl_losses(policy: Policy, prefix: Prefix, batch: Decisions) -> tuple[Tensor, Tensor, Tensor]:
    """Return PPO's loss, the critic's, and the KL estimate, of decisions that were drawn with older weights."""
    _, log_prob = walk(policy, prefix, batch.chain[:, 0], lambda k, _mean, _std: batch.chain[:, k + 1])
    rl, kl = ppo_loss(log_prob, batch.log_prob, batch.advantage)
    return rl, F.smooth_l1_loss(policy.value(prefix), batch.target), kl


def require_sum(total: Tensor, rl: Tensor, real_term: Tensor, parameters: list[nn.Parameter]) -> tuple[float, float]:
    """Assert grad(total) = grad(RL) + beta grad(SFT), and return the norms of the two.

    A real term that is added to the log and not to the loss trains without a word; here it stops the run.
    """
    gradient = partial(torch.autograd.grad, inputs=parameters, retain_graph=True, materialize_grads=True)
    grads = (gradient(term) for term in (total, rl, real_term))
    both, of_rl, of_real = (torch.cat([g.flatten() for g in grad]) for grad in grads)
    error = float((both - of_rl - of_real).norm() / both.norm())
    assert error < 1e-4, f"the gradient is not grad(RL) + beta grad(SFT): off by {error:.1e} of its norm"
    return float(of_rl.norm()), float(of_real.norm())


def stage_two(policy: Policy, world: World, real: ChunkDataset, *, generator: torch.Generator) -> None:
    """L = L_RL(twin) + beta L_SFT(D_real) (RL-Co, eq. 8), on fresh experience in every iteration."""
    actor = policy.actor_parameters()
    groups = [{"params": actor, "lr": LR_2}, {"params": policy.critic.parameters(), "lr": LR_CRITIC}]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0)
    everything = real.batch(np.arange(len(real)))
    real_chunks = chunks_of(policy, everything)
    with torch.no_grad():
        real_prefix, seen = policy.see(everything.observation), policy.see(look(world.reset()[0]))
    print("  iteration    won  out of time  explained  updates  KL at most  real loss  seconds")
    for iteration in range(1, ITERATIONS + 1):
        began, updates, kl_max, sft_sum = time.perf_counter(), 0, 0.0, 0.0
        prefix, decisions, seen, figures = collect(world, policy, seen, generator=generator)
        order = torch.cat([torch.randperm(len(decisions.chain), generator=generator) for _ in range(EPOCHS)])
        for index in order.split(MINIBATCH):
            rl, critic_loss, kl = rl_losses(policy, rows(prefix, index), rows(decisions, index))
            kl_max = max(kl_max, float(kl))
            assert updates > 0 or kl < 1e-4, f"what was just drawn is scored differently: KL {kl:.1e}"
            if kl > KL_STOP:
                break
            demo = torch.randint(len(real), (REAL_BATCH,), generator=generator)
            sft = sft_loss(policy, rows(real_prefix, demo), rows(real_chunks, demo), generator=generator)
            updates, sft_sum = updates + 1, sft_sum + sft.item()
            total = rl + BETA * sft + critic_loss if iteration > CRITIC_ONLY else critic_loss  # eq. 8
            if iteration == CRITIC_ONLY + 1 and updates == 1:
                norms = require_sum(total, rl, BETA * sft, actor)
                print(f"  gradient norms of the first update: RL {norms[0]:.3f}, beta SFT {norms[1]:.3f}")
            optimiser.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(actor, 1.0)
            optimiser.step()
        figures += f"  {updates:7d}  {kl_max:10.3f}  {sft_sum / updates:9.3f}"
        print(f"  {iteration:9d}  {figures}  {time.perf_counter() - began:7.1f}", flush=True)


@torch.no_grad()
def success_rate(policy: Policy, domain: str) -> float:
    """Return the share of fixed starts from which the policy, not exploring, succeeds."""
    generator = torch.Generator().manual_seed(0)  # the same starts and the same noise, before and after
    starts = task(TASK).fixed_states(EPISODES, seed=0, prefix="one-file")
    with rlco.make_world(TASK, domain=domain, num_envs=EPISODES) as world:
        raw, info = world.reset(initial_states=starts)
        while not info["done"].all():
            noise = torch.randn(EPISODES, H, A, generator=generator)
            chain, _ = walk(policy, policy.see(look(raw)), noise, lambda _k, mean, _std: mean)
            raw, _, _, _, info = world.step_chunk(actions_of(policy, chain))
        return float(info["success"].mean())


def report(policy: Policy, when: str) -> None:
    twin, standin = success_rate(policy, "twin"), success_rate(policy, "standin")
    print(f"{when}: success in the twin {twin:.3f}, in the stand-in {standin:.3f}", flush=True)


def demonstrations(folder: Path) -> tuple[ChunkDataset, ChunkDataset]:
    """Record real demonstrations of a scripted operator; generate those in the twin from them, as MimicGen does."""
    record_demonstrations(folder / "real", RecordConfig(task=TASK, objects=REAL_COLOURS, count=REAL), num_envs=16)
    real = Dataset.open(folder / "real")
    generate_demonstrations(folder / "sim", real, GenerateConfig(task=TASK, count=SIM), num_envs=16)
    return ChunkDataset.of(Dataset.open(folder / "sim"), horizon=H), ChunkDataset.of(real, horizon=H)


def main() -> None:
    began = time.perf_counter()
    torch.manual_seed(0)  # the heads' weights
    generator = torch.Generator().manual_seed(1)  # everything that is drawn
    base = base_policy(BASE)
    assert isinstance(base, PiPolicy)
    policy = Policy(base)
    with tempfile.TemporaryDirectory() as folder:
        sim, real = demonstrations(Path(folder))
        print(f"{TASK}: {SIM} demonstrations in the twin ({len(sim)} frames), {REAL} real ones ({len(real)} frames)")
        report(policy, "pretrained    ")
        print(f"Stage I, alpha {ALPHA}, {STEPS_1} updates")
        stage_one(policy, sim, real, generator=generator)
        report(policy, "after Stage I ")
        print(f"Stage II, beta {BETA}, {ITERATIONS} iterations")
        with rlco.make_world(TASK, domain="twin", num_envs=NUM_ENVS) as world:
            stage_two(policy, world, real, generator=generator)
        report(policy, "after Stage II")
    print(f"{EPISODES} fixed starts a world; {time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
