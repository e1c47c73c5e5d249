"""The pi0.5 network: prefix (image, words, state) and action expert. Module names give the published key layout."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm

from rlco.policies.pi.config import PiConfig
from rlco.policies.pi.inputs import Inputs
from rlco.policies.pi.layers import AdaptiveNorm, ExpertLayer, PrefixLayer, Rope
from rlco.policies.pi.vision import Grounding, Projector, VisionTower


@dataclass(frozen=True, kw_only=True, slots=True)
class Prefix:
    """What the expert and the critic read of an observation. P prefix tokens, L layers."""

    key: Float[Tensor, "B L kv_heads P head_dim"]
    value: Float[Tensor, "B L kv_heads P head_dim"]
    is_valid: Bool[Tensor, "B P"]
    summary: Float[Tensor, "B features"]
    """Mean of the valid outputs, and the grounding token's output where there is one."""


class LanguageModel(nn.Module):
    """The layers of the prefix."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PrefixLayer(config) for _ in range(config.depth))
        self.norm = GemmaRMSNorm(config.language.width)


class PaliGemmaModel(nn.Module):
    """Vision tower, projector and language model."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        self.vision_tower = VisionTower(config)
        self.multi_modal_projector = Projector(config)
        self.language_model = LanguageModel(config)


class PaliGemma(nn.Module):
    """The prefix with its word embedding."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        self.model = PaliGemmaModel(config)
        # Tied with the input embedding, which therefore has no key of its own.
        self.lm_head = nn.Linear(config.language.width, config.vocabulary, bias=False)


class ExpertModel(nn.Module):
    """The expert's layers and final norm."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ExpertLayer(config) for _ in range(config.depth))
        self.norm = AdaptiveNorm(config.expert.width)


class GemmaExpert(nn.Module):
    """The action expert."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        self.model = ExpertModel(config)


class Towers(nn.Module):
    """Both stacks. The nesting of these classes is the published key layout and nothing else."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        self.paligemma = PaliGemma(config)
        self.gemma_expert = GemmaExpert(config)


def time_embedding(time: Float[Tensor, " N"], width: int) -> Float[Tensor, "N width"]:
    """Return sines then cosines of the flow time, periods geometric from 4e-3 to 4 (in float64, then cast)."""
    fraction = torch.linspace(0, 1, width // 2, dtype=torch.float64, device=time.device)
    angle = time.double()[:, None] * (2 * math.pi / (4e-3 * (4.0 / 4e-3) ** fraction))[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(time.dtype)


class PiNetwork(nn.Module):
    """``prefix`` once per observation, ``expert`` once per denoising step."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        width = config.expert.width
        self.config = config
        self.rope = Rope(config)
        self.paligemma_with_expert = Towers(config)
        self.action_in_proj = nn.Linear(config.model_action_dim, width)
        self.action_out_proj = nn.Linear(width, config.model_action_dim)
        self.time_mlp_in = nn.Linear(width, width)
        self.time_mlp_out = nn.Linear(width, width)
        self.grounding = Grounding(config) if config.grounding_heads else None

    @property
    def summary_dim(self) -> int:
        """Return the number of features in ``Prefix.summary``."""
        return self.config.language.width * (2 if self.grounding else 1)

    @property
    def embedding(self) -> Float[Tensor, "vocabulary width"]:
        """Return the word embedding, unscaled."""
        return self.paligemma_with_expert.paligemma.lm_head.weight

    def embed(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T width"]:
        """Return scaled word embeddings."""
        return F.embedding(tokens, self.embedding) * self.config.language.width**0.5

    def prefix_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that only the prefix uses: frozen when the expert alone is trained."""
        grounding = list(self.grounding.parameters()) if self.grounding else []
        return [*self.paligemma_with_expert.paligemma.parameters(), *grounding]

    def prefix(self, inputs: Inputs) -> Prefix:
        """Encode observations. Order: image patches, grounding token, prompt."""
        model = self.paligemma_with_expert.paligemma.model
        pixels, is_token = inputs.pixels, inputs.is_token
        patches = model.multi_modal_projector(model.vision_tower(pixels.flatten(0, 1)))
        patches = patches.unflatten(0, pixels.shape[:2]).flatten(1, 2)
        words = self.embed(inputs.tokens)
        parts = [patches, words]
        if self.grounding is not None:
            parts.insert(1, self.grounding(pixels[:, 0], words, inputs.is_word))
        x = torch.cat(parts, dim=1)
        ones = is_token.new_ones(len(words), x.shape[1] - words.shape[1])
        is_valid = torch.cat([ones, is_token], dim=1)
        rotary = self.rope(x, is_valid.cumsum(1) - 1)
        mask = is_valid[:, None, :].expand(-1, x.shape[1], -1)
        keys, values = [], []
        for layer in model.language_model.layers:
            x, k, v = layer(x, rotary, mask)
            keys.append(k)
            values.append(v)
        x = model.language_model.norm(x)
        weight = is_valid.unsqueeze(-1).to(x.dtype)
        summary = [(x * weight).sum(1) / weight.sum(1)]
        if self.grounding is not None:
            summary.append(x[:, patches.shape[1]])
        return Prefix(
            key=torch.stack(keys, dim=1),
            value=torch.stack(values, dim=1),
            is_valid=is_valid,
            summary=torch.cat(summary, dim=1),
        )

    def expert(
        self, noisy: Float[Tensor, "B N H A"], time: Float[Tensor, "Bt N"], prefix: Prefix
    ) -> tuple[Float[Tensor, "B N H A"], Float[Tensor, "B N H width"]]:
        """Return the velocity and the expert's features for N noisy chunks per observation.

        The N chunks share the prefix and do not see each other. ``time`` has batch 1 when all samples share it.
        """
        B, N, H, _ = noisy.shape
        expert = self.paligemma_with_expert.gemma_expert.model
        embedded = time_embedding(time.flatten(), self.config.expert.width)
        condition = F.silu(self.time_mlp_out(F.silu(self.time_mlp_in(embedded))))
        condition = condition.unflatten(0, time.shape)
        x = self.action_in_proj(noisy).flatten(1, 2)
        valid = prefix.is_valid.sum(1, keepdim=True)
        rotary = self.rope(x, valid + torch.arange(H, device=x.device).repeat(N)[None])
        block = torch.eye(N, dtype=torch.bool, device=x.device).repeat_interleave(H, 0).repeat_interleave(H, 1)
        mask = torch.cat([prefix.is_valid[:, None].expand(-1, N * H, -1), block[None].expand(B, -1, -1)], dim=2)
        for index, layer in enumerate(expert.layers):
            x = layer(x, condition, rotary, (prefix.key[:, index], prefix.value[:, index]), mask)
        x, _ = expert.norm(x, condition)
        features = x.unflatten(1, (N, H))
        return self.action_out_proj(features), features
