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
from rlco.policies.layers import Rotary, additive
from rlco.policies.openvla.config import OpenVlaConfig
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
    outputs: Float[Tensor, "B S width"]
    """In the layers' type."""
    is_valid: Bool[Tensor, "B S"]
    """False on padding."""

    @property
    def last(self) -> Float[Tensor, "B width"]:
        """Return the output that predicts the first action token, in float32."""
        return self.outputs[:, -1].float()

    def mean(self) -> Float[Tensor, "B width"]:
        """Return the mean of the outputs at everything but padding, in float32."""
        weight = self.is_valid.unsqueeze(-1).float()
        return (self.outputs.float() * weight).sum(1) / weight.sum(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """Where the N tokens after a prompt stand and what they see."""

    rotary: Rotary
    """Cosines and sines (B, N, head_dim)."""
    mask: Float[Tensor, "B 1 N seen"]
    """Of the prompt's S tokens and of the N themselves."""


class Proprio(nn.Module):
    """One token from the normalised state, of two maps as OpenVLA-OFT's projector."""

    def __init__(self, config: OpenVlaConfig, *, state_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(state_dim, config.width)
        self.fc2 = nn.Linear(config.width, config.width)

    def forward(self, state: Float[Tensor, "B S"]) -> Float[Tensor, "B 1 width"]:
        return self.fc2(nn.functional.gelu(self.fc1(state)))[:, None]


class OpenVlaNetwork(nn.Module):
    """``see`` once per picture, ``read`` once per decision, ``go_on`` or ``step`` for the tokens of the action.

    ``go_on`` takes all of them where they are known, ``step`` one where the next is drawn from what it gives.
    """

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

    def read(self, prefix: Prefix, inputs: Inputs, *, room: int = 0) -> Prompt:
        """Read beginning, looks, state and words, in this order, and keep ``room`` for tokens that ``step`` adds.

        Padding stands before the words. It sees what is before it (a row that saw nothing would be NaN), nothing sees
        it, and it counts in no position.
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
        rotary, mask = self.rope(x, is_valid.cumsum(1) - 1), additive(is_valid[:, None] & causal, x.dtype)
        outputs, kept = self.language_model.model(x, rotary, mask, room=room)
        return Prompt(kept=kept, outputs=outputs, is_valid=is_valid)

    def surroundings(self, prompt: Prompt, count: int, *, causal: bool) -> Surroundings:
        """Return where ``count`` tokens after ``prompt`` stand, and that they see it without its padding.

        ``causal``: each sees itself and those before it; else all of them see each other.
        """
        own = torch.ones(count, count, dtype=torch.bool, device=prompt.is_valid.device)
        own = own.tril() if causal else own
        seen = prompt.is_valid[:, None].expand(-1, count, -1)
        position = prompt.is_valid.sum(1, keepdim=True) + torch.arange(count, device=own.device)
        return Surroundings(
            rotary=self.rope(prompt.outputs, position),
            mask=additive(torch.cat([seen, own.expand(len(seen), -1, -1)], dim=2), prompt.outputs.dtype),
        )

    def go_on(self, x: Float[Tensor, "B n width"], prompt: Prompt, *, causal: bool) -> Float[Tensor, "B n width"]:
        """Return the outputs at n more tokens, all at once; ``prompt`` was read without room."""
        around = self.surroundings(prompt, x.shape[1], causal=causal)
        return self.language_model.model.go_on(x, around.rotary, around.mask, prompt.kept)

    def step(
        self, x: Float[Tensor, "B 1 width"], prompt: Prompt, around: Surroundings, *, number: int
    ) -> Float[Tensor, "B 1 width"]:
        """Return the output at the token of that number after ``prompt``, the first being 0.

        Its keys and values are written into the room that ``prompt`` was read with. Without gradient.
        """
        cos, sin = (turn[:, number : number + 1] for turn in around.rotary)
        mask, place = around.mask[:, :, number : number + 1], prompt.is_valid.shape[1] + number
        return self.language_model.model.go_on(x, (cos, sin), mask, prompt.kept, place=place)

    def logits(self, out: Float[Tensor, "*B width"]) -> Float[Tensor, "*B vocabulary"]:
        """Return the scores of every token, in float32."""
        return self.language_model.lm_head(out.to(self.layer_dtype)).float()

    def action_logits(self, out: Float[Tensor, "*B width"]) -> Float[Tensor, "*B bins"]:
        """Return the scores of the 256 action tokens alone, in float32."""
        head, rows = self.language_model.lm_head, slice(self.config.first_action_id, self.config.text_vocabulary)
        if type(head) is not nn.Linear:  # with an adapter beside it, it is no longer one matrix
            return self.logits(out)[..., rows]
        return nn.functional.linear(out.to(self.layer_dtype), head.weight[rows]).float()

    def embed_actions(self, bins: Int[Tensor, "B n"]) -> Float[Tensor, "B n width"]:
        """Return the embedding of action tokens by their bins."""
        return self.embed(bins + self.config.first_action_id)


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
