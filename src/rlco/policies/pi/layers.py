"""Transformer layers of the language model and of the action expert, which attend jointly."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint
from transformers import GemmaConfig
from transformers.models.gemma.modeling_gemma import (
    GemmaMLP,
    GemmaRMSNorm,
    GemmaRotaryEmbedding,
    apply_rotary_pos_emb,
)

from rlco.policies.pi.config import PiConfig, TransformerSize

Rotary = tuple[Tensor, Tensor]


def gemma_config(config: PiConfig, size: TransformerSize) -> GemmaConfig:
    """Return the transformers configuration of one stack."""
    return GemmaConfig(
        hidden_size=size.width,
        intermediate_size=size.mlp,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_dim,
        hidden_act="gelu_pytorch_tanh",
        vocab_size=config.vocabulary,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )


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


class Rope(nn.Module):
    """Rotary embedding of positions, shared by both stacks."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        self.embedding = GemmaRotaryEmbedding(gemma_config(config, config.language))

    def forward(self, like: Tensor, position: Int[Tensor, "B T"]) -> Rotary:
        """Return cosines and sines (B, T, head_dim) in the type of ``like``."""
        return self.embedding(like, position)


class Projections(nn.Module):
    """Query, key, value and output maps of one stack in one layer."""

    def __init__(self, config: PiConfig, size: TransformerSize) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.q_proj = nn.Linear(size.width, config.heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(size.width, config.kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(size.width, config.kv_heads * config.head_dim, bias=False)
        self.o_proj = nn.Linear(config.heads * config.head_dim, size.width, bias=False)

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


class PrefixLayer(nn.Module):
    """A Gemma layer of the prefix. It never sees the suffix, so its keys and values can be kept."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        self.self_attn = Projections(config, config.language)
        self.mlp = GemmaMLP(gemma_config(config, config.language))
        self.input_layernorm = GemmaRMSNorm(config.language.width)
        self.post_attention_layernorm = GemmaRMSNorm(config.language.width)

    def forward(
        self, x: Float[Tensor, "B P width"], rotary: Rotary, mask: Float[Tensor, "B 1 1 P"]
    ) -> tuple[Float[Tensor, "B P width"], Tensor, Tensor]:
        """Return the layer's output and its keys and values (B, kv_heads, P, head_dim)."""
        q, k, v = self.self_attn.qkv(self.input_layernorm(x), rotary)
        x = x + self.self_attn.attend(q, k, v, mask)
        return x + self.mlp(self.post_attention_layernorm(x)), k, v


class AdaptiveNorm(nn.Module):
    """Root-mean-square norm whose scale, shift and gate come from the flow time (pi0.5's adaRMS).

    The dense map starts at zero: the gate is then zero and a layer is the identity.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, 3 * width)
        nn.init.zeros_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def forward(
        self, x: Float[Tensor, "B T width"], condition: Float[Tensor, "Bc N width"]
    ) -> tuple[Float[Tensor, "B T width"], Float[Tensor, "Bc T width"]]:
        """Return the normed input and the gate of the residual.

        Each of the N conditions holds for T / N tokens in a row; ``condition`` may have batch 1.
        """
        tokens = x.shape[1] // condition.shape[1]
        scale, shift, gate = self.dense(condition).repeat_interleave(tokens, dim=1).chunk(3, dim=-1)
        normed = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6)
        return (normed * (1 + scale) + shift).to(x.dtype), gate.to(x.dtype)


class PlainNorm(GemmaRMSNorm):
    """pi0's norm of the expert: nothing conditions it, and the residual has no gate."""

    def forward(self, x: Float[Tensor, "B T width"], condition: None) -> tuple[Float[Tensor, "B T width"], None]:
        """Return the normed input, and no gate."""
        return super().forward(x), None


EXPERT_NORMS = {"pi05": AdaptiveNorm, "pi0": PlainNorm}


def residual(x: Tensor, out: Tensor, gate: Tensor | None) -> Tensor:
    """Return x + gate * out, or x + out where there is no gate."""
    return x + out if gate is None else x + gate * out


class ExpertLayer(nn.Module):
    """A layer of the action expert: attends to the kept prefix and to its own block."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        self.self_attn = Projections(config, config.expert)
        self.mlp = GemmaMLP(gemma_config(config, config.expert))
        norm = EXPERT_NORMS[config.family]
        self.input_layernorm = norm(config.expert.width)
        self.post_attention_layernorm = norm(config.expert.width)

    def forward(
        self,
        x: Float[Tensor, "B T width"],
        condition: Float[Tensor, "Bc N width"] | None,
        rotary: Rotary,
        prefix: tuple[Tensor, Tensor],
        mask: Float[Tensor, "B 1 rows S"],
    ) -> Float[Tensor, "B T width"]:
        return self.attended(x, condition, rotary, prefix, mask)[0]

    def attended(
        self,
        x: Float[Tensor, "B T width"],
        condition: Float[Tensor, "Bc N width"] | None,
        rotary: Rotary,
        prefix: tuple[Tensor, Tensor],
        mask: Float[Tensor, "B 1 rows S"],
    ) -> tuple[Float[Tensor, "B T width"], tuple[Tensor, Tensor]]:
        """Return the layer's output, and the keys and values of the prefix and of ``x``: what comes after sees both."""
        normed, gate = self.input_layernorm(x, condition)
        q, k, v = self.self_attn.qkv(normed, rotary)
        k, v = torch.cat([prefix[0], k], dim=2), torch.cat([prefix[1], v], dim=2)
        x = residual(x, self.self_attn.attend(q, k, v, mask), gate)
        normed, gate = self.post_attention_layernorm(x, condition)
        return residual(x, self.mlp(normed), gate), (k, v)
