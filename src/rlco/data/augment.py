"""Image augmentation in training: what a camera and a lamp change, never what a word means."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
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


def require_area(name: str, area: float | None) -> None:
    """Raise ``ValueError`` unless ``area`` is a share of a picture, or None."""
    if area is not None and not 0 < area <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {area}.")


def centre_window(side: int, area: float) -> slice:
    """Return the central pixels of a side that keep the share ``area`` of a picture: sqrt(area) of the side."""
    length = max(round(side * math.sqrt(area)), 1)
    start = (side - length) // 2
    return slice(start, start + length)


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomCrop:
    """A random window of the share ``area`` of each picture, moved to its centre.

    A policy of that ``crop_area`` cuts out the centre, in training and in evaluation: so it sees a random window in
    training, cut and resized by the function that evaluation uses. What lies around the centre repeats the edge, and is
    not seen.
    """

    area: float = 0.9

    def __post_init__(self) -> None:
        require_area("RandomCrop.area", self.area)

    def __call__(
        self, image: UInt8[Tensor, "B height width 3"], *, generator: torch.Generator
    ) -> UInt8[Tensor, "B height width 3"]:
        """Return changed copies."""
        rows, columns = (self._moved(side, len(image), generator) for side in image.shape[1:3])
        number = torch.arange(len(image))
        return image[number[:, None, None], rows[:, :, None], columns[:, None, :]]

    def _moved(self, side: int, count: int, generator: torch.Generator) -> Int[Tensor, "count side"]:
        """Return which row (or column) of the picture each one of the result is."""
        window = centre_window(side, self.area)
        starts = side - (window.stop - window.start) + 1
        start = torch.randint(starts, (count, 1), generator=generator)
        return (torch.arange(side) + start - window.start).clamp(0, side - 1)
