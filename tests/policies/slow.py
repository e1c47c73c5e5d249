"""pi0 and pi0.5 as plain equations: one joint sequence, explicit matrix products, no cache. The network's reference."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rlco.policies.pi.inputs import Inputs
from rlco.policies.pi.network import PiNetwork, published_name

_ROOT, _EXPERT = "paligemma_with_expert.paligemma.model.", "paligemma_with_expert.gemma_expert.model."


def angles_of(time: Tensor, width: int) -> Tensor:
    """Return the time embedding (N, width): 2 pi t / period, periods geometric from 4e-3 to 4."""
    period = 4e-3 * (4.0 / 4e-3) ** torch.linspace(0, 1, width // 2, dtype=torch.float64)
    angle = time.double()[:, None] * 2 * math.pi / period
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


class SlowPi:
    """Reads a network's weights by their published names."""

    def __init__(self, network: PiNetwork) -> None:
        self.network, self.config = network, network.config
        self.weights = {published_name(k): v for k, v in network.state_dict().items()}

    def velocity(self, inputs: Inputs, noisy: Tensor, time: Tensor) -> Tensor:
        """Return the velocity of one noisy chunk (B, H, A) at its flow time (B)."""
        front, (back, condition) = self.front(inputs), self.back(inputs, noisy, time)
        lead = back.shape[1] - noisy.shape[1]
        words = torch.ones(len(front), front.shape[1] - inputs.tokens.shape[1])
        valid = torch.cat([words, inputs.is_token.float(), torch.ones(back.shape[:2])], dim=1).bool()
        # a token sees its own block and earlier ones: prefix, state, actions
        block = torch.tensor([0] * front.shape[1] + [1] * lead + [2] * noisy.shape[1])
        seen = (block[None, :] <= block[:, None])[None] & valid[:, None, :]
        for i in range(self.config.depth):
            names = [f"{_ROOT}language_model.layers.{i}.", f"{_EXPERT}layers.{i}."]
            conditions = [None, condition]
            streams = [front, back]
            first = [self.norm(x, f"{n}input_layernorm", c) for x, n, c in zip(streams, names, conditions, strict=True)]
            mixed = self.attention([x for x, _ in first], names, valid.cumsum(1) - 1, seen)
            streams = [
                x + gate * self.linear(m, f"{n}self_attn.o_proj")
                for x, (_, gate), m, n in zip(streams, first, mixed, names, strict=True)
            ]
            front, back = (
                x + gate * self.mlp(y, f"{n}mlp.")
                for x, n, c in zip(streams, names, conditions, strict=True)
                for y, gate in [self.norm(x, f"{n}post_attention_layernorm", c)]
            )
        last, _ = self.norm(back, f"{_EXPERT}norm", condition)
        return self.linear(last[:, lead:], "action_out_proj")

    def front(self, inputs: Inputs) -> Tensor:
        """Return the prefix's tokens."""
        tower = self.network.paligemma_with_expert.paligemma.model.vision_tower.vision_model
        patches = torch.cat([tower(view).last_hidden_state for view in inputs.pixels.unbind(1)], dim=1)
        vocabulary = self.weights["paligemma_with_expert.paligemma.lm_head.weight"]
        words = vocabulary[inputs.tokens] * math.sqrt(self.config.language.width)
        parts = [self.linear(patches, f"{_ROOT}multi_modal_projector.linear"), words]
        if self.network.grounding is not None:
            parts.insert(1, self.network.grounding(inputs.pixels[:, 0], words, inputs.is_word))
        return torch.cat(parts, dim=1)

    def back(self, inputs: Inputs, noisy: Tensor, time: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the suffix's tokens and what conditions its norms."""
        action, t = self.linear(noisy, "action_in_proj"), angles_of(time, self.config.expert.width)
        if self.config.family == "pi05":
            return action, F.silu(self.linear(F.silu(self.linear(t, "time_mlp_in")), "time_mlp_out"))
        both = torch.cat([action, t[:, None].expand_as(action)], dim=2)
        merged = self.linear(F.silu(self.linear(both, "action_time_mlp_in")), "action_time_mlp_out")
        return torch.cat([self.linear(inputs.state, "state_proj")[:, None], merged], dim=1), None

    def attention(self, streams: list[Tensor], names: list[str], position: Tensor, seen: Tensor) -> list[Tensor]:
        """Return what each stream's tokens read, before the output projection."""
        config = self.config
        q, k, v = (
            torch.cat([self.linear(x, f"{n}self_attn.{m}_proj") for x, n in zip(streams, names, strict=True)], dim=1)
            for m in "qkv"
        )
        q, k, v = (x.unflatten(-1, (-1, config.head_dim)) for x in (q, k, v))
        k, v = (x.repeat_interleave(config.heads // config.kv_heads, dim=2) for x in (self.turned(k, position), v))
        score = torch.einsum("bthd,bshd->bhts", self.turned(q, position), k) / math.sqrt(config.head_dim)
        share = score.masked_fill(~seen[:, None], -math.inf).softmax(-1)
        mixed = torch.einsum("bhts,bshd->bthd", share, v).flatten(2)
        return list(mixed.split([x.shape[1] for x in streams], dim=1))

    def turned(self, x: Tensor, position: Tensor) -> Tensor:
        """Rotate (B, T, heads, head_dim) by position: pairs are half a head apart."""
        half = self.config.head_dim // 2
        angle = (position[..., None] / 10_000 ** (torch.arange(half) / half))[:, :, None]
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], dim=-1)

    def norm(self, x: Tensor, name: str, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the normed input and the gate of the residual."""
        rms = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        if condition is None:
            return rms * (1 + self.weights[f"{name}.weight"]), torch.ones(())
        scale, shift, gate = self.linear(condition, f"{name}.dense")[:, None].chunk(3, dim=-1)
        return rms * (1 + scale) + shift, gate

    def mlp(self, x: Tensor, name: str) -> Tensor:
        """Return the gated MLP."""
        gate = F.gelu(self.linear(x, f"{name}gate_proj"), approximate="tanh")
        return self.linear(gate * self.linear(x, f"{name}up_proj"), f"{name}down_proj")

    def linear(self, x: Tensor, name: str) -> Tensor:
        """Return x W^T + b."""
        return x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", torch.zeros(()))
