"""Stage II of RL-Co: RL in the twin plus beta times the supervised loss on the real demonstrations (eq. 8)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from rlco.algos.ppo import PolicyLoss, policy_loss, value_loss
from rlco.core.policy import Evaluation, Observation
from rlco.core.rng import seed_of
from rlco.core.stopping import between_steps
from rlco.policies.contract import AnyPolicy
from rlco.rollout.collect import Actor, Experience
from rlco.train.advantages import JUDGES
from rlco.train.beta import Beta
from rlco.train.checkpoints import KEEP, claim_folder, resume, save_training_state
from rlco.train.compute import identity
from rlco.train.ema import Ema
from rlco.train.log import MetricsLog, last_figures
from rlco.train.nan_guard import batch_tensors, nan_guard, require_finite, require_finite_weights
from rlco.train.optimiser import MasterAdamW
from rlco.train.real_term import RealTerm
from rlco.train.rl_config import RLConfig

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Minibatch:
    """Decisions to learn from."""

    observation: Observation
    trace: dict[str, Tensor]
    old_log_prob: Tensor
    old_value: Tensor
    advantage: Tensor
    target: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class StageLoss:
    """The terms of one update. ``total = rl + beta * sft + critic``; while only the critic learns, ``critic``."""

    rl: Tensor
    sft: Tensor
    critic: Tensor
    total: Tensor
    ppo: PolicyLoss
    evaluation: Evaluation


@runtime_checkable
class ExperienceSource(Protocol):
    """``Collector`` for PPO, ``GroupCollector`` for GRPO."""

    def collect(self, policy: Actor, *, decisions: int, generator: torch.Generator) -> Experience:
        """Return what the policy does in ``decisions`` chunks per environment."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what is collected next."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``."""
        ...


class StageTwo:
    """One iteration at a time: collect, then update. ``state_dict`` continues exactly.

    The policy, which ``config.prepare`` has brought into its form, explores as ``config.exploration`` says from then
    on. After ``finish`` the weights that 16-bit layers learnt are 32-bit ones: save the policy, and load it to use it.
    """

    def __init__(
        self, policy: AnyPolicy, collector: ExperienceSource, real_term: RealTerm | None, config: RLConfig
    ) -> None:
        if (real_term is None) != (config.beta == 0):
            given = "not given" if real_term is None else "given"
            raise ValueError(f"beta is {config.beta}, but real demonstrations were {given}.")
        config = config.for_policy(policy.config)
        config.compute.require_prepared(policy, config.part)
        self.policy, self.collector, self.real_term, self.config = policy, collector, real_term, config
        policy.explore_as(config.exploration, seed=seed_of(config.seed, "stage-two", "heads"))
        self.trust_region = config.trust_region(policy.trust_region)
        policy.most_prefix_bytes = config.compute.prefix_cache_bytes / (config.num_envs * config.decisions)
        self.iteration = 0
        self.gradient_samples = 0
        self.policy_updates = 0
        self.generator = torch.Generator().manual_seed(seed_of(config.seed, "stage-two"))
        self.actor = policy.actor_parameters()
        self.optimiser = MasterAdamW(
            [(self.actor, config.lr), (policy.critic_parameters(), config.value_lr)],
            betas=(0.9, 0.99),
            weight_decay=0.0,
        )
        weights = self.optimiser.weights()
        self.ema = Ema(self.actor, weights, decay=config.ema, warm_up=config.ema_warmup) if config.ema else None
        learning = config.iterations - config.warmup_iterations
        self.beta = Beta(config.beta, config.beta_control, iterations=learning)

    def iterate(self) -> dict[str, float]:
        """Run one iteration and return its figures."""
        start = time.perf_counter()
        experience = self.collector.collect(self.policy, decisions=self.config.decisions, generator=self.generator)
        collected = time.perf_counter()
        if self.real_term is not None:
            self.beta.begin(self.real_term.mean_loss)
        figures = self._update(experience)
        if not self._is_warm and self.real_term is not None:
            figures |= self.beta.observe(figures.get("rl/loss_sft"))
        self.iteration += 1
        rollout = experience.rollout
        finished = max(experience.finished, 1)
        return figures | {
            "rl/success": experience.successes / finished if experience.is_settled else float("nan"),
            "rl/episodes": experience.finished,
            "rl/lost": experience.lost,
            "rl/episode_steps": experience.mean_length,
            "rl/reward": float(rollout.reward[rollout.is_valid].mean()),
            "rl/gradient_samples": self.gradient_samples,
            "rl/lr": self.optimiser.param_groups[0]["lr"],
            "time/collect_s": collected - start,
            "time/update_s": time.perf_counter() - collected,
        }

    def loss(self, batch: Minibatch) -> StageLoss:
        """Return L_RL + beta * L_SFT(real) + L_critic of a minibatch (eq. 8); in the critic's warm-up, L_critic."""
        config = self.config
        evaluation = self.policy.evaluate(batch.observation, batch.trace)
        ppo = policy_loss(evaluation.log_prob, batch.old_log_prob, batch.advantage, clip=self.trust_region.clip)
        rl = ppo.loss - config.entropy * evaluation.entropy.mean()
        nothing = torch.zeros_like(rl.detach())
        critic = nothing
        if config.algo == "ppo":
            values = evaluation.value, batch.old_value, batch.target
            critic = value_loss(*values, clip=config.value_clip, huber=config.value_huber)
        sft = self.real_term.loss(generator=self.generator) if self.real_term is not None else nothing
        total = critic if self._is_warm else rl + self.beta.value * sft + critic
        return StageLoss(rl=rl, sft=sft, critic=critic, total=total, ppo=ppo, evaluation=evaluation)

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next iteration depends on."""
        return {
            "policy": self.policy.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "beta": self.beta.state_dict(),
            "generator": self.generator.get_state(),
            "real_term": self.real_term.generator.bit_generator.state if self.real_term else None,
            "collector": self.collector.state_dict(),
            "gradient_samples": self.gradient_samples,
            "policy_updates": self.policy_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after ``state['step']`` iterations."""
        self.policy.load_state_dict(state["policy"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.beta.load_state_dict(state["beta"])
        self.generator.set_state(state["generator"])
        if self.real_term is not None:
            self.real_term.generator.bit_generator.state = state["real_term"]
        self.collector.load_state_dict(state["collector"])
        self.gradient_samples = state["gradient_samples"]
        self.policy_updates = state["policy_updates"]
        self.iteration = state["step"]

    def finish(self) -> None:
        """End with the float32 weights, averaged where an average is kept: call it once, after the last iteration."""
        self.optimiser.finish()
        if self.ema is not None:
            self.ema.adopt()

    @property
    def _is_warm(self) -> bool:
        """Return whether only the critic learns in this iteration."""
        return self.iteration < self.config.warmup_iterations

    def _update(self, experience: Experience) -> dict[str, float]:
        data, figures = self._learnable(experience)
        count = len(data.advantage)
        sums: dict[str, float] = {}
        updates, stopped, largest_kl = 0, False, 0.0
        for _ in range(self.config.epochs):
            order = torch.randperm(count, generator=self.generator)
            for index in order.split(self.config.minibatch) if count else ():
                batch = _rows(data, index)
                self.optimiser.zero_grad()  # before the loss: two sets of gradients beside its graph would be too many
                loss = self.loss(batch)
                require_finite(loss.total, dump=self._tensors(batch, loss))
                if updates == 0:
                    figures |= self._first(loss)
                _add(sums, loss)
                largest_kl = max(largest_kl, float(loss.ppo.kl))
                stopped = largest_kl > self.trust_region.kl_stop and updates > 0
                if stopped:
                    break
                self._step(loss, batch)
                updates += 1
            if stopped:
                break
        # no update at all where groups told nothing; sums is empty then
        means = {name: value / (updates + stopped) for name, value in sums.items()}
        return figures | means | {"rl/updates": updates, "rl/kl_max": largest_kl}

    def _learnable(self, experience: Experience) -> tuple[Minibatch, dict[str, float]]:
        """Return what there is to learn from as one flat batch, its advantages taken over all of it."""
        judged, device = JUDGES[self.config.algo](experience, self.config), self.policy.device
        data = Minibatch(
            observation=experience.observation,
            trace=experience.trace,
            old_log_prob=experience.log_prob.to(device),
            old_value=experience.rollout.value.flatten().to(device),
            advantage=judged.advantage.to(device),
            target=judged.target.to(device),
        )
        is_complete = bool(judged.is_kept.all())
        return data if is_complete else _rows(data, judged.is_kept.nonzero().flatten()), dict(judged.figures)

    def _first(self, loss: StageLoss) -> dict[str, float]:
        """Return what is measured once an iteration, before its first update: the ratio, both gradient norms."""
        norms = {"rl": loss.rl} | ({"sft": self.beta.value * loss.sft} if self.real_term is not None else {})
        figures = {f"rl/grad_norm_{name}": _gradient_norm(term, self.actor) for name, term in norms.items()}
        return figures | {"rl/first_ratio_error": float(loss.ppo.ratio_error)}

    def _tensors(self, batch: Minibatch, loss: StageLoss) -> dict[str, Any]:
        """Return a minibatch, the real batch beside it (``real_``) and the terms as plain tensors, for a dump."""
        seen, terms = batch.observation, {"rl": loss.rl, "sft": loss.sft, "critic": loss.critic}
        real = None if self.real_term is None else self.real_term.last
        return {
            **{f"loss_{name}": term.detach() for name, term in terms.items()},
            "image": seen.image,
            "state": seen.state,
            "instruction": seen.instruction,
            "advantage": batch.advantage,
            "old_log_prob": batch.old_log_prob,
            "target": batch.target,
            **{f"trace_{name}": value.detach() for name, value in batch.trace.items()},
            **({} if real is None else {f"real_{name}": value for name, value in batch_tensors(real).items()}),
        }

    def _step(self, loss: StageLoss, batch: Minibatch) -> None:
        loss.total.backward()
        if self._is_warm:
            self.optimiser.leave_out(0)  # a critic's loss may reach the policy's layers
        norms = self.optimiser.clip(self.config.clip_grad), self.optimiser.clip(math.inf, group=1)
        for norm in norms:
            require_finite(norm, dump=self._tensors(batch, loss), what="gradient's norm")
        if self._is_warm:
            self.optimiser.step()
            return
        rate = self.config.rate(self.policy_updates, iteration=self.iteration)
        self.optimiser.param_groups[0]["lr"] = rate
        self.optimiser.step()
        if self.ema is not None:
            self.ema.update()
        self.policy_updates += 1
        self.gradient_samples += len(batch.advantage) + (
            self.config.sft_batch_size if self.real_term is not None else 0
        )


def run_rl(
    stage: StageTwo,
    *,
    folder: Path,
    inputs: dict[str, Any],
    progress: Progress | None = None,
    keep: int = KEEP,
) -> dict[str, float]:
    """Train ``stage.policy`` in place, resuming from ``folder`` if it holds a part of this run.

    ``inputs`` names the data and the starting weights: a folder made from others is refused (``ValueError``). ``keep``
    training states stay on disk, and the one before which exploring succeeded most (its mean since the state before).
    Returns the last figures. Raises ``NonFiniteLossError``, and ``StoppedError`` after the iteration in which the
    process was asked to stop, with the state saved.
    """
    config = stage.config
    claim_folder(folder, {**identity(config, stage.policy.config), "inputs": inputs})
    resume(stage, folder)
    figures = last_figures(folder, step=stage.iteration)
    successes: list[float] = []
    with MetricsLog(folder, resume_step=stage.iteration) as log, between_steps() as stop:
        while stage.iteration < config.iterations:
            with nan_guard(folder, step=stage.iteration, modules=stage.policy):
                figures = stage.iterate()
                step = stage.iteration
                is_saved = step % config.save_every == 0 or step == config.iterations or stop.is_up()
                if is_saved:
                    require_finite_weights(stage.policy)
            log.write(step, figures)
            successes.append(figures["rl/success"])
            if is_saved:
                save_training_state(folder, step, stage.state_dict(), keep=keep, score=_score(successes))
                successes.clear()
            if progress is not None:
                progress(step, config.iterations)
            if is_saved and stop.is_up():
                break
    stage.finish()
    return figures


def _score(successes: Sequence[float]) -> float | None:
    """Return the mean of the iterations that have a success rate, or None where none has."""
    known = [value for value in successes if math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _rows(data: Minibatch, index: Tensor) -> Minibatch:
    return Minibatch(
        observation=data.observation.select(index),
        trace={name: value[index] for name, value in data.trace.items()},
        old_log_prob=data.old_log_prob[index],
        old_value=data.old_value[index],
        advantage=data.advantage[index],
        target=data.target[index],
    )


def _gradient_norm(term: Tensor, parameters: list[nn.Parameter]) -> float:
    gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return float(torch.stack([g.norm() for g in gradients if g is not None]).norm())


def _add(sums: dict[str, float], loss: StageLoss) -> None:
    figures = {
        "rl/loss_rl": loss.rl,
        "rl/loss_sft": loss.sft,
        "rl/loss_critic": loss.critic,
        "rl/kl": loss.ppo.kl,
        "rl/clip_fraction": loss.ppo.clip_fraction,
        "rl/entropy": loss.evaluation.entropy.mean(),
    }
    for name, value in figures.items():
        sums[name] = sums.get(name, 0.0) + float(value.detach())
