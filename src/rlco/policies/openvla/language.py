"""The Llama of OpenVLA, with keys and values that can be kept. Module names are those of transformers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm, LlamaRotaryEmbedding

from rlco.policies.layers import Projections, Rotary, run
from rlco.policies.openvla.config import OpenVlaConfig

Kept = tuple[tuple[Tensor, Tensor], ...]
"""Of every layer: keys and values (B, kv_heads, S, head_dim) of what came before."""


def llama_config(config: OpenVlaConfig) -> LlamaConfig:
    """Return the configuration of transformers (Llama 2: theta 10,000, norm epsilon 1e-6 as OpenVLA's file says)."""
    return LlamaConfig(
        hidden_size=config.width,
        intermediate_size=config.mlp,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_dim,
        vocab_size=config.vocabulary,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )


class Layer(nn.Module):
    """A Llama layer that may look back at kept keys and values."""

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__()
        llama = llama_config(config)
        self.self_attn = Projections(
            config.width, heads=config.heads, kv_heads=config.kv_heads, head_dim=config.head_dim
        )
        self.mlp = LlamaMLP(llama)
        self.input_layernorm = LlamaRMSNorm(config.width, eps=llama.rms_norm_eps)
        self.post_attention_layernorm = LlamaRMSNorm(config.width, eps=llama.rms_norm_eps)

    def forward(
        self,
        x: Float[Tensor, "B T width"],
        rotary: Rotary,
        mask: Float[Tensor, "B 1 rows S"],
        kept: tuple[Tensor, Tensor] | None,
    ) -> tuple[Float[Tensor, "B T width"], tuple[Tensor, Tensor]]:
        """Return the layer's output, and the keys and values of what was kept and of ``x``."""
        q, k, v = self.self_attn.qkv(self.input_layernorm(x), rotary)
        if kept is not None:
            k, v = torch.cat([kept[0], k], dim=2), torch.cat([kept[1], v], dim=2)
        x = x + self.self_attn.attend(q, k, v, mask)
        return x + self.mlp(self.post_attention_layernorm(x)), (k, v)


class Rope(nn.Module):
    """Rotary embedding of positions."""

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__()
        self.embedding = LlamaRotaryEmbedding(llama_config(config))

    def forward(self, like: Tensor, position: Int[Tensor, "B T"]) -> Rotary:
        """Return cosines and sines (B, T, head_dim) in the type of ``like``."""
        return self.embedding(like, position)


class LlamaModel(nn.Module):
    """Embedding, layers and final norm."""

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.embed_tokens.weight, std=config.width**-0.5)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.norm = LlamaRMSNorm(config.width, eps=1e-6)
        self.recompute = False

    def forward(
        self,
        x: Float[Tensor, "B T width"],
        rotary: Rotary,
        mask: Float[Tensor, "B 1 rows S"],
        kept: Kept | None = None,
    ) -> tuple[Float[Tensor, "B T width"], Kept]:
        """Return the normed outputs, and every layer's keys and values up to here."""
        pairs = []
        for i, layer in enumerate(self.layers):
            before = None if kept is None else kept[i]
            x, pair = run(layer, x, rotary, mask, before, recompute=self.recompute)
            pairs.append(pair)
        return self.norm(x), tuple(pairs)


class Llama(nn.Module):
    """The model and its output map, which is not tied to the embedding."""

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__()
        self.model = LlamaModel(config)
        self.lm_head = nn.Linear(config.width, config.vocabulary, bias=False)
