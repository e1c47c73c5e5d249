"""How many floating-point operations the network takes, from its sizes alone."""

from __future__ import annotations

from dataclasses import dataclass

from rlco.policies.pi.config import PiConfig, TransformerSize


@dataclass(frozen=True, kw_only=True, slots=True)
class Flops:
    """Operations of one forward pass for one observation: matrix products only, a multiply-add is two."""

    prefix: int
    expert: int
    """For all noisy chunks of the observation."""

    @property
    def full_step(self) -> int:
        """Return those of a training step: the backward pass takes twice the forward's."""
        return 3 * (self.prefix + self.expert)

    @property
    def expert_step(self) -> int:
        """Return those of a training step of the expert alone, behind a prefix that is computed each time."""
        return self.prefix + 3 * self.expert


def forward_flops(config: PiConfig, *, cameras: int = 1, copies: int = 1) -> Flops:
    """Count the published architecture with full prompts; each of the ``copies`` noisy chunks has its own flow time.

    Raises ``ValueError`` for a size with the grounding token, whose map is not counted.
    """
    if config.grounding_heads:
        raise ValueError(
            f"forward_flops counts no grounding token, this size has {config.grounding_heads} heads of it."
        )
    patches = (config.image_size // config.patch_size) ** 2
    vision = config.vision
    patch = patches * 3 * config.patch_size**2 * vision.width
    layer = patches * (4 * vision.width**2 + 2 * vision.width * vision.mlp) + 2 * patches**2 * vision.width
    tower = patch + config.vision_depth * layer + patches * vision.width * config.language.width
    seen = cameras * patches + config.prompt_length
    language = config.depth * _layer(config, config.language, tokens=seen, seen=seen)
    lead, suffix = _suffix(config)
    tokens = lead + copies * config.horizon
    expert = config.depth * _layer(config, config.expert, tokens=tokens, seen=seen + tokens) + suffix * copies
    expert += lead * config.model_state_dim * config.expert.width
    return Flops(prefix=2 * (cameras * tower + language), expert=2 * expert)


def _layer(config: PiConfig, size: TransformerSize, *, tokens: int, seen: int) -> int:
    """Return multiply-adds of one layer of either stack, for ``tokens`` that attend to ``seen``."""
    inner = config.heads * config.head_dim
    projections = 2 * size.width * (inner + config.kv_heads * config.head_dim)
    return tokens * (projections + 3 * size.width * size.mlp) + 2 * tokens * seen * inner


def _suffix(config: PiConfig) -> tuple[int, int]:
    """Return the number of lead tokens, and multiply-adds of what stands around the expert's layers for one chunk."""
    width = config.expert.width
    in_and_out = 2 * config.horizon * config.model_action_dim * width
    norms = (2 * config.depth + 1) * 3 * width**2
    around = {"pi05": (0, 2 * width**2 + norms), "pi0": (1, config.horizon * 3 * width**2)}
    lead, time = around[config.family]
    return lead, in_and_out + time
