"""What policies there are, and what each needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rlco.policies.checkpoint import WEIGHTS
from rlco.policies.layout import network_shapes
from rlco.policies.pi.config import CONFIGS, Family
from rlco.policies.pi.prompts import STYLE_OF_FAMILY

_PREFIX = "paligemma_with_expert.paligemma."
_BFLOAT16, _TRAINED = 2, 16
"""Bytes a parameter: as it is kept; and in training: float32 weight, its gradient and AdamW's two averages."""
LORA_RANK = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One named size of a family. Memory is that of weights, gradients and optimiser; activations come on top."""

    name: str
    family: Family
    parameters: int
    expert_parameters: int
    image_px: int
    prompt_tokens: int
    prompt: str
    horizon: int
    inference_bytes: int
    """bfloat16."""
    lora_bytes: int
    """Adapters of rank 16 on the attention of both stacks, everything else in bfloat16."""
    expert_bytes: int
    """The action expert trained, everything else in bfloat16."""
    full_bytes: int
    start: str
    """Where its weights come from."""


def catalogue() -> list[Card]:
    """Return every named size."""
    return [card(name) for name in CONFIGS]


def card(name: str) -> Card:
    """Return what ``name`` of ``CONFIGS`` needs."""
    config = CONFIGS[name]()
    shapes = network_shapes(config)
    sizes = {key: math.prod(shape) for key, shape in shapes.items()}
    total = sum(sizes.values())
    expert = sum(size for key, size in sizes.items() if not key.startswith((_PREFIX, "grounding.")))
    adapters = sum(
        LORA_RANK * sum(shape)
        for key, shape in shapes.items()
        if key.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight"))
        and "vision_tower" not in key
    )
    return Card(
        name=name,
        family=config.family,
        parameters=total,
        expert_parameters=expert,
        image_px=config.image_size,
        prompt_tokens=config.prompt_length,
        prompt=STYLE_OF_FAMILY[config.family],
        horizon=config.horizon,
        inference_bytes=_BFLOAT16 * total,
        lora_bytes=_BFLOAT16 * total + _TRAINED * adapters,
        expert_bytes=_BFLOAT16 * (total - expert) + _TRAINED * expert,
        full_bytes=_TRAINED * total,
        start=_start(name),
    )


def _start(name: str) -> str:
    if (WEIGHTS / name).is_dir():
        return "ships with the package"
    if not name.endswith("-base"):
        return f"random weights: untrained:{name}"
    return (
        "released model.safetensors of openpi or lerobot, its statistics and PaliGemma's tokenizer.json: "
        "rlco policies convert"
    )
