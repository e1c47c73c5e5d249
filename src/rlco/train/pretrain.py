"""Pretrain the nano base: find a named thing in any picture, and reach for it.

It plays the part of the public weights that large models start from. It never sees a task's world or the stand-in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rlco.core.files import write_atomic
from rlco.core.policy import Batch, Observation
from rlco.core.rng import numpy_generator, seed_of
from rlco.data.augment import ColourJitter
from rlco.data.normalise import Codec, Normaliser
from rlco.engines.mujoco.randomised import Pictures, render_pictures
from rlco.policies.contract import AnyPolicy, VlaPolicy
from rlco.policies.families import CONFIGS, new_policy
from rlco.policies.grounding import CELL
from rlco.train.captions import PLACE_HALF_M, caption_batch
from rlco.train.checkpoints import (
    claim_folder,
    dumping_non_finite,
    load_training_state,
    require_finite,
    save_training_state,
)
from rlco.train.log import MetricsLog
from rlco.train.sft import batch_tensors

Progress = Callable[[int, int], None]

BASE_CODEC = Codec(
    state=Normaliser(
        low=(0.25, -0.36, 0.0, -0.5, -0.5, -0.5, 0.0, -1.0), high=(0.81, 0.36, 0.36, 0.5, 0.5, 0.5, 0.08, 1.0)
    ),
    action=Normaliser(low=(-0.05,) * 3 + (-0.1,) * 3 + (-1.0,), high=(0.05,) * 3 + (0.1,) * 3 + (1.0,)),
)
"""Every policy that starts from the base keeps its units, whatever data it is tuned on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """How the shipped base was made."""

    policy: str = "pi05-nano"
    also: tuple[str, ...] = ()
    """Sizes of the same weights that answer in another way, trained along: ``openvla-oft-nano``."""
    looks: int = 800
    """Tables, lamps and cameras."""
    pictures_per_look: int = 40
    held_out_looks: int = 20
    steps: int = 2800
    batch_size: int = 64
    lr: float = 1.5e-3
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    place_weight: float = 2.0
    point_weight: float = 0.2
    workers: int = 2
    save_every: int = 500
    log_every: int = 20
    seed: int = 0


class PlaceReader(nn.Module):
    """Reads the named thing's place from the prefix. Dropped after pretraining."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out = nn.Linear(features, 3)

    def forward(self, summary: Tensor) -> Tensor:
        return self.out(summary)


def render_all(config: PretrainConfig, *, folder: Path, image_size: int, progress: Progress | None = None) -> Pictures:
    """Render every look, held-out ones last, in parallel; finished shards in ``folder`` are used again."""
    folder.mkdir(parents=True, exist_ok=True)
    render = partial(_shard, folder=folder, config=config, image_size=image_size)
    looks = range(config.looks + config.held_out_looks)
    parts = []
    with ProcessPoolExecutor(config.workers, mp_context=get_context("spawn")) as pool:
        for done, part in enumerate(pool.map(render, looks, chunksize=8)):
            parts.append(part)
            if progress is not None:
                progress(done + 1, len(looks))
    return Pictures.concatenate(parts)


def _shard(look: int, *, folder: Path, config: PretrainConfig, image_size: int) -> Pictures:
    path = folder / f"look-{look:05d}.npz"
    if path.exists():
        with np.load(path) as arrays:
            return Pictures(**arrays)
    pictures = render_pictures(look=look, count=config.pictures_per_look, seed=config.seed, image_size=image_size)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **{name: getattr(pictures, name) for name in pictures.__slots__})

    write_atomic(path, write)
    return pictures


def run_pretrain(
    config: PretrainConfig, *, folder: Path, progress: Progress | None = None
) -> tuple[AnyPolicy, dict[str, float]]:
    """Render, train and return the base with its held-out figures; resumes from ``folder``."""
    claim_folder(folder, asdict(config))
    policy = new_policy(config.policy, BASE_CODEC, seed=seed_of(config.seed, "weights"))
    size = policy.config.image_size
    pictures = render_all(config, folder=folder / "pictures", image_size=size, progress=progress)
    answers = [policy, *(policy.answering_as(CONFIGS[name]()) for name in config.also)]
    reader = PlaceReader(policy.place_features_dim)
    modules = nn.ModuleDict({"policy": policy, "reader": reader})
    optimiser = torch.optim.AdamW(
        [p for p in modules.parameters() if p.requires_grad],
        lr=config.lr,
        betas=(0.9, 0.98),
        weight_decay=config.weight_decay,
        fused=True,
    )
    trained = config.looks * config.pictures_per_look
    rng, noise = numpy_generator(config.seed, "pretrain"), torch.Generator().manual_seed(seed_of(config.seed, "flow"))
    step = _restore(folder, modules, optimiser, rng, noise)
    with MetricsLog(folder, resume_step=step) as log:
        while step < config.steps:
            for group in optimiser.param_groups:
                group["lr"] = _rate(step, config)
            index = rng.integers(0, trained, config.batch_size)
            with dumping_non_finite(folder, step=step):
                figures = _update(modules, answers, optimiser, pictures, index, rng, noise, config)
            step += 1
            if step % config.log_every == 0:
                log.write(step, {name: float(value) for name, value in figures.items()})
            if step % config.save_every == 0 or step == config.steps:
                held_out = measure(modules, pictures, range(trained, len(pictures.image)), config)
                log.write(step, held_out)
                save_training_state(folder, step, _state(modules, optimiser, rng, noise))
            if progress is not None:
                progress(step, config.steps)
    policy.eval()
    return policy, measure(modules, pictures, range(trained, len(pictures.image)), config)


def measure(modules: nn.ModuleDict, pictures: Pictures, rows: range, config: PretrainConfig) -> dict[str, float]:
    """Return errors on looks that were not trained on: place [cm], and first commanded step of a reach [cm]."""
    policy = modules["policy"]
    assert isinstance(policy, VlaPolicy)
    rng, generator = numpy_generator(config.seed, "held-out"), torch.Generator().manual_seed(0)
    batch, labels = caption_batch(pictures, np.array(rows), horizon=policy.horizon, rng=rng)
    with torch.no_grad():
        prefix = policy.encode(batch.observation)
        error = (modules["reader"](policy.place_features(prefix)) - labels.place) * torch.from_numpy(
            PLACE_HALF_M
        ).float()
        flat = error[:, :2].norm(dim=1)
        action = policy.sample(batch.observation, explore=False, generator=generator).action
    reach = ~batch.is_pad[:, 0]
    moved = (action[reach] - batch.action[reach])[:, :4, :3].sum(1).norm(dim=1)
    still = batch.action[reach][:, :4, :3].sum(1).norm(dim=1)
    return {
        "held_out/place_cm": 100 * float(flat.median()),
        "held_out/place_p90_cm": 100 * float(flat.quantile(0.9)),
        "held_out/reach_cm": 100 * float(moved.median()),
        "held_out/reach_motion_cm": 100 * float(still.median()),
    }


def pointing_loss(policy: AnyPolicy, observation: Observation, pixel: Float[Tensor, "B 2"]) -> Float[Tensor, ""]:
    """Return the cross-entropy of half of the grounding heads against the cell that holds the named thing.

    Without it the token's attention stays flat for thousands of steps: the expected place alone is a weak teacher.
    Things outside the frame do not count.
    """
    scores = policy.pointing(observation)
    cells = policy.config.image_size // CELL
    row, column = ((pixel + 1) / 2 * cells).long().clamp(0, cells - 1).T
    half = scores.shape[1] // 2
    target = (row * cells + column)[:, None].expand(-1, half)
    loss_B = nn.functional.cross_entropy(scores[:, :half].transpose(1, 2), target, reduction="none").mean(1)
    inside_B = (pixel.abs() < 1).all(1)
    return (loss_B * inside_B).sum() / inside_B.sum().clamp(min=1)


def _update(  # noqa: PLR0913  (one training step, all of it)
    modules: nn.ModuleDict,
    answers: Sequence[AnyPolicy],
    optimiser: torch.optim.Optimizer,
    pictures: Pictures,
    index: np.ndarray,
    rng: np.random.Generator,
    noise: torch.Generator,
    config: PretrainConfig,
) -> dict[str, Tensor]:
    policy = answers[0]
    batch, labels = caption_batch(pictures, index, horizon=max(one.horizon for one in answers), rng=rng)
    image = ColourJitter()(batch.observation.image, generator=noise)
    batch = replace(batch, observation=replace(batch.observation, image=image))
    prefix = policy.encode(batch.observation)
    place_loss = nn.functional.smooth_l1_loss(modules["reader"](policy.place_features(prefix)), labels.place, beta=0.1)
    point_loss = pointing_loss(policy, batch.observation, labels.pixel)
    imitation = torch.stack(
        [one.loss(_first_steps(batch, one.horizon), generator=noise, prefix=prefix).mean() for one in answers]
    ).sum()
    loss = imitation + config.place_weight * place_loss + config.point_weight * point_loss
    require_finite(loss, dump=batch_tensors(batch))
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    require_finite(nn.utils.clip_grad_norm_(modules.parameters(), 1.0), dump=batch_tensors(batch))
    optimiser.step()
    terms = {"loss": loss, "imitation": imitation, "place": place_loss, "point": point_loss}
    return {f"pretrain/{name}": term.detach() for name, term in terms.items()}


def _first_steps(batch: Batch, horizon: int) -> Batch:
    return replace(batch, action=batch.action[:, :horizon], is_pad=batch.is_pad[:, :horizon])


def _rate(step: int, config: PretrainConfig) -> float:
    warm = min(1.0, (step + 1) / config.warmup_steps)
    return config.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / config.steps)))


def _state(
    modules: nn.ModuleDict, optimiser: torch.optim.Optimizer, rng: np.random.Generator, noise: torch.Generator
) -> dict[str, Any]:
    return {
        "modules": modules.state_dict(),
        "optimiser": optimiser.state_dict(),
        "rng": rng.bit_generator.state,
        "noise": noise.get_state(),
    }


def _restore(
    folder: Path,
    modules: nn.ModuleDict,
    optimiser: torch.optim.Optimizer,
    rng: np.random.Generator,
    noise: torch.Generator,
) -> int:
    state = load_training_state(folder)
    if state is None:
        return 0
    modules.load_state_dict(state["modules"])
    optimiser.load_state_dict(state["optimiser"])
    rng.bit_generator.state = state["rng"]
    noise.set_state(state["noise"])
    return int(state["step"])
