"""What policies there are, and what each needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rlco.core.scene import ACTION_DIM, STATE_DIM
from rlco.data.normalise import Codec, Normaliser
from rlco.policies.adapters import LoraConfig
from rlco.policies.checkpoint import base_folder
from rlco.policies.families import CONFIGS, empty_policy, family
from rlco.policies.layout import network_shapes

_BFLOAT16, _TRAINED = 2, 16
"""Bytes a parameter: as it is kept; and in training: float32 weight, its gradient and AdamW's two averages."""
_UNITS = Codec(
    state=Normaliser(low=(-1.0,) * STATE_DIM, high=(1.0,) * STATE_DIM),
    action=Normaliser(low=(-1.0,) * ACTION_DIM, high=(1.0,) * ACTION_DIM),
)
_PI_START = "model.safetensors of openpi or lerobot, its statistics and PaliGemma's tokenizer.json"
_RELEASED = {
    "pi05-base": _PI_START,
    "pi0-base": _PI_START,
    "openvla-7b": "folder of OpenVLA or of a fine-tune, its statistics (--unnorm-key) and Llama 2's tokenizer.json",
}
"""Size -> what its released weights come as."""
_ADAPTED = {"pi05": LoraConfig(lora_tower="both"), "pi0": LoraConfig(lora_tower="both"), "openvla": LoraConfig()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One named size of a family. Memory is that of weights, gradients and optimiser; activations come on top."""

    name: str
    family: str
    parameters: int
    expert_parameters: int
    """Of what learns with --trainable expert: pi0's and pi0.5's action expert, OpenVLA's language model."""
    image_px: int
    prompt_tokens: int
    prompt: str
    horizon: int
    inference_bytes: int
    """bfloat16."""
    lora_bytes: int
    """Adapters, everything else in bfloat16: of rank 16 on the attention of both stacks (pi0, pi0.5), of rank 32 on
    every linear map (OpenVLA)."""
    expert_bytes: int
    """The expert trained, everything else in bfloat16."""
    full_bytes: int
    start: str
    """Where its weights come from."""


def catalogue() -> list[Card]:
    """Return every named size."""
    return [card(name) for name in CONFIGS]


def card(name: str) -> Card:
    """Return what ``name`` of ``CONFIGS`` needs."""
    config = CONFIGS[name]()
    interface = family(config.family).interface(config, _UNITS)
    policy = empty_policy(config, interface)
    total = sum(math.prod(shape) for shape in network_shapes(config).values())
    lora = config.lora(_ADAPTED[config.family])
    maps = [policy.network.get_submodule(adapted) for adapted in policy.adapted_maps(lora)]
    adapters = sum(lora.lora_rank * (each.in_features + each.out_features) for each in maps)
    policy.set_trainable("expert")
    expert = sum(p.numel() for p in policy.network.parameters() if p.requires_grad)
    return Card(
        name=name,
        family=config.family,
        parameters=total,
        expert_parameters=expert,
        image_px=config.image_size,
        prompt_tokens=config.prompt_length,
        prompt=interface.prompt,
        horizon=config.horizon,
        inference_bytes=_BFLOAT16 * total,
        lora_bytes=_BFLOAT16 * total + _TRAINED * adapters,
        expert_bytes=_BFLOAT16 * (total - expert) + _TRAINED * expert,
        full_bytes=_TRAINED * total,
        start=_start(name),
    )


def _start(name: str) -> str:
    if base_folder(name) is not None:
        return "ships with the package"
    if name not in _RELEASED:
        return f"random weights: untrained:{name}"
    return f"released {_RELEASED[name]}: rlco policies convert"
