"""What the policy sees: the SigLIP tower, its projector, and the optional grounding token of the nano sizes."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import SiglipVisionConfig, SiglipVisionModel

from rlco.policies.pi.config import PiConfig
from rlco.policies.pi.layers import run


class VisionTower(nn.Module):
    """SigLIP without its pooling head; the wrapper exists for the published key layout."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        self.vision_model = SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=config.vision.width,
                intermediate_size=config.vision.mlp,
                num_hidden_layers=config.vision_depth,
                num_attention_heads=config.vision_heads,
                image_size=config.image_size,
                patch_size=config.patch_size,
                vision_use_head=False,
            )
        )

        self.recompute = False

    def forward(self, pixels: Float[Tensor, "B 3 rows columns"]) -> Float[Tensor, "B patches features"]:
        model = self.vision_model
        # the embedding of patches stays in float32 where the layers do not
        x = model.embeddings(pixels).to(model.post_layernorm.weight.dtype)
        for layer in model.encoder.layers:
            x = run(layer, x, None, recompute=self.recompute)
        return model.post_layernorm(x)


class Projector(nn.Module):
    """Vision width to language width."""

    def __init__(self, config: PiConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.vision.width, config.language.width)

    def forward(self, features: Float[Tensor, "B patches vision"]) -> Float[Tensor, "B patches width"]:
        return self.linear(features)


def grid(config: PiConfig) -> Float[Tensor, "cells 2"]:
    """Return the place (down, right) of each cell of the grounding token's map, in [-1, 1]."""
    axis = torch.linspace(-1, 1, config.image_size // 4)
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)


class Grounding(nn.Module):
    """One token that says where the words are in the image.

    The task's words make a query per head, the query scores a 4-pixel feature map, and a spatial softmax gives the
    expected place and the feature there. Plain small vision transformers do not learn to find a named object from the
    few images a small policy is trained on; this token does, and is the nano sizes' documented departure.
    """

    def __init__(self, config: PiConfig, *, channels: int = 40) -> None:
        super().__init__()
        heads, width = config.grounding_heads, config.language.width
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
        self.grid = nn.Buffer(grid(config), persistent=False)

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


def to_pixels(image: UInt8[Tensor, "B height width 3"], *, size: int) -> Float[Tensor, "B 3 size size"]:
    """Scale to [-1, 1] and resize with centred padding where the size differs (bilinear).

    The sizes are openpi's ``resize_with_pad``: both sides divided by the larger ratio and cut to whole pixels.
    """
    pixels = image.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
    height, width = pixels.shape[-2:]
    if (height, width) == (size, size):
        return pixels
    ratio = max(width / size, height / size)
    shape = (int(height / ratio), int(width / ratio))
    pixels = F.interpolate(pixels, size=shape, mode="bilinear", align_corners=False, antialias=ratio > 1)
    top, left = (size - shape[0]) // 2, (size - shape[1]) // 2
    return F.pad(pixels, (left, size - shape[1] - left, top, size - shape[0] - top), value=-1.0)
