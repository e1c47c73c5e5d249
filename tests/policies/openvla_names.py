"""The published tensors of OpenVLA at any size, written out from the table of names."""

from __future__ import annotations

from rlco.policies.openvla.config import OpenVlaConfig, TowerSize

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, rows: int, columns: int) -> Shapes:
    """Return a map with a bias."""
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def norm(name: str, width: int) -> Shapes:
    """Return a layer norm."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def tower(root: str, c: OpenVlaConfig, size: TowerSize, *, scales: bool) -> Shapes:
    """Return what both of timm's towers have."""
    w = size.width
    out: Shapes = {
        f"{root}.pos_embed": (1, (c.image_size // c.patch_size) ** 2, w),
        f"{root}.patch_embed.proj.weight": (w, 3, c.patch_size, c.patch_size),
        f"{root}.patch_embed.proj.bias": (w,),
    }
    for i in range(size.depth):
        block = f"{root}.blocks.{i}"
        out |= norm(f"{block}.norm1", w) | norm(f"{block}.norm2", w)
        out |= linear(f"{block}.attn.qkv", 3 * w, w) | linear(f"{block}.attn.proj", w, w)
        out |= linear(f"{block}.mlp.fc1", size.mlp, w) | linear(f"{block}.mlp.fc2", w, size.mlp)
        if scales:
            out |= {f"{block}.ls1.scale_factor": (w,), f"{block}.ls2.scale_factor": (w,)}
    return out | norm(f"{root}.norm", w)


def released(c: OpenVlaConfig) -> Shapes:
    """Return name -> shape of a whole file."""
    dino, siglip = "vision_backbone.featurizer", "vision_backbone.fused_featurizer"
    both, s, w, language = c.dino.width + c.siglip.width, c.siglip.width, c.width, "language_model.model"
    out = tower(dino, c, c.dino, scales=True) | tower(siglip, c, c.siglip, scales=False)
    out |= {f"{dino}.cls_token": (1, 1, c.dino.width), f"{dino}.reg_token": (1, c.registers, c.dino.width)}
    out |= {f"{siglip}.attn_pool.latent": (1, 1, s)} | norm(f"{siglip}.attn_pool.norm", s)
    out |= linear(f"{siglip}.attn_pool.q", s, s) | linear(f"{siglip}.attn_pool.kv", 2 * s, s)
    out |= linear(f"{siglip}.attn_pool.proj", s, s)
    out |= linear(f"{siglip}.attn_pool.mlp.fc1", c.siglip.mlp, s) | linear(
        f"{siglip}.attn_pool.mlp.fc2", s, c.siglip.mlp
    )
    out |= (
        linear("projector.fc1", 4 * both, both) | linear("projector.fc2", w, 4 * both) | linear("projector.fc3", w, w)
    )
    for i in range(c.depth):
        layer = f"{language}.layers.{i}"
        out |= {
            f"{layer}.self_attn.q_proj.weight": (c.heads * c.head_dim, w),
            f"{layer}.self_attn.k_proj.weight": (c.kv_heads * c.head_dim, w),
            f"{layer}.self_attn.v_proj.weight": (c.kv_heads * c.head_dim, w),
            f"{layer}.self_attn.o_proj.weight": (w, c.heads * c.head_dim),
            f"{layer}.mlp.gate_proj.weight": (c.mlp, w),
            f"{layer}.mlp.up_proj.weight": (c.mlp, w),
            f"{layer}.mlp.down_proj.weight": (w, c.mlp),
            f"{layer}.input_layernorm.weight": (w,),
            f"{layer}.post_attention_layernorm.weight": (w,),
        }
    return out | {
        f"{language}.embed_tokens.weight": (c.vocabulary, w),
        f"{language}.norm.weight": (w,),
        "language_model.lm_head.weight": (c.vocabulary, w),
    }
