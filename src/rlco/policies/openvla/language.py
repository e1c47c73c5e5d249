"""The Llama of OpenVLA, with keys and values that can be kept. Module names are those of transformers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm, LlamaRotaryEmbedding

from rlco.policies.layers import Projections, Rotary, run
from rlco.policies.openvla.config import OpenVlaConfig

Pair = tuple[Tensor, Tensor]
"""Keys and values (B, kv_heads, S, head_dim) of one layer."""
Kept = tuple[Pair, ...]
"""Of every layer. Kept with room, they end with zeros for tokens that are still to come, which nothing sees."""


def llama_config(config: OpenVlaConfig) -> LlamaConfig:
    """Return the configuration of transformers (Llama 2: theta 10,000)."""
    return LlamaConfig(
        hidden_size=config.width,
        intermediate_size=config.mlp,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_dim,
        vocab_size=config.vocabulary,
        rms_norm_eps=config.rms_norm_eps,
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
        kept: Pair | None = None,
        place: int | None = None,
    ) -> tuple[Float[Tensor, "B T width"], Pair]:
        """Return the layer's output, and the keys and values of what was kept and of ``x``.

        Those of ``x`` come after what was kept; with a ``place`` they are written into its room, from there on.
        """
        q, k, v = self.self_attn.qkv(self.input_layernorm(x), rotary)
        pair = (k, v) if kept is None else _joined(kept, (k, v), place=place)
        x = x + self.self_attn.attend(q, *pair, mask)
        return x + self.mlp(self.post_attention_layernorm(x)), pair


def _joined(kept: Pair, own: Pair, *, place: int | None) -> Pair:
    if place is None:
        return torch.cat([kept[0], own[0]], dim=2), torch.cat([kept[1], own[1]], dim=2)
    for room, new in zip(kept, own, strict=True):
        room[:, :, place : place + new.shape[2]] = new
    return kept


def _with_room(pair: Pair, room: int) -> Pair:
    key, value = (F.pad(t, (0, 0, 0, room)) if room else t for t in pair)  # zeros: what is masked must be finite
    return key, value


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
        self.norm = LlamaRMSNorm(config.width, eps=config.rms_norm_eps)
        self.recompute = False

    def forward(
        self,
        x: Float[Tensor, "B T width"],
        rotary: Rotary,
        mask: Float[Tensor, "B 1 rows S"],
        *,
        room: int = 0,
    ) -> tuple[Float[Tensor, "B T width"], Kept]:
        """Return the normed outputs of a beginning, and every layer's keys and values with ``room`` for more tokens."""
        pairs = []
        for layer in self.layers:
            x, pair = run(layer, x, rotary, mask, recompute=self.recompute)
            pairs.append(_with_room(pair, room))
        return self.norm(x), tuple(pairs)

    def go_on(
        self,
        x: Float[Tensor, "B T width"],
        rotary: Rotary,
        mask: Float[Tensor, "B 1 rows S"],
        kept: Kept,
        *,
        place: int | None = None,
    ) -> Float[Tensor, "B T width"]:
        """Return the normed outputs of what follows ``kept``, or of what is written into its room at ``place``."""
        for layer, before in zip(self.layers, kept, strict=True):
            x, _ = run(layer, x, rotary, mask, before, place, recompute=self.recompute)
        return self.norm(x)


class Llama(nn.Module):
    """The model and its output map, which is not tied to the embedding."""

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__()
        self.model = LlamaModel(config)
        self.lm_head = nn.Linear(config.width, config.vocabulary, bias=False)
