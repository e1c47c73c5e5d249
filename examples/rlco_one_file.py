"""Stage II of RL-Co for a flow-matching policy, in one file. Read it from top to bottom.

RL-Co (arXiv 2602.12628) post-trains a robot policy in two stages:

    Stage I    L = alpha L_SFT(D_sim) + (1 - alpha) L_SFT(D_real)    supervised, on demonstrations of both worlds
    Stage II   L = L_RL(simulation) + beta L_SFT(D_real)             reinforcement learning in the digital twin,
                                                                     held to reality by the real demonstrations

The worlds, the task (open a drawer) and the demonstrations come from ``rlco``; all that learns is in this file: a
small flow-matching policy (as pi0), exploration by Flow-Noise (piRL), advantages of action chunks, PPO, the real term.
What the package adds to it (a pretrained vision-language model, exact resumption, lost workers, other algorithms) is
left out. ``tests/test_examples.py`` holds the formulas here to those of ``rlco.algos``.

    python examples/rlco_one_file.py             minutes on two CPU cores
    python examples/rlco_one_file.py --debug     the same in seconds, too short to learn anything

What it shows, and what it does not: Stage I learns the task (from 0 to .4 to .5 of 120 starts), and both terms of
Stage II reach the gradient, which is asserted. Stage II has NOT been seen to raise success at this size, whatever was
tried; the package's runs, from a pretrained base, do (docs/results.md). Why is not known; presumably the gradient of a
few dozen episodes is mostly noise to so small a network trained from scratch.

No robot is attached: "real" is the stand-in, a second simulated world with another look and other dynamics.

Letters: B batch, N flow samples of a frame, T decisions, E environments, K denoising steps, H horizon, A action
dimension, S state dimension, F features. ``x_BHA`` is a tensor with these axes.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: spinning threads starve the simulators

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import rlco
from rlco.data.augment import ColourJitter
from rlco.data.chunks import ChunkDataset
from rlco.data.normalise import Normaliser, action_normaliser, state_normaliser, statistics_of
from rlco.data.reader import Dataset
from rlco.demos.record import RecordConfig, record_demonstrations
from rlco.tasks import task
from rlco.worlds.world import World

DEBUG = "--debug" in sys.argv

# The job
TASK = "open-drawer"  # who does nothing, and who was not trained, opens none
IMAGE_SIZE = 64  # pixels
REAL, HELD_OUT, SIM = (3, 1, 4) if DEBUG else (20, 10, 200)  # demonstrations; those held out are real, not trained on
EPISODES = 8 if DEBUG else 120  # of an evaluation, on fixed starts

# The policy
H, EXECUTED, A, S = 8, 4, 7, 8  # predicts 8 control steps (1.6 s), executes 4, then looks again
K = 4  # denoising steps
NOISE_STD, NOISE_STD_START = (0.03, 0.2), 0.1  # bounds of the learned exploration noise, in normalised action units
WORDS, KEYPOINTS, WIDTH = 64, 32, 256

# Stage I
STEPS_1 = 4 if DEBUG else 1000
BATCH, FLOW_COPIES, LR_1 = 64, 8, 1e-3
ALPHA = 0.5  # probability that a sample is simulated

# Stage II
ITERATIONS, CRITIC_WARMUP = (3, 1) if DEBUG else (20, 4)  # in the first iterations only the critic learns
NUM_ENVS, DECISIONS = (4, 4) if DEBUG else (64, 15)  # per iteration; one decision is one executed action chunk
EPOCHS, MINIBATCH = 4, 8 if DEBUG else 240
CLIP, KL_STOP = 0.2, 0.05  # log-probabilities are sums over 112 entries: small steps move them far
DISCOUNT, LAM = 0.99, 0.95  # per decision
BETA, REAL_BATCH = 1.0, 64
LR_2, LR_WARMUP, LR_CRITIC = 3e-5, 20, 3e-3


Rows = dict[str, Tensor]
"""Tensors of one first axis, by name. Seen: image (uint8, HW3), state (S, SI units), words (how often each occurs)."""


def rows(data: Rows, index: Tensor | slice) -> Rows:
    return {name: values[index] for name, values in data.items()}


def joined(parts: Sequence[Rows]) -> Rows:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def see(image: Tensor, state: Tensor, instructions: Iterable[str]) -> Rows:
    """Return what the policy is given. A drawer needs no words; with push-cube it is here that the colour comes in."""
    ids = [[zlib.crc32(word.encode()) % WORDS for word in text.split()] for text in instructions]
    words = torch.from_numpy(np.stack([np.bincount(row, minlength=WORDS) for row in ids])).float()
    return {"image": image, "state": state, "words": words}


def mlp(*widths: int) -> nn.Sequential:
    layers = [layer for n_in, n_out in pairwise(widths) for layer in (nn.Linear(n_in, n_out), nn.SiLU())]
    return nn.Sequential(*layers[:-1])


class FlowPolicy(nn.Module):
    """Image, state and words become features; the expert turns noise into an action chunk given the features."""

    def __init__(self, state: Normaliser, action: Normaliser) -> None:
        super().__init__()
        self.state, self.action = state, action
        self.eye = nn.Sequential(
            *(nn.Conv2d(3, 32, 5, stride=2, padding=2), nn.GroupNorm(4, 32), nn.SiLU()),
            *(nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.GroupNorm(4, 32), nn.SiLU()),
            *(nn.Conv2d(32, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.SiLU()),
            nn.Conv2d(32, KEYPOINTS, 1),
        )
        self.word = nn.Linear(WORDS, 16)
        features = 2 * KEYPOINTS + S + 16
        self.expert = nn.Sequential(mlp(features + H * A + 16, WIDTH, WIDTH, WIDTH), nn.SiLU())
        self.to_velocity = nn.Linear(WIDTH, H * A)
        self.to_std = nn.Linear(WIDTH, H * A)
        self.critic = nn.Sequential(nn.LayerNorm(features), mlp(features, WIDTH, WIDTH, 1))
        low, high = (math.log(std) for std in NOISE_STD)
        nn.init.zeros_(self.to_std.weight)
        nn.init.constant_(self.to_std.bias, math.atanh(2 * (math.log(NOISE_STD_START) - low) / (high - low) - 1))

    def features(self, seen: Rows) -> Tensor:
        """Where things are in the picture (spatial softmax), where the hand is, what is asked for. Returns BF."""
        heat_BKxy = self.eye(seen["image"].permute(0, 3, 1, 2) / 127.5 - 1)
        weight_BKxy = heat_BKxy.flatten(2).softmax(-1).view_as(heat_BKxy)
        axis = torch.linspace(-1, 1, heat_BKxy.shape[-1])
        points_BF = torch.cat([(weight_BKxy.sum(2) * axis).sum(-1), (weight_BKxy.sum(3) * axis).sum(-1)], dim=1)
        return torch.cat([points_BF, self.state.do(seen["state"]).clamp(-1.5, 1.5), self.word(seen["words"])], dim=1)

    def velocity(self, features_BF: Tensor, x_BHA: Tensor, t_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return v(x, t) of the flow and the standard deviation of the exploration noise there, both BHA."""
        phase = t_B[:, None] * math.pi * 2.0 ** torch.arange(-2, 6)
        hidden = self.expert(torch.cat([features_BF, x_BHA.flatten(1), phase.sin(), phase.cos()], dim=1))
        low, high = (math.log(std) for std in NOISE_STD)
        share = 0.5 * (1 + torch.tanh(self.to_std(hidden.detach())))  # how to explore does not shape what is seen
        return self.to_velocity(hidden).view_as(x_BHA), torch.exp(low + share * (high - low)).view_as(x_BHA)

    def value(self, features_BF: Tensor) -> Tensor:
        """Return V(s). Detached: a critic that starts from nothing would destroy the features."""
        return self.critic(features_BF.detach()).squeeze(1)

    def actor_parameters(self) -> list[nn.Parameter]:
        """Return what Stage II trains besides the critic: the expert. Eyes and words stay as Stage I left them."""
        return [p for part in (self.expert, self.to_velocity, self.to_std) for p in part.parameters()]


def draw_time(shape: tuple[int, ...], *, generator: torch.Generator) -> Tensor:
    """Return t = 0.999 Beta(1.5, 1) + 0.001: more often near the noise at t = 1 (pi0, appendix B)."""
    return 0.999 * torch.rand(shape, generator=generator) ** (1 / 1.5) + 0.001


def flow_loss(velocity_BNHA: Tensor, target_BNHA: Tensor, counts_BHA: Tensor) -> Tensor:
    """Return |v(x_t, t) - (noise - action)|^2 of each frame, mean over what is not padding."""
    error_BHA = (velocity_BNHA - target_BNHA).square().mean(1)
    return (error_BHA * counts_BHA).sum((1, 2)) / counts_BHA.sum((1, 2)).clamp(min=1)


def sft_loss(policy: FlowPolicy, features_BF: Tensor, demos: Rows, *, generator: torch.Generator) -> Tensor:
    """Return L_SFT: learn the straight way x_t = t noise + (1 - t) action (pi0, eq. 1). Scalar."""
    t_BN = draw_time((len(demos["chunk"]), FLOW_COPIES), generator=generator)
    noise_BNHA = torch.randn(*t_BN.shape, H, A, generator=generator)
    t, action_B1HA = t_BN[..., None, None], demos["chunk"][:, None]
    x_BNHA = t * noise_BNHA + (1 - t) * action_B1HA
    features = features_BF.repeat_interleave(FLOW_COPIES, dim=0)  # one look serves all N
    velocity, _ = policy.velocity(features, x_BNHA.flatten(0, 1), t_BN.flatten())
    return flow_loss(velocity.view_as(x_BNHA), noise_BNHA - action_B1HA, demos["counts"]).mean()


STOCHASTIC_HA = (torch.arange(H) < EXECUTED)[:, None].expand(H, A)  # noise only where it is executed


def chain_log_prob(chain: Tensor, mean: Tensor, std: Tensor, counts_HA: Tensor) -> Tensor:
    """Return log p(x_1 .. x_K | x_0), B: each step is Gaussian (piRL, eq. 5). ``chain``: B K+1 H A; the others BKHA.

    A flow has no cheap density of its final action; the chain of noisy steps that led there has one in closed form.
    """
    density = -0.5 * ((chain[:, 1:] - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
    return (density * counts_HA).sum((1, 2, 3))


def walk(
    policy: FlowPolicy, features_BF: Tensor, noise_BHA: Tensor, drawn: Callable[[int, Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Go from noise to actions in K steps x - dt v(x, t); return the chain (B K+1 H A) and its log-probability.

    ``drawn(k, mean, std)`` gives the executed entries of the next x. Drawing and scoring both come here: what was drawn
    is scored by the same computation, so that PPO's first ratio is 1. Entries that are not executed follow the flow.
    """
    x, chain, means, stds = noise_BHA, [noise_BHA], [], []
    for k in range(K):
        t_B = torch.full((len(x),), 1 - k / K)
        velocity, std = policy.velocity(features_BF, x, t_B)
        mean = x - velocity / K
        x = torch.where(STOCHASTIC_HA, drawn(k, mean, std), mean)
        chain, means, stds = [*chain, x], [*means, mean], [*stds, std]
    steps = torch.stack(chain, 1)
    return steps, chain_log_prob(steps, torch.stack(means, 1), torch.stack(stds, 1), STOCHASTIC_HA)


def actions_of(policy: FlowPolicy, chain: Tensor) -> np.ndarray:
    """Return the executed actions at the end of a chain, in SI units: what ``World.step_chunk`` takes."""
    return policy.action.undo(chain[:, -1, :EXECUTED]).numpy().astype(np.float32)


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


def look(raw: dict[str, Any]) -> Rows:
    """Return what the policy is given of a world's observation."""
    return see(torch.from_numpy(raw["image"]), torch.from_numpy(raw["state"]), raw["instruction"])


@torch.no_grad()
def collect(
    world: World, policy: FlowPolicy, features_EF: Tensor, *, generator: torch.Generator
) -> tuple[Rows, Tensor, float]:
    """Let the policy explore for T decisions in E environments, from what is seen there now.

    Returns the decisions (row t * E + e), the features to go on from, the share of successes among ended episodes.
    """
    decisions, outcomes, successes, finished = [], [], 0, 0
    for _ in range(DECISIONS):
        noise = torch.randn(K + 1, NUM_ENVS, H, A, generator=generator)
        chain, log_prob = walk(policy, features_EF, noise[K], lambda k, mean, std, z=noise: mean + std * z[k])
        value = policy.value(features_EF)
        decisions.append({"features": features_EF, "chain": chain, "log_prob": log_prob, "value": value})
        raw, reward, terminated, truncated, info = world.step_chunk(actions_of(policy, chain))
        assert not info["lost"].any(), "a simulator process died; the package would mask its decisions"
        # E x 4 control steps become one decision; steps after an episode's end are not run and pay nothing
        terminated_E = torch.from_numpy(terminated.any(1))
        truncated_E = torch.from_numpy(truncated.any(1)) & ~terminated_E
        features_EF = policy.features(look(raw))
        next_value = policy.value(features_EF)  # of the last picture, before any reset
        outcomes.append((torch.from_numpy(reward).float().sum(1), value, next_value, terminated_E, truncated_E))
        ended = (terminated_E | truncated_E).numpy()
        successes, finished = successes + int(info["success"][ended].sum()), finished + int(ended.sum())
        if ended.any():
            features_EF = policy.features(look(world.reset(mask=ended)[0]))
    advantage_TE = gae(*(torch.stack(column) for column in zip(*outcomes, strict=True)))
    data = joined(decisions) | {"advantage": advantage_TE.flatten()}
    return data, features_EF, successes / finished if finished else math.nan


def stage_one(policy: FlowPolicy, sim: Rows, real: Rows, *, generator: torch.Generator) -> None:
    """L = alpha L_SFT(D_sim) + (1 - alpha) L_SFT(D_real) (RL-Co, eq. 7): a sample is of D_sim with chance alpha."""
    both, num_sim, num_real = joined([sim, real]), len(sim["state"]), len(real["state"])
    parameters = list(policy.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=LR_1, betas=(0.9, 0.95), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS_1)
    for step in range(1, STEPS_1 + 1):
        u_2B = torch.rand(2, BATCH, generator=generator)
        frame_B = torch.where(u_2B[0] < ALPHA, u_2B[1] * num_sim, num_sim + u_2B[1] * num_real).long()
        demos = rows(both, frame_B)
        demos["image"] = ColourJitter()(demos["image"], generator=generator)
        loss = sft_loss(policy, policy.features(demos), demos, generator=generator)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == STEPS_1:
            print(f"  update {step:4d}: flow loss {loss.item():.3f}", flush=True)


def stage_two(policy: FlowPolicy, world: World, real: Rows, *, generator: torch.Generator) -> None:
    """L = L_RL(twin) + beta L_SFT(D_real) (RL-Co, eq. 8), on fresh experience in every iteration."""
    actor, critic = policy.actor_parameters(), list(policy.critic.parameters())
    optimiser = torch.optim.Adam([{"params": actor}, {"params": critic, "lr": LR_CRITIC}], lr=0.0, betas=(0.9, 0.99))
    with torch.no_grad():
        features_EF, updates = policy.features(look(world.reset()[0])), 0
        parts = torch.arange(len(real["state"])).split(256)
        real = real | {"features": torch.cat([policy.features(rows(real, part)) for part in parts])}
    print("  iteration  success  |grad RL|  |beta grad SFT|  real loss      KL  explained  seconds")
    for iteration in range(1, ITERATIONS + 1):
        began, is_stale = time.perf_counter(), False
        data, features_EF, success = collect(world, policy, features_EF, generator=generator)
        advantage, value = data["advantage"], data["value"]
        explained = 1 - advantage.var() / (advantage + value).var()
        data |= {"target": advantage + value, "advantage": (advantage - advantage.mean()) / (advantage.std() + 1e-5)}
        order = torch.cat([torch.randperm(len(value), generator=generator) for _ in range(EPOCHS)])
        norms, kl_max, sft_sum = (0.0, 0.0), 0.0, []
        for number, index in enumerate(order.split(MINIBATCH)):
            demos = rows(real, torch.randint(len(real["state"]), (REAL_BATCH,), generator=generator))
            rl, critic_loss, kl = rl_losses(policy, rows(data, index))
            sft = sft_loss(policy, demos["features"], demos, generator=generator)
            kl_max, sft_sum = max(kl_max, float(kl)), [*sft_sum, sft.item()]
            assert number > 0 or kl < 1e-4, f"what was just drawn is scored differently: KL {kl:.1e}"
            is_stale = is_stale or bool(kl > KL_STOP)
            optimiser.zero_grad()
            if iteration <= CRITIC_WARMUP or is_stale:
                critic_loss.backward()
            else:
                updates += 1
                # Adam's first steps are as long as its rate in every direction: let the rate rise
                optimiser.param_groups[0]["lr"] = LR_2 * min(1.0, updates / LR_WARMUP)
                apart = gradients_apart(rl, BETA * sft, actor) if number == 0 else None
                (rl + BETA * sft + critic_loss).backward()  # eq. 8, in one backward pass
                norms = require_sum(actor, apart) if apart else norms
            nn.utils.clip_grad_norm_(actor, 1.0)
            optimiser.step()
        figures = f"{norms[0]:9.3f}  {norms[1]:15.3f}  {np.mean(sft_sum):9.3f}  {kl_max:6.3f}  {explained:9.2f}"
        print(f"  {iteration:9d}  {success:7.2f}  {figures}  {time.perf_counter() - began:7.1f}", flush=True)


def rl_losses(policy: FlowPolicy, batch: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Return PPO's loss, the critic's, and the KL estimate of decisions that were drawn with older weights."""
    _, log_prob = walk(policy, batch["features"], batch["chain"][:, 0], lambda k, _mean, _std: batch["chain"][:, k + 1])
    rl, kl = ppo_loss(log_prob, batch["log_prob"], batch["advantage"])
    return rl, F.smooth_l1_loss(policy.value(batch["features"]), batch["target"]), kl


def gradients_apart(rl: Tensor, real_term: Tensor, parameters: list[nn.Parameter]) -> tuple[Sequence[Tensor], ...]:
    """Return the gradient of each term by itself; both graphs stay for the pass that counts."""
    grad_rl = torch.autograd.grad(rl, parameters, retain_graph=True, materialize_grads=True)
    return grad_rl, torch.autograd.grad(real_term, parameters, retain_graph=True, materialize_grads=True)


def require_sum(parameters: list[nn.Parameter], apart: tuple[Sequence[Tensor], ...]) -> tuple[float, float]:
    """Assert grad(total) = grad(RL) + beta grad(SFT), and return the norms of the two.

    A real term that is added to the log and not to the loss trains without a word; here it stops the run.
    """
    together = [p.grad for p in parameters if p.grad is not None]
    total, grad_rl, grad_sft = (torch.cat([g.flatten() for g in grads]) for grads in (together, *apart))
    error = float((total - grad_rl - grad_sft).norm() / total.norm())
    assert error < 1e-4, f"the gradient is not grad(RL) + beta grad(SFT): off by {error:.1e} of its norm"
    return float(grad_rl.norm()), float(grad_sft.norm())


@torch.no_grad()
def success_rate(policy: FlowPolicy, domain: str) -> float:
    """Return the share of fixed starts from which the policy, not exploring, succeeds."""
    generator = torch.Generator().manual_seed(0)  # the same starts and the same noise, before and after
    starts = task(TASK).fixed_states(EPISODES, seed=0, prefix="one-file")
    with rlco.make_world(TASK, domain=domain, num_envs=EPISODES, image_size=IMAGE_SIZE) as world:
        raw, info = world.reset(initial_states=starts)
        while not info["done"].all():
            noise = torch.randn(EPISODES, H, A, generator=generator)
            chain, _ = walk(policy, policy.features(look(raw)), noise, lambda _k, mean, _std: mean)
            raw, _, _, _, info = world.step_chunk(actions_of(policy, chain))
        return float(info["success"].mean())


def record(folder: Path, domain: str, *, count: int, seed: int) -> Dataset:
    """Record a scripted operator's demonstrations. The package makes the twin's from the real ones (MimicGen)."""
    config = RecordConfig(task=TASK, domain=domain, objects=None, count=count, seed=seed, image_size=IMAGE_SIZE)
    record_demonstrations(folder, config, num_envs=min(count, 16))
    return Dataset.open(folder)


def frames_of(dataset: Dataset, action: Normaliser) -> Rows:
    """Return every frame with the chunk that followed it; ``counts`` is False after the demonstration's end."""
    batch = ChunkDataset.of(dataset, horizon=H).batch(np.arange(len(dataset)))
    seen = see(batch.observation.image, batch.observation.state, batch.observation.instruction)
    counts = (~batch.is_pad)[..., None].expand(-1, -1, A)
    return seen | {"chunk": action.do(batch.action), "counts": counts}


def report(policy: FlowPolicy, held_out: Rows, when: str) -> None:
    with torch.no_grad():
        loss = float(sft_loss(policy, policy.features(held_out), held_out, generator=torch.Generator().manual_seed(0)))
    twin, standin = success_rate(policy, "twin"), success_rate(policy, "standin")
    figures = f"success in the twin {twin:.3f}, in the stand-in {standin:.3f}; held-out real loss {loss:.3f}"
    print(f"{when}: {figures}", flush=True)


def main() -> None:
    began = time.perf_counter()
    torch.manual_seed(0)  # the policy's weights
    generator = torch.Generator().manual_seed(1)  # everything that is drawn
    with tempfile.TemporaryDirectory() as folder:
        sim = record(Path(folder, "sim"), "twin", count=SIM, seed=0)
        real = record(Path(folder, "real"), "standin", count=REAL, seed=1)
        unseen = record(Path(folder, "held-out"), "standin", count=HELD_OUT, seed=2)
        statistics = statistics_of([sim, real])
        action = action_normaliser(statistics)
        policy = FlowPolicy(state_normaliser(statistics), action)
        sim_frames, real_frames, held_out = (frames_of(dataset, action) for dataset in (sim, real, unseen))
    size = sum(p.numel() for p in policy.parameters()) / 1e6
    print(f"{TASK}: {SIM} demonstrations in the twin, {REAL} real ones; {size:.2f} M parameters")
    report(policy, held_out, "untrained     ")
    print(f"Stage I, alpha {ALPHA}, {STEPS_1} updates")
    stage_one(policy, sim_frames, real_frames, generator=generator)
    report(policy, held_out, "after Stage I ")
    print(f"Stage II, beta {BETA}, {ITERATIONS} iterations")
    with rlco.make_world(TASK, domain="twin", num_envs=NUM_ENVS, image_size=IMAGE_SIZE, seed=3) as world:
        stage_two(policy, world, real_frames, generator=generator)
    report(policy, held_out, "after Stage II")
    print(f"{EPISODES} fixed starts a world; {time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
