"""From an observation to what the network reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rlco.core.policy import Observation
from rlco.core.scene import STATE_DIM
from rlco.policies.pi.config import PiConfig
from rlco.policies.pi.interface import Interface
from rlco.policies.pi.prompts import STYLES, tokenise
from rlco.policies.pi.vision import to_pixels
from rlco.policies.words import STATE_BINS


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Observations as the network reads them."""

    pixels: Float[Tensor, "B cameras 3 rows columns"]
    """In [-1, 1], in the order of the policy's cameras."""
    tokens: Int[Tensor, "B T"]
    is_token: Bool[Tensor, "B T"]
    """False on padding."""
    is_word: Bool[Tensor, "B T"]
    """True on the words of the instruction."""
    state: Float[Tensor, "B S"]
    """Normalised, padded with zeros: what pi0's state token reads."""

    def to(self, device: torch.device) -> Inputs:
        """Return the same on ``device``."""
        return Inputs(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


class Preprocessor:
    """Normalises, discretises and tokenises; resizes images."""

    def __init__(self, config: PiConfig, interface: Interface) -> None:
        self.config, self.interface = config, interface

    def __call__(self, observation: Observation) -> Inputs:
        """Raises ``ValueError`` when a prompt does not fit or a camera is missing."""
        state = self.interface.codec.read(observation.state)
        tokens, is_token, is_word = self._prompts(observation.instruction, state)
        size = self.config.image_size
        views = [to_pixels(observation.camera(name), size=size) for name in self.interface.cameras.values()]
        return Inputs(
            pixels=views[0][:, None] if len(views) == 1 else torch.stack(views, dim=1),
            tokens=tokens,
            is_token=is_token,
            is_word=is_word,
            state=F.pad(state, (0, self.config.model_state_dim - state.shape[1])),
        )

    def require_fits(self, instructions: Iterable[str]) -> None:
        """Raise ``ValueError`` unless the prompt of every instruction fits, whatever the state."""
        tasks = sorted(set(instructions))
        # the state whose bins take the most tokens
        longest = max(range(-1, STATE_BINS), key=self._tokens_of_bin)
        state = torch.full((len(tasks), STATE_DIM), (2 * longest + 1) / STATE_BINS - 1)
        if tasks:
            self._prompts(tasks, state)

    def prompt_tokens(self, instructions: Iterable[str]) -> int:
        """Return the length that every prompt is padded to, as ``require_fits`` checks it."""
        self.require_fits(instructions)
        return self.config.prompt_length

    def require_cameras(self, available: Iterable[str], *, source: str) -> None:
        """Raise ``ValueError`` unless ``source`` has every camera that the policy looks through."""
        wanted, found = list(self.interface.cameras.values()), list(available)
        if missing := [name for name in wanted if name not in found]:
            raise ValueError(
                f"The policy looks through {len(wanted)} cameras ({', '.join(wanted)}), {source} has "
                f"{', '.join(found)}: missing {', '.join(missing)}."
            )

    def _tokens_of_bin(self, number: int) -> int:
        return len(self.interface.tokenizer.encode("", [number])[0])

    def _prompts(self, tasks: Sequence[str], state: Float[Tensor, "B S"]) -> tuple[Tensor, Tensor, Tensor]:
        found = tokenise(
            tasks,
            STYLES[self.interface.prompt](state),
            tokenizer=self.interface.tokenizer,
            length=self.config.prompt_length,
        )
        if (highest := int(found[0].max())) >= self.config.vocabulary:
            raise ValueError(
                f"The tokenizer gives token {highest}, the policy knows {self.config.vocabulary}: it is not the "
                "tokenizer that the policy was trained with."
            )
        return found
