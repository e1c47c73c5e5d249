"""Supervised fine-tuning: real-only, and Stage I of RL-Co (co-training, eq. 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlco.core.policy import Batch
from rlco.core.rng import seed_of
from rlco.core.stopping import between_steps
from rlco.data.augment import ColourJitter, RandomCrop, require_area
from rlco.data.mixture import Mixture
from rlco.policies.contract import AnyPolicy, Trainable
from rlco.policies.families import PolicyConfig, family
from rlco.train.checkpoints import KEEP, claim_folder, resume, save_training_state
from rlco.train.compute import ComputeConfig, identity, require_trainable
from rlco.train.ema import Ema, require_decay
from rlco.train.log import MetricsLog, last_figures
from rlco.train.nan_guard import batch_tensors, nan_guard, require_finite, require_finite_weights
from rlco.train.optimiser import MasterAdamW
from rlco.train.schedule import Schedule, learning_rate, require_schedule

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTConfig:
    """Supervised training of a policy on a mixture of datasets."""

    steps: int = 400
    batch_size: int = 64
    trainable: Trainable | None = None
    """What learns: everything, the action expert (of a token policy the language model), or adapters. None: adapters
    for the released sizes, everything for small ones."""
    lr: float = 5e-4
    """Peak; warms up linearly, then follows ``lr_schedule``."""
    warmup_steps: int = 20
    lr_schedule: Schedule = "cosine"
    lr_floor: float = 0.1
    """Share of ``lr`` that the cosine ends at."""
    ema: float = 0.0
    """Decay of the weights' moving average, which is then what is kept; 0 keeps the last weights."""
    ema_warmup: bool = True
    """Average over less in the first steps; off is the published average."""
    weight_decay: float = 1e-4
    clip_grad: float = 1.0
    jitter: ColourJitter | None = field(default_factory=ColourJitter)
    crop_area: float | None = None
    """Train on random crops of this share of the picture (0.9 is usual); from then on the policy sees its centre. None:
    as the policy was trained so far."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    save_every: int = 200
    log_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"SFTConfig.{name} must be 1 or more, got {getattr(self, name)}.")
        for name in ("lr", "clip_grad"):
            if getattr(self, name) <= 0:
                raise ValueError(f"SFTConfig.{name} must be above 0, got {getattr(self, name)}.")
        for name in ("warmup_steps", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"SFTConfig.{name} must be 0 or more, got {getattr(self, name)}.")
        require_schedule("SFTConfig", self.lr_schedule, self.lr_floor)
        require_area("SFTConfig.crop_area", self.crop_area)
        require_trainable("SFTConfig", self.trainable)
        if self.ema:
            require_decay("SFTConfig.ema", self.ema)

    def for_policy(self, policy: PolicyConfig) -> SFTConfig:
        """Return the same with the values that are the policy's where None stands for them.

        Raises ``ValueError`` for adapters where the policy has no place for them or they are not trained, and for crops
        where it sees whole pictures.
        """
        if self.crop_area is not None and "crop_area" not in family(policy.family).takes:
            raise ValueError(f"crop_area is {self.crop_area}, but a policy of {policy.family} sees whole pictures.")
        part = self.trainable or ("lora" if policy.is_large else "all")
        return replace(self, trainable=part, compute=self.compute.for_policy(policy, part))

    @property
    def part(self) -> Trainable:
        """Return what learns, after ``for_policy``."""
        assert self.trainable is not None, "for_policy says what learns"
        return self.trainable

    def rate(self, step: int) -> float:
        """Return the learning rate of ``step`` (0-based)."""
        return learning_rate(
            step,
            peak=self.lr,
            schedule=self.lr_schedule,
            progress=step / self.steps,
            warmup_steps=self.warmup_steps,
            floor=self.lr_floor,
        )


class SFTTrainer:
    """One optimiser step at a time; everything it needs to continue exactly is in ``state_dict``."""

    def __init__(self, policy: AnyPolicy, mixture: Mixture, config: SFTConfig) -> None:
        """``policy`` is brought into the form that ``config`` asks for: what learns, and in which precision."""
        config = config.for_policy(policy.config)
        self.policy, self.mixture, self.config = policy, mixture, config
        self.step = 0
        if config.crop_area is not None:
            policy.crop_pictures(config.crop_area)
        config.compute.prepare(policy, config.part)
        parameters = policy.actor_parameters()
        self.optimiser = MasterAdamW([(parameters, config.lr)], betas=(0.9, 0.95), weight_decay=config.weight_decay)
        weights = self.optimiser.weights()
        self.ema = Ema(parameters, weights, decay=config.ema, warm_up=config.ema_warmup) if config.ema else None
        self.generator = torch.Generator().manual_seed(seed_of(config.seed, "sft"))

    def next_batch(self) -> Batch:
        """Draw and augment a batch."""
        batch, area = self.mixture.next_batch(), self.policy.crop_area
        crop = None if area is None else RandomCrop(area=area)
        image = batch.observation.image
        for change in (self.config.jitter, crop):
            image = image if change is None else change(image, generator=self.generator)
        return replace(batch, observation=replace(batch.observation, image=image))

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on ``batch`` and return its figures."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate(self.step)
        self.optimiser.zero_grad()
        loss = self.policy.loss(batch, generator=self.generator).mean()
        require_finite(loss, dump=batch_tensors(batch))
        loss.backward()
        norm = self.optimiser.clip(self.config.clip_grad)
        require_finite(norm, dump=batch_tensors(batch), what="gradient's norm")
        self.optimiser.step()
        if self.ema is not None:
            self.ema.update()
        self.step += 1
        return {"sft/loss": loss.detach(), "sft/grad_norm": norm}

    def finish(self) -> None:
        """End with the float32 weights, averaged where an average is kept: call it once, after the last step."""
        self.optimiser.finish()
        if self.ema is not None:
            self.ema.adopt()

    def state_dict(self) -> dict[str, Any]:
        """Return the state after ``step`` steps."""
        return {
            "policy": self.policy.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "generator": self.generator.get_state(),
            "mixture": self.mixture.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after ``state['step']`` steps."""
        self.policy.load_state_dict(state["policy"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.generator.set_state(state["generator"])
        self.mixture.load_state_dict(state["mixture"])
        self.step = state["step"]


def run_sft(  # noqa: PLR0913  (what is trained, on what, where and how it is told)
    policy: AnyPolicy,
    mixture: Mixture,
    config: SFTConfig,
    *,
    folder: Path,
    inputs: dict[str, Any],
    progress: Progress | None = None,
    keep: int = KEEP,
) -> dict[str, float]:
    """Train ``policy`` in place for ``config.steps`` steps, resuming from ``folder`` if it holds a part of this run.

    ``inputs`` names the data and the starting weights: a folder made from others is refused (``ValueError``). ``keep``
    training states stay on disk. Returns the last figures. Raises ``NonFiniteLossError`` with a dump of the batch, and
    ``StoppedError`` after the step in which the process was asked to stop, with the state saved. What 16-bit layers
    learnt is in 32-bit weights at the end: save the policy, and load it to use it.
    """
    config = config.for_policy(policy.config)
    policy.train()
    trainer = SFTTrainer(policy, mixture, config)  # before the folder is claimed: it may refuse
    claim_folder(folder, {**identity(config, policy.config), "inputs": inputs})
    resume(trainer, folder)
    figures = last_figures(folder, step=trainer.step)
    with MetricsLog(folder, resume_step=trainer.step) as log, between_steps() as stop:
        while trainer.step < config.steps:
            batch = trainer.next_batch()
            with nan_guard(folder, step=trainer.step, modules=policy):
                raw = trainer.update(batch)
                step = trainer.step
                is_saved = step % config.save_every == 0 or step == config.steps or stop.is_up()
                if is_saved:
                    require_finite_weights(policy)
            if step % config.log_every == 0 or step == config.steps:
                figures = {name: float(value) for name, value in raw.items()}
                figures |= {f"sft/fraction_{i}": f for i, f in enumerate(mixture.realised_fraction)}
                figures["sft/lr"] = trainer.optimiser.param_groups[0]["lr"]
                log.write(step, figures)
            if is_saved:
                save_training_state(folder, step, trainer.state_dict(), keep=keep)
            if progress is not None:
                progress(step, config.steps)
            if is_saved and stop.is_up():
                break
    trainer.finish()
    policy.eval()
    return figures
