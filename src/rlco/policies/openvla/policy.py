"""OpenVLA as a policy: supervised loss, sampling, scoring. One reading of the prompt serves all three.

Letters: B batch, H horizon, N action tokens (7 H).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rlco.algos.flow import TRUST_REGIONS, TrustRegion
from rlco.core.policy import Batch, Evaluation, Observation, Sample, Trace
from rlco.core.scene import ACTION_DIM, STATE_DIM
from rlco.policies.adapters import LoraConfig, linear_maps
from rlco.policies.contract import Trainable, VlaPolicy, prefix_bytes
from rlco.policies.exploration import Exploration
from rlco.policies.openvla.answers import ANSWERS, Answer, at_share
from rlco.policies.openvla.config import BINS, TOWERS, OpenVlaConfig
from rlco.policies.openvla.exploration import TokenExploration
from rlco.policies.openvla.heads import ValueHead
from rlco.policies.openvla.inputs import Inputs, Preprocessor
from rlco.policies.openvla.interface import Interface
from rlco.policies.openvla.network import OpenVlaNetwork, Prefix, Prompt
from rlco.policies.openvla.tokens import to_bins, to_values
from rlco.policies.words import structured_rows

_ROUNDING = 1e-5
"""A number at the end of the range may be normalised to this much beyond it."""


class OpenVlaPolicy(VlaPolicy[OpenVlaConfig, Prefix]):
    """See ``rlco.core.policy.Policy``."""

    answer: Answer

    def __init__(
        self,
        config: OpenVlaConfig,
        interface: Interface,
        *,
        seed: int = 0,
        network: OpenVlaNetwork | None = None,
        value_head: nn.Module | None = None,
    ) -> None:
        """Draw the weights from ``seed``; a ``network`` or a critic that is given brings its own, or will be loaded."""
        super().__init__()
        self.config = config
        self.interface = interface
        self.codec = interface.codec
        self.preprocessor = Preprocessor(config, interface)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = OpenVlaNetwork(config, state_dim=STATE_DIM) if network is None else network
            self.value_head = ValueHead(config.width) if value_head is None else value_head
        self.answer = ANSWERS[config.head](config)
        if network is None:
            _structure_actions(self.network)
        for parameter in self.network.unused_parameters():
            parameter.requires_grad_(requires_grad=False)

    @property
    def noise_shape(self) -> tuple[int]:
        """Return the shape (N,) of one sample's noise: which token of its distribution each slot takes."""
        return (self.config.slots,)

    def clipped(self, action: Float[Tensor, "N A"]) -> Bool[Tensor, "N A"]:
        """Return what lies outside the statistics' range: tokens end there."""
        return self.codec.action.do(action).abs() > 1 + _ROUNDING

    def adapted_maps(self, lora: LoraConfig) -> list[str]:
        """Return the names of the network's linear maps that ``lora`` means."""
        pattern = lora.pattern(TOWERS, family=self.config.family)
        return linear_maps(self.network, pattern, without=self.network.unused_parameters())

    def _frozen(self, part: Trainable) -> set[int]:
        network = self.network
        unused = {id(p) for p in network.unused_parameters()}
        published = (network.vision_backbone, network.projector, network.language_model)
        towers = {id(p) for module in published for p in module.parameters()}
        vision = {id(p) for p in network.vision_parameters()}
        return unused | {"all": set[int](), "expert": vision, "lora": towers}[part]

    @property
    def prefix_trains(self) -> bool:
        """Return whether anything that sees learns; where nothing does, what it saw can be kept."""
        return any(p.requires_grad for p in self.network.vision_parameters())

    def explore_as(self, exploration: Exploration, *, seed: int = 0) -> None:
        """Take the tokens' part of ``exploration``; a critic that read another output is drawn anew, from ``seed``."""
        before, like = self.config.exploration, next(self.value_head.parameters())
        self.set_exploration(exploration.tokens)
        if exploration.tokens.value_token != before.value_token:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.value_head = ValueHead(self.config.width).to(like)

    @property
    def trust_region(self) -> TrustRegion:
        """Return PPO's usual one: the log-probability is a sum over the tokens of a decision."""
        return TRUST_REGIONS["sum"]

    def set_exploration(self, exploration: TokenExploration) -> None:
        """Say how tokens are drawn and what the critic reads."""
        self.config = replace(self.config, exploration=exploration)

    def answering_as(self, config: OpenVlaConfig) -> OpenVlaPolicy:
        """Return a policy of the same network and critic that answers with another head or horizon.

        Raises ``ValueError`` that names the fields in which ``config`` has other sizes.
        """
        answer = ("head", "hold", "horizon", "executed", "coded_slots", "eval_temperature", "exploration")
        same = replace(self.config, **{name: getattr(config, name) for name in answer})
        if differing := [f.name for f in fields(config) if getattr(same, f.name) != getattr(config, f.name)]:
            raise ValueError(
                f"A policy can answer with another head or horizon, not with other sizes: {', '.join(differing)}."
            )
        other = type(self)(config, self.interface, network=self.network, value_head=self.value_head)
        other.most_prefix_bytes = self.most_prefix_bytes
        return other.to(self.device)  # what the answer brings

    def at_temperature(self, temperature: float) -> OpenVlaPolicy:
        """Return a policy of the same weights that draws tokens at this temperature in evaluation."""
        return self.answering_as(replace(self.config, eval_temperature=temperature))

    @property
    def crop_area(self) -> float | None:
        """Return what share of a picture it looks at, around its centre; None: it looks at the whole."""
        return self.interface.crop_area

    def crop_pictures(self, area: float) -> None:
        """Look at the centre of pictures, of this share of them, from now on."""
        self.interface = replace(self.interface, crop_area=area)
        self.preprocessor = Preprocessor(self.config, self.interface)

    def encode(self, observation: Observation) -> Prefix:
        """Return what the network sees of observations, without gradient where seeing is not trained."""
        return self._see(self._inputs(observation))

    def loss(self, batch: Batch, *, generator: torch.Generator, prefix: Prefix | None = None) -> Float[Tensor, " B"]:
        """Return the cross-entropy of each sample's tokens over the whole vocabulary.

        Mean over the tokens of unpadded steps; the autoregressive head has to end its answer too. Actions outside the
        statistics' range are clipped to it. ``prefix`` saves seeing where it is known.
        """
        del generator  # nothing is drawn
        inputs = self._inputs(batch.observation)
        prompt = self._read(inputs, prefix)
        action, is_pad = held(batch.action, batch.is_pad, steps=self.config.hold)
        wanted = self.codec.action.do(action).to(self.device)
        bins = to_bins(wanted).flatten(1)
        target, counts = bins + self.config.first_action_id, ~is_pad.repeat_interleave(ACTION_DIM, dim=1)
        out = self.outputs(prompt, bins, to_the_end=self.answer.ends)
        if self.answer.ends:
            end = target.new_full((len(target), 1), self.interface.tokenizer.end)
            target, counts = torch.cat([target, end], dim=1), torch.cat([counts, counts[:, -1:]], dim=1)
        nats = F.cross_entropy(self.network.logits(out).transpose(1, 2), target, reduction="none")
        weight = counts.to(nats)
        # a number that is none has a bin, as every number: the loss says it, and whoever trains stops
        is_lost = wanted.isnan().flatten(1).any(1)
        return ((nats * weight).sum(1) / weight.sum(1).clamp(min=1)).masked_fill(is_lost, torch.nan)

    @torch.no_grad()
    def sample(
        self,
        observation: Observation,
        *,
        explore: bool,
        generator: torch.Generator,
        noise: Float[Tensor, "B N"] | None = None,
    ) -> Sample:
        """Draw action tokens at the temperature of exploration or of evaluation.

        ``noise``: standard normal numbers, where the caller draws them itself (evaluation on fixed states).
        """
        inputs = self._inputs(observation)
        prefix = self._see(inputs)
        prompt = self.network.read(prefix, inputs, room=self.answer.room)
        temperature = self.config.exploration.temperature if explore else self.config.eval_temperature
        shape = (len(observation), *self.noise_shape)
        given = torch.randn(shape, generator=generator) if noise is None else noise
        bins, log_prob = self.draw(prompt, torch.special.ndtr(given).to(self.device), temperature=temperature)
        trace: dict[str, Tensor] = {"bins": bins}
        if explore:
            trace["temperature"] = torch.full((len(bins),), temperature, device=self.device)
        if not self.prefix_trains and prefix_bytes(prefix) <= self.most_prefix_bytes:
            trace["looks"] = prefix.looks
        return Sample(
            action=self._actions(bins, log_prob),
            log_prob=self._counted(log_prob) if explore else log_prob.new_zeros(len(log_prob)),
            value=self.value_of(prompt),
            trace=trace,
        )

    def evaluate(self, observation: Observation, trace: Trace) -> Evaluation:
        """Score drawn tokens under the present parameters, at the temperature that they were drawn at.

        Raises ``ValueError`` if they were drawn without exploration, or at another temperature.
        """
        self._require_own(trace)
        kept = trace.get("looks") if not self.prefix_trains else None
        inputs = self._inputs(observation)
        prompt = self._read(inputs, None if kept is None else Prefix(looks=kept))
        bins = trace["bins"]
        log_p = self.log_probs(self.outputs(prompt, bins), temperature=self.config.exploration.temperature)
        entropy = -(log_p.exp() * log_p).sum(-1)
        return Evaluation(
            log_prob=self._counted(log_p.gather(-1, bins[..., None]).squeeze(-1)),
            entropy=self._counted(entropy),
            value=self.value_of(prompt),
        )

    def value(self, observation: Observation) -> Float[Tensor, " B"]:
        """Return V(s) alone, for bootstrapping."""
        return self.value_of(self._read(self._inputs(observation), None))

    @property
    def place_features_dim(self) -> int:
        """Return the number of features in ``place_features``."""
        return self.config.width

    def place_features(self, prefix: Prefix) -> Float[Tensor, "B features"]:
        """Return what a reader of the named thing's place reads in pretraining: the grounding token."""
        assert self.network.grounding is not None
        return prefix.looks[:, -1]

    def pointing(self, observation: Observation) -> Float[Tensor, "B heads cells"]:
        """Return where the grounding heads look, before the softmax."""
        network, inputs = self.network, self._inputs(observation)
        assert network.grounding is not None
        return network.grounding.look(inputs.pixels[:, 3:], network.embed(inputs.tokens).float(), inputs.is_word)[0]

    def _inputs(self, observation: Observation) -> Inputs:
        return self.preprocessor(observation).to(self.device)

    def _see(self, inputs: Inputs) -> Prefix:
        with nullcontext() if self.prefix_trains else torch.no_grad():
            return self.network.see(inputs)

    def _read(self, inputs: Inputs, prefix: Prefix | None) -> Prompt:
        return self.network.read(self._see(inputs) if prefix is None else prefix, inputs)

    def outputs(
        self, prompt: Prompt, bins: Int[Tensor, "B N"], *, to_the_end: bool = False
    ) -> Float[Tensor, "B n width"]:
        """Return the outputs that predict each action token, and the one after them with ``to_the_end``."""
        return self.answer.outputs(self.network, prompt, bins, to_the_end=to_the_end)

    def draw(
        self, prompt: Prompt, share: Float[Tensor, "B N"], *, temperature: float
    ) -> tuple[Int[Tensor, "B N"], Float[Tensor, "B N"]]:
        """Return the tokens at ``share`` of each slot's cumulative distribution, and their log-probabilities.

        ``prompt`` was read with the answer's room. A temperature of 0 takes the likeliest tokens, whose
        log-probability is 0. Where scores are no numbers, neither is the log-probability.
        """
        return self.answer.draw(self.network, prompt, share, partial(self._pick, temperature=temperature))

    def _pick(self, out: Tensor, share: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
        if not temperature:
            best = self.network.action_logits(out).max(-1)
            return best.indices, 0 * best.values
        log_p = self.log_probs(out, temperature=temperature)
        bins = at_share(log_p, share)
        return bins, log_p.gather(-1, bins[..., None]).squeeze(-1)

    def log_probs(self, out: Float[Tensor, "*B width"], *, temperature: float) -> Float[Tensor, "*B bins"]:
        """Return the log-probabilities of the 256 action tokens: the one distribution of sampler and score."""
        return (self.network.action_logits(out) / temperature).log_softmax(-1)

    def _counted(self, per_token: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
        """Return the sum over the tokens of the executed steps."""
        return per_token[:, : self.executed // self.config.hold * ACTION_DIM].sum(1)

    def _actions(self, bins: Int[Tensor, "B N"], log_prob: Float[Tensor, "B N"]) -> Float[Tensor, "B H 7"]:
        # a token taken by scores that are no numbers stands for nothing: a world refuses an action that is not finite
        values = to_values(bins).masked_fill(log_prob.isnan(), torch.nan)
        action = self.codec.action.undo(values.unflatten(1, (-1, ACTION_DIM)))
        return action.repeat_interleave(self.config.hold, dim=1)

    def value_of(self, prompt: Prompt) -> Float[Tensor, " B"]:
        """Return V(s): one function for rollout, bootstrap and training, of the observation alone."""
        exploration = self.config.exploration
        read = prompt.last if exploration.value_token == "first" else prompt.mean()
        return self.value_head(read if exploration.value_gradient else read.detach())

    def _require_own(self, trace: Trace) -> None:
        if "temperature" not in trace:
            raise ValueError("The tokens were drawn without exploration: they have no log-probability.")
        own = self.config.exploration.temperature
        odd = trace["temperature"][trace["temperature"] != own]
        if len(odd):
            raise ValueError(f"The tokens were drawn at temperature {float(odd[0]):g}, this policy scores at {own:g}.")


def held(
    action: Float[Tensor, "B H A"], is_pad: Bool[Tensor, "B H"], *, steps: int
) -> tuple[Float[Tensor, "B n A"], Bool[Tensor, "B n"]]:
    """Return the mean of every ``steps`` actions in a row, padding left out, and which of them are padding alone.

    What is padding alone is 0.
    """
    total = action.masked_fill(is_pad.unsqueeze(-1), 0).unflatten(1, (-1, steps)).sum(2)
    counts = (~is_pad).unflatten(1, (-1, steps)).sum(2, keepdim=True)
    return total / counts.clamp(min=1), counts.squeeze(-1) == 0


@torch.no_grad()
def _structure_actions(network: OpenVlaNetwork) -> None:
    """Begin with neighbouring action tokens alike, as pretraining on text leaves numbers."""
    first = network.config.first_action_id
    rows: Sequence[Tensor] = (network.language_model.model.embed_tokens.weight, network.language_model.lm_head.weight)
    for weight in rows:
        weight[first : first + BINS] = structured_rows(BINS, network.config.width)
