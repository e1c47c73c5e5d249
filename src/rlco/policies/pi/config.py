"""Sizes of pi0.5. Nothing here builds anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerSize:
    """Shape of one stack."""

    width: int
    mlp: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PiConfig:
    """Everything that fixes the network's shapes and the sampler's grid."""

    image_size: int
    patch_size: int
    vision: TransformerSize
    vision_depth: int
    vision_heads: int
    language: TransformerSize
    expert: TransformerSize
    depth: int
    """Layers of the language model and of the expert: they attend jointly, so they share it."""
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    prompt_length: int
    horizon: int
    executed: int
    denoise_steps: int
    model_action_dim: int
    """Actions are padded to this many dimensions."""
    grounding_heads: int = 0
    """Language-queried spatial-softmax heads that make one more prefix token; 0 is the published architecture."""
    flow_copies: int = 1
    """Flow times drawn per supervised sample; they share the prefix, so more of them cost little."""
    noise_std: tuple[float, float] = (0.03, 0.2)
    """Least and largest standard deviation of the learned exploration noise, in normalised action units."""
    noise_std_start: float = 0.12

    def __post_init__(self) -> None:
        if not 1 <= self.executed <= self.horizon:
            raise ValueError(f"PiConfig.executed must be in [1, {self.horizon}], got {self.executed}.")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"PiConfig.image_size {self.image_size} is not a multiple of patch_size {self.patch_size}."
            )
        low, high = self.noise_std
        if not 0 < low < self.noise_std_start < high:
            raise ValueError(f"PiConfig needs 0 < {low} < noise_std_start {self.noise_std_start} < {high}.")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PiConfig:
        """Inverse of ``to_json``. Raises ``ValueError`` on a missing or unknown field."""
        sizes = {k: TransformerSize(**value[k]) for k in ("vision", "language", "expert") if k in value}
        try:
            return cls(**{**value, **sizes, "noise_std": tuple(value.get("noise_std", (0.03, 0.2)))})
        except TypeError as error:
            raise ValueError(f"Not a pi0.5 configuration: {error}.") from error


def pi05_nano() -> PiConfig:
    """About 1.6 million parameters: trains on two CPU cores."""
    return PiConfig(
        image_size=96,
        patch_size=24,
        vision=TransformerSize(width=96, mlp=256),
        vision_depth=3,
        vision_heads=4,
        language=TransformerSize(width=128, mlp=256),
        expert=TransformerSize(width=128, mlp=256),
        depth=3,
        heads=4,
        kv_heads=1,
        head_dim=32,
        vocabulary=512,
        prompt_length=24,
        horizon=8,
        executed=4,
        denoise_steps=4,
        model_action_dim=8,
        grounding_heads=16,
        flow_copies=4,
    )


def pi05_tiny() -> PiConfig:
    """For tests: random weights, milliseconds."""
    return PiConfig(
        image_size=32,
        patch_size=16,
        vision=TransformerSize(width=16, mlp=32),
        vision_depth=1,
        vision_heads=2,
        language=TransformerSize(width=16, mlp=32),
        expert=TransformerSize(width=24, mlp=32),
        depth=2,
        heads=2,
        kv_heads=1,
        head_dim=8,
        vocabulary=512,
        prompt_length=24,
        horizon=8,
        executed=4,
        denoise_steps=4,
        model_action_dim=8,
        grounding_heads=2,
    )


def pi05_base() -> PiConfig:
    """The released size (3.6 billion parameters)."""
    return PiConfig(
        image_size=224,
        patch_size=14,
        vision=TransformerSize(width=1152, mlp=4304),
        vision_depth=27,
        vision_heads=16,
        language=TransformerSize(width=2048, mlp=16384),
        expert=TransformerSize(width=1024, mlp=4096),
        depth=18,
        heads=8,
        kv_heads=1,
        head_dim=256,
        vocabulary=257152,
        prompt_length=200,
        horizon=50,
        executed=50,
        denoise_steps=10,
        model_action_dim=32,
    )


CONFIGS = {"pi05-nano": pi05_nano, "pi05-tiny": pi05_tiny, "pi05-base": pi05_base}
