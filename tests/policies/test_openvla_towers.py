"""Both towers against those of transformers, through the table of names."""

from dataclasses import replace

import pytest
import torch
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel, SiglipVisionConfig, SiglipVisionModel

from rlco.policies.openvla.vision import Dino, Siglip, Tower
from tests.policies.openvla_folders import config


def as_transformers(tower: Tower, names: dict[str, str]) -> dict[str, torch.Tensor]:
    """Rename a tower's tensors: ours (timm's) -> transformers'; qkv is three maps there."""
    out = {}
    for key, value in tower.state_dict().items():
        if key.startswith("attn_pool"):
            continue
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        if ".qkv." in key:
            out |= {key.replace("qkv", f"{name}_proj"): part for name, part in zip("qkv", value.chunk(3), strict=True)}
        else:
            out[key] = value
    return out


def difference(tower: Tower, theirs: torch.nn.Module, state: dict[str, torch.Tensor], *, before: int) -> float:
    """Return the largest difference of the features before the last block."""
    theirs.load_state_dict(state)  # strict: every name is used
    pixels = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = theirs.eval()(pixels, output_hidden_states=True).hidden_states[-2][:, before:]
        return float((tower(pixels) - wanted).abs().max() / wanted.abs().max())


def shaken(tower: Tower) -> Tower:
    """Leave nothing at its starting value: a scale of 1 or a bias of 0 hides a missing term."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return tower


def test_our_dino_is_transformers_dinov2_with_registers_through_the_table() -> None:
    small = replace(config(), image_size=56, patch_size=14)
    small = replace(small, dino=replace(small.dino, width=48, mlp=96, depth=4, heads=3))
    tower = shaken(Dino(small))
    names = {
        "blocks.": "encoder.layer.",
        "attn.qkv": "attention.qkv",
        "attn.proj": "attention.o_proj",
        "ls1.scale_factor": "layer_scale1.lambda1",
        "ls2.scale_factor": "layer_scale2.lambda1",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "cls_token": "embeddings.cls_token",
        "reg_token": "embeddings.register_tokens",
    }
    state = as_transformers(tower, names)
    state = {("layernorm" + k.removeprefix("norm") if k.startswith("norm.") else k): v for k, v in state.items()}
    position = state.pop("pos_embed")
    state["embeddings.position_embeddings"] = torch.cat([torch.zeros(1, 1, 48), position], dim=1)
    state["embeddings.mask_token"] = torch.zeros(1, 48)
    theirs = Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=48,
            num_hidden_layers=4,
            num_attention_heads=3,
            mlp_ratio=2,
            image_size=56,
            patch_size=14,
            num_register_tokens=4,
            layer_norm_eps=1e-6,
        )
    )
    assert difference(tower, theirs, state, before=5) < 2e-6


@pytest.mark.parametrize(("activation", "is_same"), [("gelu", True), ("gelu_pytorch_tanh", False)])
def test_our_siglip_is_transformers_with_exact_gelu_through_the_table(activation: str, *, is_same: bool) -> None:
    small = replace(config(), image_size=56, patch_size=14)
    small = replace(small, siglip=replace(small.siglip, width=48, mlp=80, depth=4, heads=3))
    tower = shaken(Siglip(small))
    names = {
        "blocks.": "encoder.layers.",
        "norm1": "layer_norm1",
        "norm2": "layer_norm2",
        "attn.qkv": "self_attn.qkv",
        "attn.proj": "self_attn.out_proj",
        "patch_embed.proj": "embeddings.patch_embedding",
    }
    state = as_transformers(tower, names)
    state = {("post_layernorm" + k.removeprefix("norm") if k.startswith("norm.") else k): v for k, v in state.items()}
    state["embeddings.position_embedding.weight"] = state.pop("pos_embed")[0]
    theirs = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=48,
            intermediate_size=80,
            num_hidden_layers=4,
            num_attention_heads=3,
            image_size=56,
            patch_size=14,
            hidden_act=activation,
            vision_use_head=False,
            layer_norm_eps=1e-6,
        )
    )
    found = difference(tower, theirs, state, before=0)
    assert (found < 2e-6) == is_same
