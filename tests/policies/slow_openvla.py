"""OpenVLA as plain equations: one observation, one sequence without padding, no cache. The network's reference."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlco.policies.openvla.config import TowerSize
from rlco.policies.openvla.inputs import Inputs
from rlco.policies.openvla.network import OpenVlaNetwork


class SlowOpenVla:
    """Reads a network's weights by their published names."""

    def __init__(self, network: OpenVlaNetwork) -> None:
        self.network, self.config, self.weights = network, network.config, network.state_dict()

    def logits(self, inputs: Inputs, row: int, after: Tensor, *, causal: bool) -> Tensor:
        """Return the scores (1 + n, vocabulary) at the last token of a prompt and at n more, embedded as ``after``."""
        return self.outputs(inputs, row, after, causal=causal) @ self.weights["language_model.lm_head.weight"].T

    def outputs(self, inputs: Inputs, row: int, after: Tensor, *, causal: bool) -> Tensor:
        """Return what the scores are made of (1 + n, width)."""
        x = torch.cat([self.prompt(inputs, row), after])
        length, own = len(x), len(after)
        seen = torch.ones(length, length).tril().bool()
        if not causal:
            seen[length - own :, length - own :] = True
        for i in range(self.config.depth):
            x = self.layer(x, f"language_model.model.layers.{i}.", seen)
        return self.rms_norm(x[-own - 1 :], "language_model.model.norm")

    def prompt(self, inputs: Inputs, row: int) -> Tensor:
        """Return what the language model is fed before the action: beginning, looks, state, the words that are real."""
        words = self.embedded(inputs.tokens[row][inputs.is_token[row]])
        parts = [self.embedded(inputs.begin[row : row + 1]), self.patches(inputs.pixels[row])]
        if self.network.grounding is not None:
            one = slice(row, row + 1)
            tokens = self.embedded(inputs.tokens[one])
            parts.append(self.network.grounding(inputs.pixels[one, 3:], tokens, inputs.is_word[one])[0])
        if self.config.proprio:
            hidden = gelu(self.linear(inputs.state[row : row + 1], "proprio.fc1"))
            parts.append(self.linear(hidden, "proprio.fc2"))
        return torch.cat([*parts, words])

    def patches(self, pixels: Tensor) -> Tensor:
        """Return the projected patches of a picture (6, rows, columns)."""
        dino = self.tower(pixels[:3], "vision_backbone.featurizer.", self.config.dino)
        siglip = self.tower(pixels[3:], "vision_backbone.fused_featurizer.", self.config.siglip)
        x = torch.cat([dino, siglip], dim=1)
        x = gelu(self.linear(x, "projector.fc1"))
        x = gelu(self.linear(x, "projector.fc2"))
        return self.linear(x, "projector.fc3")

    def tower(self, pixels: Tensor, name: str, size: TowerSize) -> Tensor:
        """Return the patches after the last block but one of a vision transformer."""
        kernel, side, rows = self.weights[f"{name}patch_embed.proj.weight"], self.config.patch_size, []
        for top in range(0, self.config.image_size, side):
            for left in range(0, self.config.image_size, side):
                patch = pixels[:, top : top + side, left : left + side]
                rows.append(torch.einsum("wchv,chv->w", kernel, patch))
        x = torch.stack(rows) + self.weights[f"{name}patch_embed.proj.bias"] + self.weights[f"{name}pos_embed"][0]
        lead = 0
        if f"{name}cls_token" in self.weights:
            lead = 1 + self.config.registers
            x = torch.cat([self.weights[f"{name}cls_token"][0], self.weights[f"{name}reg_token"][0], x])
        for i in range(size.depth - 1):
            x = self.block(x, f"{name}blocks.{i}.", size.heads)
        return x[lead:]

    def block(self, x: Tensor, name: str, heads: int) -> Tensor:
        """Return what a block of a vision transformer makes of its tokens (T, width)."""
        q, k, v = self.linear(self.layer_norm(x, f"{name}norm1"), f"{name}attn.qkv").chunk(3, dim=1)
        everything = torch.ones(len(x), len(x)).bool()
        mixed = self.linear(attention(q, k, v, heads=heads, kv_heads=heads, seen=everything), f"{name}attn.proj")
        x = x + mixed * self.weights.get(f"{name}ls1.scale_factor", torch.ones(()))
        hidden = gelu(self.linear(self.layer_norm(x, f"{name}norm2"), f"{name}mlp.fc1"))
        return x + self.linear(hidden, f"{name}mlp.fc2") * self.weights.get(f"{name}ls2.scale_factor", torch.ones(()))

    def layer(self, x: Tensor, name: str, seen: Tensor) -> Tensor:
        """Return what a Llama layer makes of its tokens (T, width)."""
        config, y = self.config, self.rms_norm(x, f"{name}input_layernorm")
        q, k, v = (self.linear(y, f"{name}self_attn.{m}_proj") for m in "qkv")
        q, k = self.turned(q, config.heads), self.turned(k, config.kv_heads)
        mixed = attention(q, k, v, heads=config.heads, kv_heads=config.kv_heads, seen=seen)
        x = x + self.linear(mixed, f"{name}self_attn.o_proj")
        y = self.rms_norm(x, f"{name}post_attention_layernorm")
        gate, up = (self.linear(y, f"{name}mlp.{m}_proj") for m in ("gate", "up"))
        return x + self.linear(gate / (1 + (-gate).exp()) * up, f"{name}mlp.down_proj")

    def turned(self, x: Tensor, heads: int) -> Tensor:
        """Rotate (T, heads * head_dim) by position: pairs are half a head apart."""
        half = self.config.head_dim // 2
        angle = (torch.arange(len(x))[:, None] / 10_000 ** (torch.arange(half) / half))[:, None]
        a, b = x.unflatten(1, (heads, 2, half)).unbind(2)
        return torch.stack([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=2).flatten(1)

    def rms_norm(self, x: Tensor, name: str) -> Tensor:
        """Return x / rms(x), scaled."""
        return (
            x / (x.square().mean(-1, keepdim=True) + self.config.rms_norm_eps).sqrt() * self.weights[f"{name}.weight"]
        )

    def layer_norm(self, x: Tensor, name: str) -> Tensor:
        """Return x with mean 0 and variance 1 over its features, scaled and shifted."""
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def linear(self, x: Tensor, name: str) -> Tensor:
        """Return x W^T + b."""
        return x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", torch.zeros(()))

    def embedded(self, tokens: Tensor) -> Tensor:
        """Return rows of the embedding."""
        return self.weights["language_model.model.embed_tokens.weight"][tokens]


def gelu(x: Tensor) -> Tensor:
    """Return x times the normal distribution's cumulative function."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def attention(q: Tensor, k: Tensor, v: Tensor, *, heads: int, kv_heads: int, seen: Tensor) -> Tensor:
    """Return what each token (T, heads * head_dim) reads, head by head."""
    mixed, width = [], q.shape[1] // heads
    for head in range(heads):
        own, shared = slice(head * width, (head + 1) * width), head // (heads // kv_heads)
        other = slice(shared * width, (shared + 1) * width)
        score = (q[:, own] @ k[:, other].T) / math.sqrt(width)
        mixed.append(score.masked_fill(~seen, -math.inf).softmax(-1) @ v[:, other])
    return torch.cat(mixed, dim=1)
