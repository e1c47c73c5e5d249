"""From an observation to what the network reads."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlco.core.policy import Observation
from rlco.data.normalise import Codec
from rlco.policies.pi.config import PiConfig
from rlco.policies.pi.tokenizer import prompts
from rlco.policies.pi.vision import to_pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Observations as the network reads them."""

    pixels: Float[Tensor, "B cameras 3 rows columns"]
    """In [-1, 1], in the order of the cameras."""
    tokens: Int[Tensor, "B T"]
    is_token: Bool[Tensor, "B T"]
    """False on padding."""
    is_word: Bool[Tensor, "B T"]
    """True on the words of the instruction."""


class Preprocessor:
    """Normalises, discretises and tokenises; resizes images."""

    def __init__(self, config: PiConfig, codec: Codec) -> None:
        self.config, self.codec = config, codec

    def __call__(self, observation: Observation) -> Inputs:
        """Raises ``ValueError`` when a prompt does not fit."""
        tokens, is_token, is_word = prompts(
            observation.instruction, self.codec.state.do(observation.state), length=self.config.prompt_length
        )
        pixels = to_pixels(observation.image, size=self.config.image_size)[:, None]
        return Inputs(pixels=pixels, tokens=tokens, is_token=is_token, is_word=is_word)
