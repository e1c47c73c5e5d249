"""How the tokens of an action come out of the language model: one after the other, or a chunk of them in one pass.

Both read the same network: an output predicts the token that stands after it, so the prompt's last output predicts the
first. Letters: B batch, N action tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rlco.policies.openvla.config import Head, OpenVlaConfig
from rlco.policies.openvla.network import OpenVlaNetwork, Prompt
from rlco.policies.words import structured_rows

Pick = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From outputs (*b, width) and shares (*b) to the tokens' bins there and their log-probabilities."""


class Answer(nn.Module, ABC):
    """What the network is fed after the prompt. It has no parameters: every head answers with the same weights."""

    ends: bool
    """Whether a token that ends the answer is learnt behind it."""
    room: int
    """How much room a prompt is read with for ``draw``."""

    @abstractmethod
    def outputs(
        self, network: OpenVlaNetwork, prompt: Prompt, bins: Int[Tensor, "B N"], *, to_the_end: bool = False
    ) -> Float[Tensor, "B n width"]:
        """Return the outputs that predict each token, in float32, and the one after them with ``to_the_end``."""

    @abstractmethod
    def draw(
        self, network: OpenVlaNetwork, prompt: Prompt, share: Float[Tensor, "B N"], pick: Pick
    ) -> tuple[Int[Tensor, "B N"], Float[Tensor, "B N"]]:
        """Return what ``pick`` takes at each slot, by its share."""


class Autoregressive(Answer):
    """OpenVLA: each token sees those before it, and the answer ends with a token of its own."""

    ends = True

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__()
        self.room = config.slots - 1

    def outputs(
        self, network: OpenVlaNetwork, prompt: Prompt, bins: Int[Tensor, "B N"], *, to_the_end: bool = False
    ) -> Float[Tensor, "B n width"]:
        """See ``Answer``."""
        before = bins if to_the_end else bins[:, :-1]
        out = network.go_on(network.embed_actions(before), prompt, causal=True)
        return torch.cat([prompt.last[:, None], out.float()], dim=1)

    def draw(
        self, network: OpenVlaNetwork, prompt: Prompt, share: Float[Tensor, "B N"], pick: Pick
    ) -> tuple[Int[Tensor, "B N"], Float[Tensor, "B N"]]:
        """See ``Answer``. ``prompt`` was read with ``room``."""
        around = network.surroundings(prompt, self.room, causal=True)
        drawn = [pick(prompt.last, share[:, 0])]
        for number in range(self.room):
            x = network.embed_actions(drawn[-1][0][:, None])
            out = network.step(x, prompt, around, number=number)
            drawn.append(pick(out[:, 0].float(), share[:, number + 1]))
        bins, log_prob = zip(*drawn, strict=True)
        return torch.stack(bins, dim=1), torch.stack(log_prob, dim=1)


class Parallel(Answer):
    """OpenVLA-OFT with discrete tokens: slots that hold no token and all see each other, read in one pass.

    They hold zeros, as published, or a code of their number (``OpenVlaConfig.coded_slots``).

    They predict every token but the first, which is the prompt's to predict, as everywhere.
    """

    ends = False
    room = 0
    code: Float[Tensor, "N width"]

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__()
        rows = structured_rows if config.coded_slots else torch.zeros
        self.code = nn.Buffer(rows(config.slots, config.width), persistent=False)

    def outputs(
        self, network: OpenVlaNetwork, prompt: Prompt, bins: Int[Tensor, "B N"], *, to_the_end: bool = False
    ) -> Float[Tensor, "B n width"]:
        """See ``Answer``; the tokens themselves are not read."""
        assert not to_the_end, "a chunk has no end to learn"
        slots = self.code[:-1].to(network.layer_dtype).expand(len(bins), -1, -1)
        out = network.go_on(slots, prompt, causal=False)
        return torch.cat([prompt.last[:, None], out.float()], dim=1)

    def draw(
        self, network: OpenVlaNetwork, prompt: Prompt, share: Float[Tensor, "B N"], pick: Pick
    ) -> tuple[Int[Tensor, "B N"], Float[Tensor, "B N"]]:
        """See ``Answer``. Given the observation the tokens are independent of each other."""
        return pick(self.outputs(network, prompt, torch.zeros_like(share, dtype=torch.long)), share)


ANSWERS: dict[Head, type[Autoregressive] | type[Parallel]] = {"autoregressive": Autoregressive, "parallel": Parallel}
"""Name in the configuration -> how it answers."""


def at_share(log_p: Float[Tensor, "*b bins"], share: Float[Tensor, "*b"]) -> Int[Tensor, "*b"]:
    """Return where each cumulative distribution reaches its share in [0, 1]: uniform shares draw from it.

    A token of probability 0 is never returned.
    """
    below = log_p.exp().cumsum(-1)
    # scaled by its end, which rounding leaves beside 1: no share is beyond the last token, and none is before the first
    wanted = (share * below[..., -1]).clamp(min=torch.finfo(below.dtype).tiny)
    # numbers that are none have no place: their log-probability says so, an index beyond the end would not
    return torch.searchsorted(below, wanted[..., None]).squeeze(-1).clamp(max=log_p.shape[-1] - 1)
