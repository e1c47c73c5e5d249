"""What the token policy costs beside its network: sampling, and a supervised step with either head.

    python benchmarks/bench_tokens.py [--rounds 15] [--batch-size 64] [--threads N] [--save FILE] [--compare FILE]

Each figure is a ratio of two things that take turns in this run; medians of the rounds are reported. The weights are
random: no figure depends on them. Half of the prompts are shorter than the others, so that there is padding.

- ``sample``: a whole ``sample`` of openvla-nano, from uint8 pictures and strings to actions in SI units, over one bare
  prefix forward and 7 bare cached token steps on tensors in memory: the same layers, and nothing drawn, written or
  made up between them.
- ``sample parallel``: the same of openvla-oft-nano, over one bare forward of prefix and slots.
- ``sft``, ``sft parallel``: the loss of a batch and its backward pass, over forward and backward of the bare network
  on one sequence.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from comparison import conclude, setting
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from turns import Work, paired_options, random_observation, ratios_of

from rlco.core.policy import Batch, Observation
from rlco.core.scene import ACTION_DIM
from rlco.data.normalise import Codec, Normaliser
from rlco.policies.families import new_policy
from rlco.policies.layers import additive
from rlco.policies.openvla.inputs import Inputs
from rlco.policies.openvla.network import OpenVlaNetwork, Prompt, Surroundings
from rlco.policies.openvla.policy import OpenVlaPolicy

MOST = {"sample": 1.2, "sample parallel": 1.25, "sft": 1.2, "sft parallel": 1.2}
_WORDS = ("push the pink cube", "put the small orange ball into the top drawer")
_CODEC = Codec(
    state=Normaliser(low=(-1.0,) * 8, high=(1.0,) * 8),
    action=Normaliser(low=(-0.05,) * ACTION_DIM, high=(0.05,) * ACTION_DIM),
)


def main() -> int:
    """Measure, print, save and compare; the exit code says whether the targets are met."""
    options = paired_options(__doc__)
    torch.set_num_threads(options.threads)
    pairs = {
        "sample": sampling("openvla-nano", options.batch_size),
        "sample parallel": sampling("openvla-oft-nano", options.batch_size),
        "sft": supervised("openvla-nano", options.batch_size),
        "sft parallel": supervised("openvla-oft-nano", options.batch_size),
    }
    figures = {
        **setting(threads=torch.get_num_threads()),
        "batch_size": options.batch_size,
        **ratios_of(pairs, rounds=options.rounds),
        "targets": MOST,
    }
    is_met = all(figures["ratios"][name] <= most for name, most in MOST.items())
    return conclude(figures, options, same=("batch_size",), is_met=is_met, low=figures["ratios"])


def sampling(name: str, batch: int) -> tuple[Work, Work]:
    """Return sampling with exploration, and the network alone."""
    policy, seen = _policy(name), _observation(name, batch)
    generator = torch.Generator().manual_seed(0)
    bare = Bare.of(policy, policy.preprocessor(seen))

    def whole() -> None:
        with torch.inference_mode():
            policy.sample(seen, explore=True, generator=generator)

    def forwards() -> None:
        with torch.inference_mode():
            bare.prefix()
            if name == "openvla-nano":
                for number in range(ACTION_DIM):
                    bare.token(min(number, bare.count - 1))
            else:
                bare.slots()

    return whole, forwards


def supervised(name: str, batch: int) -> tuple[Work, Work]:
    """Return loss and backward of a batch, and the same of the network on one sequence of prepared tensors."""
    policy, seen, generator = _policy(name).train(), _observation(name, batch), torch.Generator().manual_seed(0)
    actions = 0.02 * torch.randn(batch, policy.horizon, ACTION_DIM, generator=generator)
    samples = Batch(observation=seen, action=actions, is_pad=torch.zeros(batch, policy.horizon, dtype=torch.bool))
    bare = Bare.of(policy, policy.preprocessor(seen))

    def whole() -> None:
        policy.zero_grad(set_to_none=True)
        policy.loss(samples, generator=generator).mean().backward()

    def alone() -> None:
        policy.zero_grad(set_to_none=True)
        bare.loss().backward()

    return whole, alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Bare:
    """The layers of a network on tensors in memory."""

    network: OpenVlaNetwork
    inputs: Inputs
    begin_and_words: Tensor
    """What is embedded before the action, without the looks."""
    around: Surroundings
    """Of the prompt's own tokens."""
    prompt: Prompt
    """With room for the action's tokens."""
    around_action: Surroundings
    around_all: Surroundings
    """Of prompt and action as one sequence."""
    action: Tensor
    target: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, policy: OpenVlaPolicy, inputs: Inputs) -> Bare:
        """Prepare everything that is not a layer's work."""
        network, batch = policy.network, len(inputs.tokens)
        is_causal = policy.config.head == "autoregressive"
        # the supervised sequence of the autoregressive head has all its tokens, for the end that follows them
        count = policy.config.slots - (not is_causal)
        prefix = network.see(inputs)
        prompt = network.read(prefix, inputs, room=count)
        before = network.surroundings(prompt, count, causal=is_causal)
        ones = prompt.is_valid.new_ones(batch, count)
        return cls(
            network=network,
            inputs=inputs,
            begin_and_words=torch.randn(batch, prompt.is_valid.shape[1] - prefix.looks.shape[1], policy.config.width),
            around=_own(network, prompt.is_valid),
            prompt=prompt,
            around_action=before,
            around_all=_joint(network, prompt, before, ones),
            action=torch.randn(batch, count, policy.config.width),
            target=torch.randint(policy.config.vocabulary, (batch, count + 1)),
        )

    @property
    def count(self) -> int:
        """Return how many tokens of the action are fed."""
        return self.action.shape[1]

    def prefix(self) -> None:
        """See and read."""
        x = self._before()
        for layer in self.network.language_model.model.layers:
            x, _ = layer(x, self.around.rotary, self.around.mask)
        self.network.language_model.model.norm(x)

    def token(self, number: int) -> None:
        """Go through the layers with one token, which sees the keys of those before it."""
        cos, sin = (turn[:, number : number + 1] for turn in self.around_action.rotary)
        self._seeing_kept(self.action[:, :1], (cos, sin), self.around_action.mask[:, :, number : number + 1])

    def slots(self) -> None:
        """Go through the layers with every slot at once."""
        self._seeing_kept(self.action, self.around_action.rotary, self.around_action.mask)

    def loss(self) -> Tensor:
        """Return a cross-entropy at every token of the action, of one pass over the whole sequence."""
        model = self.network.language_model.model
        x = torch.cat([self._before(), self.action], dim=1)
        for layer in model.layers:
            x, _ = layer(x, self.around_all.rotary, self.around_all.mask)
        scores = self.network.language_model.lm_head(model.norm(x[:, -self.count - 1 :]))
        return F.cross_entropy(scores.flatten(0, 1), self.target.flatten())

    def _before(self) -> Tensor:
        return torch.cat([self.network.see(self.inputs).looks, self.begin_and_words], dim=1)

    def _seeing_kept(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor) -> None:
        model = self.network.language_model.model
        layer: Any
        for layer, (key, value) in zip(model.layers, self.prompt.kept, strict=True):
            q, _, _ = layer.self_attn.qkv(layer.input_layernorm(x), rotary)
            x = x + layer.self_attn.attend(q, key, value, mask)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        self.network.action_logits(model.norm(x))


def _own(network: OpenVlaNetwork, is_valid: Tensor) -> Surroundings:
    length = is_valid.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return Surroundings(
        rotary=network.rope(network.embedding, is_valid.cumsum(1) - 1),
        mask=additive(is_valid[:, None] & causal, torch.float32),
    )


def _joint(network: OpenVlaNetwork, prompt: Prompt, after: Surroundings, ones: Tensor) -> Surroundings:
    """Return the surroundings of the prompt and of what follows it, in one sequence."""
    own = _own(network, torch.cat([prompt.is_valid, ones], dim=1))
    mask = own.mask.clone()
    mask[:, :, -ones.shape[1] :] = after.mask
    return Surroundings(rotary=own.rotary, mask=mask)


def _policy(name: str) -> OpenVlaPolicy:
    policy = new_policy(name, _CODEC, seed=0)
    assert isinstance(policy, OpenVlaPolicy)
    return policy.eval()


def _observation(name: str, batch: int) -> Observation:
    return random_observation(batch, size=_policy(name).config.image_size, instructions=_WORDS)


if __name__ == "__main__":
    sys.exit(main())
