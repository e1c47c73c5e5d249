"""What the transformers of every family share: attention, its mask, and recomputed layers."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines of the positions."""


def run(layer: nn.Module, *inputs: object, recompute: bool) -> Any:  # noqa: ANN401
    """Call ``layer``; with ``recompute`` its activations are not kept for the backward pass but computed again."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)  # no layer draws anything
    return layer(*inputs)


def additive(is_seen: Bool[Tensor, "B rows S"], dtype: torch.dtype) -> Float[Tensor, "B 1 rows S"]:
    """Return the attention mask that every layer adds to its scores: 0 where seen, minus infinity elsewhere."""
    mask = torch.zeros(is_seen.shape, dtype=dtype, device=is_seen.device)
    return mask.masked_fill_(~is_seen, float("-inf")).unsqueeze(1)


def grouped_attention(
    q: Float[Tensor, "B heads T d"], k: Float[Tensor, "B kv S d"], v: Float[Tensor, "B kv S d"], mask: Tensor
) -> Float[Tensor, "B heads T d"]:
    """Attend with heads / kv_heads query heads for each key head."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1])


def packed_attention(
    q: Float[Tensor, "B heads T d"], k: Float[Tensor, "B kv S d"], v: Float[Tensor, "B kv S d"], mask: Tensor
) -> Float[Tensor, "B heads T d"]:
    """Do the same as ``grouped_attention`` with the queries that share a key head laid in one row."""
    kv, group = k.shape[1], q.shape[1] // k.shape[1]
    queries = q.unflatten(1, (kv, group)).flatten(2, 3)
    rows = mask if mask.shape[2] == 1 else mask.repeat(1, 1, group, 1)
    out = F.scaled_dot_product_attention(queries, k, v, attn_mask=rows)
    return out.unflatten(2, (group, -1)).flatten(1, 2)


class Projections(nn.Module):
    """Query, key, value and output maps of one stack in one layer."""

    def __init__(self, width: int, *, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q_proj = nn.Linear(width, heads * head_dim, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(heads * head_dim, width, bias=False)

    def qkv(self, x: Float[Tensor, "B T width"], rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Return q (B, heads, T, head_dim) and k, v (B, kv_heads, T, head_dim), rotated."""
        q, k, v = (
            projection(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = apply_rotary_pos_emb(q, k, *rotary)
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Float[Tensor, "B 1 rows S"]) -> Float[Tensor, "B T width"]:
        """Attend and project out. The mask is added; it has one row where every query sees the same."""
        # Grouped attention with a mask has no fast kernel on CUDA; packed, it has, and keys and values are not copied.
        attention = grouped_attention if q.is_cpu else packed_attention
        return self.o_proj(attention(q, k, v, mask).transpose(1, 2).flatten(2))
