"""The network of pi0 and pi0.5: prefix (images, words) and action expert. Module names give the published key layout.

What differs between the families is in ``suffix`` (what the expert reads) and in the expert's norms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm

from rlco.policies.grounding import Grounding, grid
from rlco.policies.layers import Rotary, additive, run
from rlco.policies.pi.config import PiConfig
from rlco.policies.pi.inputs import Inputs
from rlco.policies.pi.layers import EXPERT_NORMS, ExpertLayer, PrefixLayer, Rope
from rlco.policies.pi.suffix import SUFFIXES
from rlco.policies.pi.vision import Projector, VisionTower


@dataclass(frozen=True, kw_only=True, slots=True)
class Prefix:
    """What the expert and the critic read of an observation. P prefix tokens, L layers."""

    key: Float[Tensor, "B L kv_heads P head_dim"]
    value: Float[Tensor, "B L kv_heads P head_dim"]
    is_valid: Bool[Tensor, "B P"]
    summary: Float[Tensor, "B features"]
    """Mean of the valid outputs, and the grounding token's output where there is one."""
    state: Float[Tensor, "B S"]
    """Normalised and padded, for pi0's state token."""


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
        self.norm = EXPERT_NORMS[config.family](config.expert.width)


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


def published_name(name: str) -> str:
    """Return the key of a network's tensor in the released checkpoints: there the suffix has no level of its own."""
    return name.removeprefix("suffix.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """Where the suffix's tokens stand and what they see: the same at every denoising step."""

    rotary: Rotary
    mask: Float[Tensor, "B 1 rows S"]
    kept: tuple[tuple[Tensor, Tensor], ...]
    """Of every layer: keys and values of what comes before the chunks (prefix, token of the state)."""


def visible_tokens(*, copies: int, horizon: int) -> Bool[Tensor, "rows T"]:
    """Return which tokens of the N chunks each of them sees, its own chunk's; one row where all see the same."""
    if copies == 1:
        return torch.ones(1, horizon, dtype=torch.bool)
    chunk = torch.arange(copies).repeat_interleave(horizon)
    return chunk[:, None] == chunk


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
        self.suffix = SUFFIXES[config.family](config)
        self.grounding = _grounding(config)
        self.recompute = False

    @property
    def layer_dtype(self) -> torch.dtype:
        """Return the type that the layers compute in: float32, or bfloat16 after ``to_bfloat16``."""
        return self.embedding.dtype

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

    def set_recompute(self, *, recompute: bool) -> None:
        """Keep no activations inside the layers for the backward pass: less memory, about a third more work."""
        self.recompute = recompute
        self.paligemma_with_expert.paligemma.model.vision_tower.recompute = recompute

    def compile_layers(self, *, backend: str = "inductor") -> None:
        """Compile the layers of the three stacks with ``torch.compile``, each kind once, when they are first called.

        For accelerators: on two CPU cores the nano sizes do not gain from it.
        """
        towers = self.paligemma_with_expert
        vision = towers.paligemma.model.vision_tower.vision_model.encoder
        for stack in (vision, towers.paligemma.model.language_model, towers.gemma_expert.model):
            for layer in stack.layers:
                layer.compile(backend=backend)

    def prefix(self, inputs: Inputs) -> Prefix:
        """Encode observations. Order: image patches camera by camera, grounding token, prompt.

        An absent camera is left out of ``inputs``: a masked one would be neither attended nor counted in positions.
        """
        model = self.paligemma_with_expert.paligemma.model
        pixels, is_token = inputs.pixels, inputs.is_token
        patches = model.multi_modal_projector(model.vision_tower(pixels.flatten(0, 1)))
        patches = patches.unflatten(0, pixels.shape[:2]).flatten(1, 2)
        words = self.embed(inputs.tokens)
        parts = [patches, words]
        if self.grounding is not None:
            parts.insert(1, self.grounding(pixels[:, 0], words.float(), inputs.is_word).to(words.dtype))
        x = torch.cat(parts, dim=1)
        ones = is_token.new_ones(len(words), x.shape[1] - words.shape[1])
        is_valid = torch.cat([ones, is_token], dim=1)
        rotary = self.rope(x, is_valid.cumsum(1) - 1)
        mask = additive(is_valid[:, None], x.dtype)
        keys, values = [], []
        for layer in model.language_model.layers:
            x, k, v = run(layer, x, rotary, mask, recompute=self.recompute)
            keys.append(k)
            values.append(v)
        x = model.language_model.norm(x).float()
        weight = is_valid.unsqueeze(-1).to(x.dtype)
        summary = [(x * weight).sum(1) / weight.sum(1)]
        if self.grounding is not None:
            summary.append(x[:, patches.shape[1]])
        return Prefix(
            key=torch.stack(keys, dim=1),
            value=torch.stack(values, dim=1),
            is_valid=is_valid,
            summary=torch.cat(summary, dim=1),
            state=inputs.state,
        )

    def surroundings(self, prefix: Prefix, *, copies: int) -> Surroundings:
        """Return what ``expert`` needs to know of ``prefix`` beside its keys: computed once, it serves every step."""
        kept, before = self._lead(prefix)
        place = torch.arange(self.config.horizon, device=before.device).repeat(copies)
        own = visible_tokens(copies=copies, horizon=self.config.horizon).to(before.device)
        seen = before[:, None].expand(-1, len(own), -1)
        return Surroundings(
            rotary=self.rope(prefix.key, before.sum(1, keepdim=True) + place),
            mask=additive(torch.cat([seen, own.expand(len(seen), -1, -1)], dim=2), prefix.key.dtype),
            kept=kept,
        )

    def _lead(self, prefix: Prefix) -> tuple[tuple[tuple[Tensor, Tensor], ...], Bool[Tensor, "B P_plus_lead"]]:
        """Return each layer's keys and values of the prefix and of the tokens that lead the suffix, and which count."""
        expert, seen = self.paligemma_with_expert.gemma_expert.model, prefix.is_valid
        kept = tuple(zip(prefix.key.unbind(1), prefix.value.unbind(1), strict=True))
        x = self.suffix.lead(prefix.state).to(self.layer_dtype)
        if not x.shape[1]:
            return kept, seen
        rotary = self.rope(prefix.key, seen.sum(1, keepdim=True) + torch.arange(x.shape[1], device=seen.device))
        seen = torch.cat([seen, seen.new_ones(x.shape[:2])], dim=1)
        mask, pairs = additive(seen[:, None], prefix.key.dtype), []
        for layer, pair in zip(expert.layers, kept, strict=True):
            assert isinstance(layer, ExpertLayer)
            x, both = layer.attended(x, None, rotary, pair, mask)
            pairs.append(both)
        return tuple(pairs), seen

    def expert(
        self,
        noisy: Float[Tensor, "B N H A"],
        time: Float[Tensor, "Bt N"],
        prefix: Prefix,
        *,
        surroundings: Surroundings | None = None,
    ) -> tuple[Float[Tensor, "B N H A"], Float[Tensor, "B N H width"]]:
        """Return the velocity and the expert's features, in float32, for N noisy chunks per observation.

        The N chunks share the prefix and do not see each other. ``time`` has batch 1 when all samples share it. Who
        calls it again with the same prefix and N saves work by passing their ``surroundings``.
        """
        copies, horizon = noisy.shape[1:3]
        around = self.surroundings(prefix, copies=copies) if surroundings is None else surroundings
        expert = self.paligemma_with_expert.gemma_expert.model
        x, condition = self.suffix(self.action_in_proj(noisy), time)
        x = x.to(self.layer_dtype)
        for layer, kept in zip(expert.layers, around.kept, strict=True):
            x = run(layer, x, condition, around.rotary, kept, around.mask, recompute=self.recompute)
        x, _ = expert.norm(x, condition)
        features = x.unflatten(1, (copies, horizon)).float()
        return self.action_out_proj(features), features

    def to_bfloat16(self) -> PiNetwork:
        """Let the layers compute in bfloat16, as openpi does; return itself.

        What is sensitive stays in float32: patch and position embedding, every norm of both stacks, the projections of
        states, actions and times, the grounding token. So do, inside the layers, the norms' variance and the softmax.
        """
        for name, parameter in self.paligemma_with_expert.named_parameters():
            if not any(part in name for part in _KEPT_FLOAT32):
                parameter.data = parameter.data.bfloat16()
        return self


def _grounding(config: PiConfig) -> Grounding | None:
    if not config.grounding_heads:
        return None
    return Grounding(image_size=config.image_size, heads=config.grounding_heads, width=config.language.width)


_KEPT_FLOAT32 = ("patch_embedding", "position_embedding", "input_layernorm", "post_attention_layernorm", "model.norm")


def without_weights(config: PiConfig) -> PiNetwork:
    """Return a network whose parameters have shapes and take no memory, for ``load_state_dict(..., assign=True)``.

    Its buffers, which no checkpoint holds, are real.
    """
    with torch.device("meta"):
        network = PiNetwork(config)
    network.rope = Rope(config)
    embeddings = network.paligemma_with_expert.paligemma.model.vision_tower.vision_model.embeddings
    embeddings.position_ids = nn.Buffer(torch.arange(embeddings.num_positions).expand(1, -1), persistent=False)
    if network.grounding is not None:
        network.grounding.grid = nn.Buffer(grid(config.image_size), persistent=False)
    missed = [name for name, buffer in network.named_buffers() if buffer.is_meta]
    assert not missed, missed
    return network
