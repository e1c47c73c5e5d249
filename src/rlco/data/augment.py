"""Image augmentation in training: what a camera and a lamp change, never what a word means."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class ColourJitter:
    """Random brightness, contrast and colour cast of each image. 0 switches a part off."""

    brightness: float = 0.15
    contrast: float = 0.15
    cast: float = 0.06
    """Independent gain of each colour channel."""

    def __post_init__(self) -> None:
        if not all(0 <= v < 1 for v in (self.brightness, self.contrast, self.cast)):
            raise ValueError(f"ColourJitter takes values in [0, 1), got {self}.")

    def __call__(
        self, image: UInt8[Tensor, "B height width 3"], *, generator: torch.Generator
    ) -> UInt8[Tensor, "B height width 3"]:
        """Return changed copies."""
        draw = 2 * torch.rand(len(image), 1, 1, 5, generator=generator) - 1
        gain = (1 + self.brightness * draw[..., :1]) * (1 + self.cast * draw[..., 2:])
        contrast = 1 + self.contrast * draw[..., 1:2]
        # one gain and one offset per channel: 127.5 is the grey that contrast leaves alone
        scale, offset = gain * contrast, 127.5 * (1 - contrast)
        # in place: fresh memory for every step of this costs several times the arithmetic
        return image.float().mul_(scale).add_(offset).clamp_(0, 255).to(torch.uint8)
