"""The grounding token of the nano sizes."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

CELL = 4
"""Side of a cell of the feature map [pixels]."""


def grid(image_size: int) -> Float[Tensor, "cells 2"]:
    """Return the place (down, right) of each cell of the grounding token's map, in [-1, 1]."""
    axis = torch.linspace(-1, 1, image_size // CELL)
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)


class Grounding(nn.Module):
    """One token that says where the words are in the image.

    The task's words make a query per head, the query scores a 4-pixel feature map, and a spatial softmax gives the
    expected place and the feature there. Plain small vision transformers do not learn to find a named object from the
    few images a small policy is trained on; this token does, and is the nano sizes' documented departure.
    """

    def __init__(self, *, image_size: int, heads: int, width: int, channels: int = 40) -> None:
        super().__init__()
        self.heads = heads
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=4),
            nn.GELU(approximate="tanh"),
            nn.Conv2d(32, channels, 3, padding=1),
            nn.GELU(approximate="tanh"),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Sequential(
            nn.Linear(width, width), nn.GELU(approximate="tanh"), nn.Linear(width, heads * channels)
        )
        self.out = nn.Linear(heads * (2 + channels), width)
        self.grid = nn.Buffer(grid(image_size), persistent=False)

    def look(
        self,
        pixels: Float[Tensor, "B 3 rows columns"],
        words: Float[Tensor, "B T width"],
        is_word: Bool[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B heads cells"], Float[Tensor, "B cells channels"]]:
        """Return the scores of every cell for every head, and the feature map."""
        features = self.norm(self.stem(pixels).permute(0, 2, 3, 1).flatten(1, 2))
        weight = is_word.unsqueeze(-1).to(words.dtype)
        mean = (words * weight).sum(1) / weight.sum(1).clamp(min=1)
        query = self.query(mean).unflatten(1, (self.heads, -1))
        return query @ features.transpose(1, 2), features

    def forward(
        self,
        pixels: Float[Tensor, "B 3 rows columns"],
        words: Float[Tensor, "B T width"],
        is_word: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B 1 width"]:
        scores, features = self.look(pixels, words, is_word)
        attention = scores.softmax(-1)
        found = torch.cat([(attention @ self.grid).flatten(1), (attention @ features).flatten(1)], dim=1)
        return self.out(found).unsqueeze(1)
