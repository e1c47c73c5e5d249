"""The published tensors of pi0 and pi0.5 at any size, written out from the table of names."""

from __future__ import annotations

from rlco.policies.pi.config import PiConfig, TransformerSize

Shapes = dict[str, tuple[int, ...]]
ROOT = "paligemma_with_expert"
EMBEDDING = f"{ROOT}.paligemma.lm_head.weight"


def linear(name: str, rows: int, columns: int) -> Shapes:
    """Return a map with a bias."""
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def vision(c: PiConfig) -> Shapes:
    """Return the SigLIP tower."""
    v, mlp, tower = c.vision.width, c.vision.mlp, f"{ROOT}.paligemma.model.vision_tower.vision_model"
    out: Shapes = {
        f"{tower}.embeddings.patch_embedding.weight": (v, 3, c.patch_size, c.patch_size),
        f"{tower}.embeddings.patch_embedding.bias": (v,),
        f"{tower}.embeddings.position_embedding.weight": ((c.image_size // c.patch_size) ** 2, v),
        f"{tower}.post_layernorm.weight": (v,),
        f"{tower}.post_layernorm.bias": (v,),
    }
    for i in range(c.vision_depth):
        layer = f"{tower}.encoder.layers.{i}"
        out |= {f"{layer}.layer_norm{n}.{part}": (v,) for n in (1, 2) for part in ("weight", "bias")}
        out |= linear(f"{layer}.mlp.fc1", mlp, v) | linear(f"{layer}.mlp.fc2", v, mlp)
        for name in ("q", "k", "v", "out"):
            out |= linear(f"{layer}.self_attn.{name}_proj", v, v)
    return out


def gemma(c: PiConfig, root: str, size: TransformerSize, *, adaptive: bool) -> Shapes:
    """Return one stack of the two."""
    w, h = size.width, c.heads * c.head_dim
    norms, out = [f"{root}.norm"], {}
    for i in range(c.depth):
        layer = f"{root}.layers.{i}"
        norms += [f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm"]
        out |= {
            f"{layer}.self_attn.q_proj.weight": (h, w),
            f"{layer}.self_attn.k_proj.weight": (c.head_dim, w),
            f"{layer}.self_attn.v_proj.weight": (c.head_dim, w),
            f"{layer}.self_attn.o_proj.weight": (w, h),
            f"{layer}.mlp.gate_proj.weight": (size.mlp, w),
            f"{layer}.mlp.up_proj.weight": (size.mlp, w),
            f"{layer}.mlp.down_proj.weight": (w, size.mlp),
        }
    for norm in norms:
        out |= linear(f"{norm}.dense", 3 * w, w) if adaptive else {f"{norm}.weight": (w,)}
    return out


def released(c: PiConfig) -> Shapes:
    """Return name -> shape of a whole file."""
    w, e = c.language.width, c.expert.width
    own = {
        "pi05": linear("time_mlp_in", e, e) | linear("time_mlp_out", e, e),
        "pi0": linear("state_proj", e, c.model_state_dim)
        | linear("action_time_mlp_in", e, 2 * e)
        | linear("action_time_mlp_out", e, e),
    }
    return (
        vision(c)
        | linear(f"{ROOT}.paligemma.model.multi_modal_projector.linear", w, c.vision.width)
        | gemma(c, f"{ROOT}.paligemma.model.language_model", c.language, adaptive=False)
        | gemma(c, f"{ROOT}.gemma_expert.model", c.expert, adaptive=c.family == "pi05")
        | {EMBEDDING: (c.vocabulary, w), f"{ROOT}.gemma_expert.lm_head.weight": (c.vocabulary, e)}
        | linear("action_in_proj", e, c.model_action_dim)
        | linear("action_out_proj", c.model_action_dim, e)
        | own[c.family]
    )
