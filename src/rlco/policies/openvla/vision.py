"""What OpenVLA sees: DINOv2 with registers and SigLIP on the same patches. Module names are timm's.

Letters: B batch, P patches.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rlco.policies.layers import run
from rlco.policies.openvla.config import OpenVlaConfig, TowerSize

_EPSILON = 1e-6


class PatchEmbedding(nn.Module):
    """One linear map of each patch."""

    def __init__(self, size: TowerSize, *, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, size.width, patch_size, stride=patch_size)

    def forward(self, pixels: Float[Tensor, "B 3 rows columns"]) -> Float[Tensor, "B P width"]:
        return self.proj(pixels.to(self.proj.weight.dtype)).flatten(2).transpose(1, 2)


class SelfAttention(nn.Module):
    """Every token sees every other."""

    def __init__(self, size: TowerSize) -> None:
        super().__init__()
        self.heads = size.heads
        self.qkv = nn.Linear(size.width, 3 * size.width)
        self.proj = nn.Linear(size.width, size.width)

    def forward(self, x: Float[Tensor, "B T width"]) -> Float[Tensor, "B T width"]:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Exact GELU: both towers were trained with it, whatever SigLIP's default elsewhere."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "*B width"]) -> Float[Tensor, "*B width"]:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A factor for each feature, small at first. timm calls it gamma; the released files, scale_factor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # DINOv2 began with 1e-5, which keeps 24 blocks stable through a long training; a few blocks and short training
        # would hardly leave the identity
        self.scale_factor = nn.Parameter(torch.full((width,), 1e-1))

    def forward(self, x: Float[Tensor, "B T width"]) -> Float[Tensor, "B T width"]:
        return x * self.scale_factor


class Block(nn.Module):
    """A pre-norm transformer block; only DINO scales its branches."""

    def __init__(self, size: TowerSize, *, scales: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.width, eps=_EPSILON)
        self.attn = SelfAttention(size)
        self.ls1 = LayerScale(size.width) if scales else nn.Identity()
        self.norm2 = nn.LayerNorm(size.width, eps=_EPSILON)
        self.mlp = Mlp(size.width, size.mlp)
        self.ls2 = LayerScale(size.width) if scales else nn.Identity()

    def forward(self, x: Float[Tensor, "B T width"]) -> Float[Tensor, "B T width"]:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Tower(nn.Module):
    """A vision transformer whose features are the patches after the last block but one, not normed."""

    def __init__(self, size: TowerSize, *, patches: int, patch_size: int, scales: bool) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(size, patch_size=patch_size)
        self.pos_embed = nn.Parameter(torch.randn(1, patches, size.width) * 0.02)
        self.blocks = nn.ModuleList(Block(size, scales=scales) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, eps=_EPSILON)
        self.recompute = False

    def leading(self) -> Float[Tensor, "1 lead width"]:
        """Return the tokens before the patches, if any; they have no position."""
        return self.pos_embed[:, :0]

    def forward(self, pixels: Float[Tensor, "B 3 rows columns"]) -> Float[Tensor, "B P width"]:
        x = self.patch_embed(pixels) + self.pos_embed
        leading = self.leading()
        x = torch.cat([leading.expand(len(x), -1, -1), x], dim=1)
        for block in list(self.blocks)[:-1]:
            x = run(block, x, recompute=self.recompute)
        return x[:, leading.shape[1] :]

    def unused_parameters(self) -> list[nn.Parameter]:
        """Return what the released files hold and no feature depends on."""
        return [*self.blocks[-1].parameters(), *self.norm.parameters()]


class Dino(Tower):
    """DINOv2 with registers: a class token and registers before the patches, scaled branches."""

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__(config.dino, patches=config.patches, patch_size=config.patch_size, scales=True)
        width = config.dino.width
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.reg_token = nn.Parameter(torch.randn(1, config.registers, width) * 0.02)

    def leading(self) -> Float[Tensor, "1 lead width"]:
        """Return the class token and the registers."""
        return torch.cat([self.cls_token, self.reg_token], dim=1)


class Pooling(nn.Module):
    """SigLIP's attention pooling: in every released file, used by nothing here."""

    def __init__(self, size: TowerSize) -> None:
        super().__init__()
        self.latent = nn.Parameter(torch.zeros(1, 1, size.width))
        self.q = nn.Linear(size.width, size.width)
        self.kv = nn.Linear(size.width, 2 * size.width)
        self.proj = nn.Linear(size.width, size.width)
        self.norm = nn.LayerNorm(size.width, eps=_EPSILON)
        self.mlp = Mlp(size.width, size.mlp)


class Siglip(Tower):
    """SigLIP: patches only."""

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__(config.siglip, patches=config.patches, patch_size=config.patch_size, scales=False)
        self.attn_pool = Pooling(config.siglip)

    def unused_parameters(self) -> list[nn.Parameter]:
        """Return what the released files hold and no feature depends on."""
        return [*super().unused_parameters(), *self.attn_pool.parameters()]


class VisionBackbone(nn.Module):
    """Both towers' features side by side, DINO's first."""

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__()
        self.featurizer = Dino(config)
        self.fused_featurizer = Siglip(config)

    def forward(self, pixels: Float[Tensor, "B 6 rows columns"]) -> Float[Tensor, "B P both"]:
        """``pixels``: channels 0 to 2 normalised as DINO's training did, 3 to 5 as SigLIP's."""
        return torch.cat([self.featurizer(pixels[:, :3]), self.fused_featurizer(pixels[:, 3:])], dim=2)


class Projector(nn.Module):
    """Three maps from both towers' features to the language model's width."""

    def __init__(self, config: OpenVlaConfig) -> None:
        super().__init__()
        both = config.dino.width + config.siglip.width
        self.fc1 = nn.Linear(both, 4 * both)
        self.fc2 = nn.Linear(4 * both, config.width)
        self.fc3 = nn.Linear(config.width, config.width)

    def forward(self, features: Float[Tensor, "B P both"]) -> Float[Tensor, "B P width"]:
        return self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(features)))))
