"""What the policy sees: the SigLIP tower and its projector."""

from __future__ import annotations

from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import SiglipVisionConfig, SiglipVisionModel

from rlco.policies.layers import run
from rlco.policies.pi.config import PiConfig


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
