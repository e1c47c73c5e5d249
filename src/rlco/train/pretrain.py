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

from rlco.core.errors import unknown_name
from rlco.core.files import write_atomic
from rlco.core.policy import Batch
from rlco.core.rng import numpy_generator, seed_of
from rlco.core.stopping import between_steps
from rlco.data.augment import ColourJitter
from rlco.data.normalise import Codec, Normaliser
from rlco.engines.mujoco.randomised import EDITION, Pictures, render_pictures
from rlco.policies.contract import AnyPolicy
from rlco.policies.families import CONFIGS, family, new_policy
from rlco.train.captions import PLACE_HALF_M, Labels, caption_batch
from rlco.train.checkpoints import claim_folder, load_training_state, save_training_state
from rlco.train.log import MetricsLog
from rlco.train.nan_guard import batch_tensors, nan_guard, require_finite, require_finite_weights

Progress = Callable[[int, int], None]

BASE_CODEC = Codec(
    state=Normaliser(
        low=(0.25, -0.36, 0.0, -0.5, -0.5, -0.5, 0.0, -1.0), high=(0.81, 0.36, 0.36, 0.5, 0.5, 0.5, 0.08, 1.0)
    ),
    action=Normaliser(low=(-0.05,) * 3 + (-0.1,) * 3 + (-1.0,), high=(0.05,) * 3 + (0.1,) * 3 + (1.0,)),
)
"""Every policy that starts from the base keeps its units, whatever data it is tuned on."""
REACH_STEPS = 4
"""Control steps after which a held-out reach is measured, where a policy answers with as many."""
_POSITIVE = (
    *("looks", "pictures_per_look", "held_out_looks", "steps", "batch_size", "lr", "warmup_steps"),
    *("workers", "save_every", "log_every"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """How the shipped base was made."""

    policy: str = "pi05-nano"
    also: tuple[str, ...] = ()
    """Sizes of the same weights that answer in another way, such as openvla-oft-nano: trained along."""
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

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"PretrainConfig.{name} must be above 0, got {getattr(self, name)}.")
        names = (self.policy, *self.also)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"PretrainConfig.also must not repeat a policy, got {', '.join(twice)} twice.")

    def identity(self) -> dict[str, Any]:
        """Return what decides what is learnt, the edition of the pictures too."""
        values = {name: value for name, value in asdict(self).items() if (name, value) != ("also", ())}
        return {**values, "pictures": EDITION}


class PlaceReader(nn.Module):
    """Reads the places of the two things that a sentence names from the prefix. Dropped after pretraining."""

    def __init__(self, features: int, *, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.out = nn.Linear(features, 6)

    def forward(self, summary: Float[Tensor, "B features"]) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B 3"]]:
        """Return the first place and the second, in units of ``PLACE_HALF_M``."""
        first, second = self.out(summary).chunk(2, dim=-1)
        return first, second


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
    """Render, train and return the base with its held-out figures; resumes from ``folder``.

    Raises ``LookupError`` or ``ValueError`` before anything is rendered where the policies cannot be trained so.
    """
    answers = new_answers(config)
    policy = answers[0]
    claim_folder(folder, config.identity())
    size = policy.config.image_size
    pictures = render_all(config, folder=folder / "pictures", image_size=size, progress=progress)
    reader = PlaceReader(policy.place_features_dim, seed=seed_of(config.seed, "reader"))
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
    with MetricsLog(folder, resume_step=step) as log, between_steps() as stop:
        while step < config.steps:
            _set_rate(optimiser, step, config)
            index = rng.integers(0, trained, config.batch_size)
            with nan_guard(folder, step=step, modules=modules):
                figures = _update(modules, answers, optimiser, pictures, index, rng, noise, config)
                step += 1
                is_due = step % config.save_every == 0 or step == config.steps
                is_saved = is_due or stop.is_up()
                if is_saved:
                    require_finite_weights(modules)
            if step % config.log_every == 0:
                log.write(step, {name: float(value) for name, value in figures.items()})
            if is_due:  # where it only stops, nothing is measured: the metrics are those of a run that did not
                log.write(step, measure(modules, answers, pictures, range(trained, len(pictures.image)), config))
            if is_saved:
                save_training_state(folder, step, _state(modules, optimiser, rng, noise))
            if progress is not None:
                progress(step, config.steps)
            if is_saved and stop.is_up():
                break
    policy.eval()
    return policy, measure(modules, answers, pictures, range(trained, len(pictures.image)), config)


def new_answers(config: PretrainConfig) -> list[AnyPolicy]:
    """Return the untrained policy, and those of the same weights that answer in another way.

    Raises ``LookupError`` for an unknown name, ``ValueError`` for a policy without a grounding token or for sizes of
    other weights.
    """
    for name in (config.policy, *config.also):
        if name not in CONFIGS:
            raise unknown_name("policy", name, CONFIGS)
    if not CONFIGS[config.policy]().grounding_heads:
        known = ", ".join(name for name, size in CONFIGS.items() if size().grounding_heads)
        raise ValueError(
            f"'{config.policy}' has no grounding token, to which pretraining teaches where a named thing is. These "
            f"have one: {known}."
        )
    policy = new_policy(config.policy, BASE_CODEC, seed=seed_of(config.seed, "weights"))
    return [policy, *(policy.answering_as(CONFIGS[name]()) for name in config.also)]


def measure(
    modules: nn.ModuleDict, answers: Sequence[AnyPolicy], pictures: Pictures, rows: range, config: PretrainConfig
) -> dict[str, float]:
    """Return median errors on looks that were not trained on [cm].

    Of the named thing's place (and its 90th percentile), and of the second one's where a sentence names two; and of
    each answer's reach, the sum of its first four control
    steps or of all that it has, beside how far the reach goes in them. Those of ``config.also`` end in their name. What
    an answer says does not depend on those beside it: each has its own noise, and tokens are the likeliest.
    """
    rng = numpy_generator(config.seed, "held-out")
    batch, labels = caption_batch(pictures, np.array(rows), horizon=max(one.horizon for one in answers), rng=rng)
    with torch.no_grad():
        features = answers[0].place_features(answers[0].encode(batch.observation))
        first, second = modules["reader"](features)
    flat = _flat_error_m(first, labels.place)
    figures = {"held_out/place_cm": flat.median(), "held_out/place_p90_cm": flat.quantile(0.9)}
    if labels.has_second.any():
        flat = _flat_error_m(second, labels.second_place)[labels.has_second]
        figures |= {"held_out/second_cm": flat.median(), "held_out/second_p90_cm": flat.quantile(0.9)}
    reach = ~batch.is_pad[:, 0]
    for one, ending in zip(answers, ("", *(f"_{name}" for name in config.also)), strict=True):
        likeliest = one.at_temperature(0.0) if "temperature" in family(one.config.family).takes else one
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            action = likeliest.sample(batch.observation, explore=False, generator=generator).action
        wanted = batch.action[reach][:, : min(REACH_STEPS, one.horizon), :3].sum(1)
        reached = action[reach][:, :REACH_STEPS, :3].sum(1)
        figures[f"held_out/reach{ending}_cm"] = (reached - wanted).norm(dim=1).median()
        figures[f"held_out/reach_motion{ending}_cm"] = wanted.norm(dim=1).median()
    return {name: 100 * float(value) for name, value in figures.items()}


def pointing_loss(scores: Float[Tensor, "B heads cells"], labels: Labels) -> Float[Tensor, ""]:
    """Return the cross-entropy of the grounding heads against the cells that hold the named things.

    Half of the heads point at the first thing, a quarter at the second (at the first where there is none), the others
    are free. Each head that points counts as one of the first half does in that half's mean. Things outside the frame
    do not count. Without this loss the token's attention stays flat for thousands of steps: the expected place alone is
    a weak teacher.
    """
    half, quarter = scores.shape[1] // 2, scores.shape[1] // 4
    cells = math.isqrt(scores.shape[2])
    pixel = torch.cat(
        [
            labels.pixel[:, None].expand(-1, half, -1),
            labels.second_pixel[:, None].expand(-1, quarter, -1),
        ],
        dim=1,
    )
    row, column = ((pixel + 1) / 2 * cells).long().clamp(0, cells - 1).unbind(-1)
    pointed = scores[:, : half + quarter].transpose(1, 2)
    loss = nn.functional.cross_entropy(pointed, row * cells + column, reduction="none")
    inside = (pixel.abs() < 1).all(-1)
    return (loss * inside).sum() / inside[:, :half].sum().clamp(min=1)


def place_loss(reader: nn.Module, features: Float[Tensor, "B features"], labels: Labels) -> Float[Tensor, ""]:
    """Return the smooth error of what a ``PlaceReader`` reads: the first place, plus the second where there is one."""
    first, second = reader(features)
    error_B = nn.functional.smooth_l1_loss(second, labels.second_place, beta=0.1, reduction="none").mean(1)
    of_second = (error_B * labels.has_second).sum() / labels.has_second.sum().clamp(min=1)
    return nn.functional.smooth_l1_loss(first, labels.place, beta=0.1) + of_second


def _flat_error_m(read: Float[Tensor, "B 3"], place: Float[Tensor, "B 3"]) -> Float[Tensor, " B"]:
    """Return the horizontal distance between places that are read and true ones."""
    return ((read - place) * torch.from_numpy(PLACE_HALF_M).float())[:, :2].norm(dim=1)


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
    place = place_loss(modules["reader"], policy.place_features(prefix), labels)
    point = pointing_loss(policy.pointing(batch.observation), labels)
    imitation = torch.stack(
        [one.loss(_first_steps(batch, one.horizon), generator=noise, prefix=prefix).mean() for one in answers]
    ).sum()
    loss = imitation + config.place_weight * place + config.point_weight * point
    require_finite(loss, dump=batch_tensors(batch))
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    require_finite(nn.utils.clip_grad_norm_(modules.parameters(), 1.0), dump=batch_tensors(batch))
    optimiser.step()
    terms = {"loss": loss, "imitation": imitation, "place": place, "point": point}
    return {f"pretrain/{name}": term.detach() for name, term in terms.items()}


def _first_steps(batch: Batch, horizon: int) -> Batch:
    return replace(batch, action=batch.action[:, :horizon], is_pad=batch.is_pad[:, :horizon])


def _set_rate(optimiser: torch.optim.Optimizer, step: int, config: PretrainConfig) -> None:
    warm = min(1.0, (step + 1) / config.warmup_steps)
    for group in optimiser.param_groups:
        group["lr"] = config.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / config.steps)))


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
