"""Transformers' pi0 at the size of one of our configurations: what ours is compared with."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PI0Config, PI0ForConditionalGeneration

from rlco.policies.pi.config import PiConfig
from rlco.policies.pi.inputs import Inputs


def transformers_pi0(config: PiConfig) -> PI0ForConditionalGeneration:
    """Return it with random weights."""
    stack = {
        "model_type": "gemma",
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
    }
    language, expert = (
        {**stack, "hidden_size": size.width, "intermediate_size": size.mlp} for size in (config.language, config.expert)
    )
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": config.vision.width,
        "intermediate_size": config.vision.mlp,
        "num_hidden_layers": config.vision_depth,
        "num_attention_heads": config.vision_heads,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "vision_use_head": False,
    }
    vlm = {
        "model_type": "paligemma",
        "text_config": {**language, "vocab_size": config.vocabulary},
        "vision_config": vision,
        "projection_dim": config.language.width,
        "image_token_id": config.vocabulary,
    }
    sizes = PI0Config(
        vlm_config=vlm,
        dit_config=expert,
        chunk_size=config.horizon,
        max_action_dim=config.model_action_dim,
        max_state_dim=config.model_state_dim,
        loss_reduction="none",
    )
    return PI0ForConditionalGeneration(sizes).eval()


def its_arguments(inputs: Inputs, config: PiConfig) -> dict[str, Any]:
    """Return ``inputs`` as transformers wants them: with placeholders for the patches."""
    batch, cameras = inputs.pixels.shape[:2]
    patches = cameras * (config.image_size // config.patch_size) ** 2
    places = torch.full((batch, patches), config.vocabulary)
    return {
        "state": inputs.state,
        "input_ids": torch.cat([places, inputs.tokens], dim=1),
        "attention_mask": torch.cat([torch.ones_like(places), inputs.is_token.long()], dim=1),
        "pixel_values": inputs.pixels,
        "pixel_attention_mask": torch.ones(batch, cameras, dtype=torch.bool),
    }
