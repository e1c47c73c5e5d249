"""How many floating-point operations a supervised step takes, from the sizes alone."""

from __future__ import annotations

from dataclasses import dataclass

from rlco.core.scene import STATE_DIM
from rlco.policies.openvla.config import OpenVlaConfig, TowerSize


@dataclass(frozen=True, kw_only=True, slots=True)
class Flops:
    """Operations for one sample with a full prompt: matrix products only, a multiply-add is two.

    A backward pass is twice the forward's: of a map, one product for the gradient of its input and one for that of its
    weight; of attention, two for each of its two. What has no gradient is not counted.
    """

    see: int
    """Towers and projector."""
    read: int
    """Language model: prompt, action tokens, and the scores that the loss takes."""
    full_step: int
    """Of the whole network."""
    expert_step: int
    """Of the language model alone, behind looks that are computed each time."""
    lora_step: int
    """With adapters beside every linear map: frozen weights take no gradient, their inputs do."""


@dataclass(frozen=True, slots=True)
class _Maps:
    """Multiply-adds of a part: of its linear maps, of low-rank maps beside them for each unit of rank, of attention."""

    own: int = 0
    beside: int = 0
    attention: int = 0

    def __add__(self, other: _Maps) -> _Maps:
        return _Maps(self.own + other.own, self.beside + other.beside, self.attention + other.attention)

    def __mul__(self, times: int) -> _Maps:
        return _Maps(self.own * times, self.beside * times, self.attention * times)

    @property
    def forward(self) -> int:
        return self.own + self.attention

    def lora(self, rank: int) -> int:
        """Return those of forward and backward where the maps are frozen and what is beside them learns."""
        return 2 * self.own + 3 * self.attention + 3 * rank * self.beside


def step_flops(config: OpenVlaConfig, *, lora_rank: int = 32) -> Flops:
    """Count the published architecture. Raises ``ValueError`` for a size with the grounding token."""
    if config.grounding_heads:
        raise ValueError(f"step_flops counts no grounding token, this size has {config.grounding_heads} heads of it.")
    towers = ((config.dino, 1 + config.registers), (config.siglip, 0))
    patches = sum(config.patches * 3 * config.patch_size**2 * size.width for size, _ in towers)
    blocks = _Maps()
    for size, lead in towers:
        blocks += _block(size, tokens=config.patches + lead) * (size.depth - 1)
    see, read = blocks + _projector(config), _language(config)
    state = STATE_DIM * config.width * config.proprio
    proprio = state + config.width**2 * config.proprio
    # with adapters, nothing before the first blocks' maps learns, nor before those of the first layer at the action
    first = _inputs(_after(config), config.width, _qkv(config))
    for size, lead in towers:
        first += _inputs(config.patches + lead, size.width, (3 * size.width,))
    lora = patches + see.lora(lora_rank) + read.lora(lora_rank) - first.own - lora_rank * first.beside
    return Flops(
        see=2 * (patches + see.forward),
        read=2 * (read.forward + proprio),
        full_step=2 * (2 * patches + 3 * (see.forward + read.forward + proprio) - state),
        expert_step=2 * (patches + see.forward + 3 * (read.forward + proprio) - state),
        lora_step=2 * (lora + 3 * proprio - state),
    )


def _map(tokens: int, inputs: int, outputs: int) -> _Maps:
    return _Maps(own=tokens * inputs * outputs, beside=tokens * (inputs + outputs))


def _inputs(tokens: int, inputs: int, outputs: tuple[int, ...]) -> _Maps:
    """Return those of the gradient of one input of several maps."""
    return _Maps(own=tokens * inputs * sum(outputs), beside=tokens * inputs * len(outputs))


def _after(config: OpenVlaConfig) -> int:
    """Return how many tokens are fed after the prompt: all, for the end that follows, or slots but the useless last."""
    return config.slots if config.head == "autoregressive" else config.slots - 1


def _qkv(config: OpenVlaConfig) -> tuple[int, int, int]:
    return config.heads * config.head_dim, config.kv_heads * config.head_dim, config.kv_heads * config.head_dim


def _block(size: TowerSize, *, tokens: int) -> _Maps:
    """Return those of one block of a vision transformer."""
    maps = _map(tokens, size.width, 3 * size.width) + _map(tokens, size.width, size.width)
    maps += _map(tokens, size.width, size.mlp) + _map(tokens, size.mlp, size.width)
    return maps + _Maps(attention=2 * tokens**2 * size.width)


def _projector(config: OpenVlaConfig) -> _Maps:
    both, tokens = config.dino.width + config.siglip.width, config.patches
    first = _map(tokens, both, 4 * both) + _map(tokens, 4 * both, config.width)
    return first + _map(tokens, config.width, config.width)


def _language(config: OpenVlaConfig) -> _Maps:
    """Return those of all layers and the output map; the prompt's tokens come first, and see only each other."""
    before = 1 + config.patches + config.proprio + config.prompt_length
    after = _after(config)
    inner, shared, _ = _qkv(config)
    tokens = before + after
    maps = _map(tokens, config.width, inner) + _map(tokens, config.width, shared) * 2
    maps += _map(tokens, inner, config.width)
    maps += _map(tokens, config.width, config.mlp) * 2 + _map(tokens, config.mlp, config.width)
    maps += _Maps(attention=2 * inner * (before**2 + after * tokens))
    return maps * config.depth + _map(after + 1, config.width, config.vocabulary)
