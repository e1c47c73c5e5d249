"""Families and sizes of pi0 and pi0.5. Nothing here builds anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from rlco.core.scene import ACTION_DIM, STATE_DIM
from rlco.policies.adapters import LARGE, LoraConfig, Tower
from rlco.policies.pi.exploration import FlowExploration

Family = Literal["pi05", "pi0"]
"""pi05: state in the prompt, flow time in the expert's norms. pi0: state as a token, flow time in the action tokens."""
ValueFrom = Literal["prefix", "expert"]
"""prefix: mean of the prefix's outputs. expert: mean of the action expert's outputs at t = 1 on a chunk of zeros."""

TOWERS: dict[Tower, str] = {
    "expert": r".*\.gemma_expert\.model\.layers\.\d+\.{maps}",
    "language": r".*\.paligemma\.model\.language_model\.layers\.\d+\.{maps}",
    "both": r".*\.(gemma_expert\.model|paligemma\.model\.language_model)\.layers\.\d+\.{maps}",
    "all": r"paligemma_with_expert\..*",
}
"""Where adapters can be: see ``LoraConfig.pattern``."""


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
    family: Family = "pi05"
    model_state_dim: int = 8
    """States are padded to this many dimensions. Only pi0 has a layer that reads them."""
    grounding_heads: int = 0
    """Language-queried spatial-softmax heads that make one more prefix token; 0 is the published architecture."""
    flow_copies: int = 1
    """Flow times drawn per supervised sample; they share the prefix, so more of them cost little."""
    exploration: FlowExploration = field(default_factory=lambda: FlowExploration().resolved())
    """How reinforcement learning draws chunks; it fixes the noise head's range."""
    value_from: ValueFrom = "prefix"
    """What the critic reads; it fixes the value head's shape."""

    def __post_init__(self) -> None:
        if self.family not in get_args(Family):
            raise ValueError(f"PiConfig.family must be one of {', '.join(get_args(Family))}, got {self.family!r}.")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"PiConfig.{name} must be {least} or more, got {getattr(self, name)}.")
        if not 1 <= self.executed <= self.horizon:
            raise ValueError(f"PiConfig.executed must be in [1, {self.horizon}], got {self.executed}.")
        if self.value_from not in get_args(ValueFrom):
            raise ValueError(f"PiConfig.value_from must be prefix or expert, got {self.value_from!r}.")
        self._require_divisible()

    def _require_divisible(self) -> None:
        for name, number, of, divisor in (
            ("heads", self.heads, "kv_heads", self.kv_heads),
            ("vision.width", self.vision.width, "vision_heads", self.vision_heads),
            ("image_size", self.image_size, "patch_size", self.patch_size),
        ):
            if number % divisor:
                raise ValueError(f"PiConfig.{name} must be a multiple of {of} {divisor}, got {number}.")
        # halves of a head are rotated against each other; a flow time is as many sines as cosines
        for name, number in (("head_dim", self.head_dim), ("expert.width", self.expert.width)):
            if number % 2:
                raise ValueError(f"PiConfig.{name} must be even, got {number}.")

    @property
    def is_large(self) -> bool:
        """Return whether it is trained through adapters unless something else is asked for."""
        return self.language.width >= LARGE

    def lora(self, asked: LoraConfig) -> LoraConfig:
        """Return ``asked`` with pi0's values where it gives none. Raises ``ValueError`` for an unknown tower."""
        filled = asked.filled(tower="expert", rank=16, alpha=16.0, init="kaiming")
        filled.pattern(TOWERS, family=self.family)
        return filled

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PiConfig:
        """Inverse of ``to_json``. Raises ``ValueError`` on a missing or unknown field."""
        try:
            sizes = {k: TransformerSize(**value[k]) for k in ("vision", "language", "expert") if k in value}
            return cls(**{**value, **sizes, "exploration": FlowExploration.from_json(value.get("exploration", {}))})
        except TypeError as error:
            raise ValueError(f"Not a configuration of pi0 or pi0.5: {error}.") from error


_LEAST = {
    "depth": 1,
    "vision_depth": 1,
    "heads": 1,
    "kv_heads": 1,
    "vision_heads": 1,
    "patch_size": 1,
    "denoise_steps": 1,
    "flow_copies": 1,
    "model_action_dim": ACTION_DIM,
    "model_state_dim": STATE_DIM,
}


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
        model_state_dim=32,
    )


def pi0_nano() -> PiConfig:
    """As small as ``pi05_nano``, with pi0's state token and time."""
    return replace(pi05_nano(), family="pi0")


def pi0_tiny() -> PiConfig:
    """For tests: ``pi05_tiny`` without the grounding token, as pi0 is published."""
    return replace(pi05_tiny(), family="pi0", grounding_heads=0)


def pi0_base() -> PiConfig:
    """The released size (3.5 billion parameters)."""
    return replace(pi05_base(), family="pi0", prompt_length=48)


CONFIGS = {
    "pi05-nano": pi05_nano,
    "pi05-tiny": pi05_tiny,
    "pi05-base": pi05_base,
    "pi0-nano": pi0_nano,
    "pi0-tiny": pi0_tiny,
    "pi0-base": pi0_base,
}
