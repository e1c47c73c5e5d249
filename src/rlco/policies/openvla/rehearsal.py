"""One step of OpenVLA on inputs that mean nothing: what its memory is counted from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rlco.core.scene import STATE_DIM
from rlco.policies.openvla.inputs import Inputs
from rlco.policies.openvla.network import Prefix, Prompt
from rlco.policies.openvla.policy import OpenVlaPolicy


@dataclass(frozen=True, slots=True)
class OpenVlaRehearsal:
    """See ``rlco.policies.contract.Rehearsal``."""

    policy: OpenVlaPolicy
    cameras: int
    """Of what the experience keeps; the network sees one."""
    prompt_tokens: int

    @property
    def decision_bytes(self) -> int:
        """Return what the experience keeps of a decision: pictures, state, tokens and a few numbers."""
        config = self.policy.config
        return self.cameras * 3 * config.image_size**2 + 8 * config.slots + 4 * (STATE_DIM + 8)

    def encode(self, count: int) -> Prefix:
        """Return what is seen in ``count`` observations."""
        return self.policy.network.see(self._inputs(count))

    def loss(self, prefix: Prefix) -> Float[Tensor, ""]:
        """Return a number with the graph of the supervised loss: scores of the whole vocabulary at every slot."""
        policy, prompt = self.policy, self._read(prefix)
        out = policy.outputs(prompt, self._bins(prompt), to_the_end=policy.answer.ends)
        scores = policy.network.logits(out)
        return F.cross_entropy(scores.transpose(1, 2), torch.zeros(scores.shape[:2], dtype=torch.long))

    def score(self, prefix: Prefix) -> Float[Tensor, ""]:
        """Return a number with the graph of scoring drawn tokens: log-probability, entropy and value."""
        policy, prompt = self.policy, self._read(prefix)
        log_p = policy.log_probs(policy.outputs(prompt, self._bins(prompt)), temperature=1.0)
        entropy = -(log_p.exp() * log_p).sum(-1)
        return (log_p[..., 0] + entropy).sum(1).mean() + policy.value_of(prompt).mean()

    def sample(self, prefix: Prefix) -> None:
        """Draw every token."""
        prompt = self._read(prefix, room=self.policy.answer.room)
        self.policy.draw(prompt, torch.zeros(len(prefix.looks), self.policy.config.slots), temperature=1.0)

    def _bins(self, prompt: Prompt) -> Int[Tensor, "B N"]:
        return torch.zeros(len(prompt.last), self.policy.config.slots, dtype=torch.long)

    def _inputs(self, count: int) -> Inputs:
        config, length = self.policy.config, self.prompt_tokens
        is_word = torch.ones(count, length, dtype=torch.bool)
        return Inputs(
            pixels=torch.zeros(count, 6, config.image_size, config.image_size),
            begin=torch.zeros(count, dtype=torch.long),
            tokens=torch.zeros(count, length, dtype=torch.long),
            is_token=is_word,
            is_word=is_word,
            state=torch.zeros(count, STATE_DIM),
        )

    def _read(self, prefix: Prefix, *, room: int = 0) -> Prompt:
        return self.policy.network.read(prefix, self._inputs(len(prefix.looks)), room=room)
