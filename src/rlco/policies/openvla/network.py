"""The network of OpenVLA: looks (picture), a prompt that is read once, action tokens. Module names give the published
key layout.

Letters: B batch, V looks (patches and what the nano sizes add), T prompt tokens, N action slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rlco.policies.grounding import Grounding, grid
from rlco.policies.layers import additive
from rlco.policies.openvla.config import BINS, OpenVlaConfig
from rlco.policies.openvla.inputs import Inputs
from rlco.policies.openvla.language import Kept, Llama, Rope
from rlco.policies.openvla.vision import Projector, VisionBackbone


@dataclass(frozen=True, kw_only=True, slots=True)
class Prefix:
    """What the language model reads of a picture: constant where nothing that sees it learns."""

    looks: Float[Tensor, "B V width"]
    """The projected patches, then the grounding token where there is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """What was read before the first action token."""

    kept: Kept
    last: Float[Tensor, "B width"]
    """The output that predicts the first action token."""
    mean: Float[Tensor, "B width"]
    """Of the outputs at everything but padding."""
    is_valid: Bool[Tensor, "B S"]


class Proprio(nn.Module):
    """One token from the normalised state, of two maps as OpenVLA-OFT's projector."""

    def __init__(self, config: OpenVlaConfig, *, state_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(state_dim, config.width)
        self.fc2 = nn.Linear(config.width, config.width)

    def forward(self, state: Float[Tensor, "B S"]) -> Float[Tensor, "B 1 width"]:
        return self.fc2(nn.functional.gelu(self.fc1(state)))[:, None]


class OpenVlaNetwork(nn.Module):
    """``see`` once per picture, ``read`` once per decision, ``go_on`` for the tokens of the action."""

    def __init__(self, config: OpenVlaConfig, *, state_dim: int) -> None:
        super().__init__()
        self.config = config
        self.rope = Rope(config)
        self.vision_backbone = VisionBackbone(config)
        self.projector = Projector(config)
        self.language_model = Llama(config)
        self.grounding = _grounding(config)
        self.proprio = Proprio(config, state_dim=state_dim) if config.proprio else None

    @property
    def layer_dtype(self) -> torch.dtype:
        """Return the type that the layers compute in."""
        return self.language_model.lm_head.weight.dtype

    @property
    def embedding(self) -> Float[Tensor, "vocabulary width"]:
        """Return the word embedding."""
        return self.language_model.model.embed_tokens.weight

    def embed(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T width"]:
        """Return the embedding of tokens."""
        return self.language_model.model.embed_tokens(tokens)

    def vision_parameters(self) -> list[nn.Parameter]:
        """Return what ``see`` depends on: the towers, the projector and the grounding token with its words."""
        seen = [*self.vision_backbone.parameters(), *self.projector.parameters()]
        if self.grounding is None:
            return seen
        return [*seen, *self.grounding.parameters(), *self.language_model.model.embed_tokens.parameters()]

    def unused_parameters(self) -> list[nn.Parameter]:
        """Return what the released files hold and no answer depends on."""
        towers = self.vision_backbone
        return [*towers.featurizer.unused_parameters(), *towers.fused_featurizer.unused_parameters()]

    def set_recompute(self, *, recompute: bool) -> None:
        """Keep no activations inside the layers for the backward pass: less memory, about a third more work."""
        towers = self.vision_backbone
        for stack in (towers.featurizer, towers.fused_featurizer, self.language_model.model):
            stack.recompute = recompute

    def compile_layers(self, *, backend: str = "inductor") -> None:
        """Compile the layers of the three stacks with ``torch.compile``, each kind once, when they are first called."""
        towers = self.vision_backbone
        for layers in (towers.featurizer.blocks, towers.fused_featurizer.blocks, self.language_model.model.layers):
            for layer in layers:
                layer.compile(backend=backend)

    def to_bfloat16(self) -> OpenVlaNetwork:
        """Let the published parts compute in bfloat16, as they were released; return itself.

        What the nano sizes add stays in float32, and so do softmax, norms' variance and everything behind the logits.
        """
        for part in (self.vision_backbone, self.projector, self.language_model):
            part.bfloat16()
        return self

    def see(self, inputs: Inputs) -> Prefix:
        """Return what the language model reads of pictures."""
        looks = [self.projector(self.vision_backbone(inputs.pixels))]
        if self.grounding is not None:
            words = self.embed(inputs.tokens).float()
            # the SigLIP half of the channels is in [-1, 1]
            looks.append(self.grounding(inputs.pixels[:, 3:], words, inputs.is_word).to(looks[0].dtype))
        return Prefix(looks=torch.cat(looks, dim=1))

    def read(self, prefix: Prefix, inputs: Inputs) -> Prompt:
        """Read beginning, looks, state and words, in this order; padding stands before the words.

        Raises nothing: a padded token sees what is before it, and nothing sees it.
        """
        count, looks = len(inputs.tokens), prefix.looks
        begin = self.embed(inputs.begin[:, None])
        parts = [begin, looks]
        if self.proprio is not None:
            parts.append(self.proprio(inputs.state).to(begin.dtype))
        ones = inputs.is_token.new_ones(count, sum(part.shape[1] for part in parts))
        x = torch.cat([*parts, self.embed(inputs.tokens)], dim=1)
        is_valid = torch.cat([ones, inputs.is_token], dim=1)
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        out, kept = self.language_model.model(
            x, self.rope(x, is_valid.cumsum(1) - 1), additive(is_valid[:, None] & causal, x.dtype)
        )
        weight = is_valid.unsqueeze(-1).float()
        return Prompt(
            kept=kept,
            last=out[:, -1].float(),
            mean=(out.float() * weight).sum(1) / weight.sum(1),
            is_valid=is_valid,
        )

    def go_on(
        self, x: Float[Tensor, "B n width"], prompt: Prompt, *, kept: Kept, causal: bool
    ) -> tuple[Float[Tensor, "B n width"], Kept]:
        """Return the outputs at n more tokens, and everything's keys and values.

        ``kept`` is ``prompt.kept``, or what an earlier call returned. ``causal``: the n see those before them; else all
        of them see each other.
        """
        count, own = x.shape[0], x.shape[1]
        before = kept[0][0].shape[2] - prompt.is_valid.shape[1]
        first = prompt.is_valid.sum(1, keepdim=True) + before
        rotary = self.rope(x, first + torch.arange(own, device=x.device))
        among = torch.ones(own, own, dtype=torch.bool, device=x.device)
        among = among.tril() if causal else among
        seen = torch.cat([prompt.is_valid, prompt.is_valid.new_ones(count, before)], dim=1)
        mask = torch.cat([seen[:, None].expand(-1, own, -1), among.expand(count, -1, -1)], dim=2)
        return self.language_model.model(x, rotary, additive(mask, x.dtype), kept)

    def logits(self, out: Float[Tensor, "*B width"]) -> Float[Tensor, "*B vocabulary"]:
        """Return the scores of every token, in float32."""
        return self.language_model.lm_head(out.to(self.layer_dtype)).float()

    def action_logits(self, out: Float[Tensor, "*B width"]) -> Float[Tensor, "*B bins"]:
        """Return the scores of the 256 action tokens alone."""
        first = self.config.first_action_id
        weight = self.language_model.lm_head.weight[first : first + BINS]
        return nn.functional.linear(out.to(self.layer_dtype), weight).float()


def _grounding(config: OpenVlaConfig) -> Grounding | None:
    if not config.grounding_heads:
        return None
    return Grounding(image_size=config.image_size, heads=config.grounding_heads, width=config.width)


def without_weights(config: OpenVlaConfig, *, state_dim: int) -> OpenVlaNetwork:
    """Return a network whose parameters have shapes and take no memory, for ``load_state_dict(..., assign=True)``.

    Its buffers, which no checkpoint holds, are real.
    """
    with torch.device("meta"):
        network = OpenVlaNetwork(config, state_dim=state_dim)
    network.rope = Rope(config)
    if network.grounding is not None:
        network.grounding.grid = nn.Buffer(grid(config.image_size), persistent=False)
    missed = [name for name, buffer in network.named_buffers() if buffer.is_meta]
    assert not missed, missed
    return network
