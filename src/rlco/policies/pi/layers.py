"""Transformer layers of the language model and of the action expert, which attend jointly."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import GemmaConfig
from transformers.models.gemma.modeling_gemma import (
    GemmaMLP,
    GemmaRMSNorm,
    GemmaRotaryEmbedding,
)

from rlco.policies.layers import Projections, Rotary
from rlco.policies.pi.config import PiConfig, TransformerSize


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


class Rope(nn.Module):
    """Rotary embedding of positions, shared by both stacks."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        self.embedding = GemmaRotaryEmbedding(gemma_config(config, config.language))

    def forward(self, like: Tensor, position: Int[Tensor, "B T"]) -> Rotary:
        """Return cosines and sines (B, T, head_dim) in the type of ``like``."""
        return self.embedding(like, position)


def _projections(config: PiConfig, size: TransformerSize) -> Projections:
    return Projections(size.width, heads=config.heads, kv_heads=config.kv_heads, head_dim=config.head_dim)


class PrefixLayer(nn.Module):
    """A Gemma layer of the prefix. It never sees the suffix, so its keys and values can be kept."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        self.self_attn = _projections(config, config.language)
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
        self.self_attn = _projections(config, config.expert)
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
