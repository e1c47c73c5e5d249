"""How many floating-point operations the network takes, from its sizes alone."""

from __future__ import annotations

from dataclasses import dataclass

from rlco.policies.pi.config import PiConfig, TransformerSize


@dataclass(frozen=True, kw_only=True, slots=True)
class Flops:
    """Operations for one observation: matrix products only, a multiply-add is two.

    A backward pass is twice the forward's, one product for the input's gradient and one for the weight's, but for what
    has no gradient: the inputs of the network, and in the prefix what nothing reads of the last layer. The expert reads
    its keys and values; its queries, attention, output map and MLP only make the critic's features.
    """

    prefix: int
    expert: int
    """For all noisy chunks of the observation."""
    prefix_backward: int
    """Of the flow loss."""
    expert_backward: int

    @property
    def full_step(self) -> int:
        """Return those of a supervised step of the whole network."""
        return self.expert_step + self.prefix_backward

    @property
    def expert_step(self) -> int:
        """Return those of a supervised step of the expert alone, behind a prefix that is computed each time."""
        return self.prefix + self.expert + self.expert_backward


def forward_flops(config: PiConfig, *, cameras: int = 1, copies: int = 1) -> Flops:
    """Count the published architecture with full prompts; each of the ``copies`` noisy chunks has its own flow time.

    The backward counts are those of the flow loss, which reads the prefix through the expert's attention only.

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
    tokens, before = copies * config.horizon, seen + lead
    first = _layer(config, config.expert, tokens=lead, seen=before)
    expert = config.depth * (first + _layer(config, config.expert, tokens=tokens, seen=before + tokens))
    expert += suffix * copies
    state = lead * config.model_state_dim * config.expert.width
    expert += state
    prefix = cameras * tower + language
    unread = _layer(config, config.language, tokens=seen, seen=seen)
    unread -= _keys_and_values(config, config.language, tokens=seen)
    unread_first = first - _keys_and_values(config, config.expert, tokens=lead)
    given = copies * config.horizon * config.model_action_dim * config.expert.width + state
    given += copies * config.expert.width**2 if config.family == "pi05" else 0  # the flow time
    return Flops(
        prefix=2 * prefix,
        expert=2 * expert,
        prefix_backward=2 * (2 * (prefix - unread) - cameras * patch),
        expert_backward=2 * (2 * (expert - unread_first) - given),
    )


def _keys_and_values(config: PiConfig, size: TransformerSize, *, tokens: int) -> int:
    return 2 * tokens * size.width * config.kv_heads * config.head_dim


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
