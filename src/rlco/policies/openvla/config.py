"""Sizes of OpenVLA. Nothing here builds anything."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from rlco.core.scene import ACTION_DIM
from rlco.policies.adapters import LARGE, LoraConfig, Tower
from rlco.policies.openvla.exploration import TokenExploration

Family = Literal["openvla"]
Head = Literal["autoregressive", "parallel"]
"""autoregressive: one control step, token after token (OpenVLA). parallel: a chunk of them in one pass, of slots that
see each other (OpenVLA-OFT, discrete tokens)."""
BINS = 256
"""Action tokens: the last ids of the text vocabulary."""
TOWERS: dict[Tower, str] = {
    "language": r"language_model\.model\.layers\.\d+\.{maps}",
    "all": r"(vision_backbone|projector|language_model)\..*",
}
"""Where adapters can be: see ``LoraConfig.pattern``. ``all`` has the output map and both vision towers too."""

_POSITIVE = ("image_size", "patch_size", "width", "mlp", "depth", "heads", "kv_heads", "head_dim", "prompt_length")
_LEAST = dict.fromkeys((*_POSITIVE, "horizon", "hold"), 1) | {"registers": 0, "grounding_heads": 0}
"""Field -> the least that it can be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TowerSize:
    """Shape of one vision transformer."""

    width: int
    mlp: int
    depth: int
    """The features are those of the last block but one."""
    heads: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenVlaConfig:
    """Everything that fixes the network's shapes, and how it answers."""

    image_size: int
    patch_size: int
    dino: TowerSize
    siglip: TowerSize
    registers: int
    """Learned tokens beside DINO's class token."""
    width: int
    mlp: int
    depth: int
    heads: int
    kv_heads: int
    head_dim: int
    text_vocabulary: int
    """Ids that the tokenizer knows. An action token is this minus 1 to 256."""
    vocabulary: int
    """Rows of the embedding: the text vocabulary, padded."""
    prompt_length: int
    """The most tokens of a prompt, its beginning not counted."""
    rms_norm_eps: float = 1e-6
    """Of the language model's norms; OpenVLA's file leaves it at the default of transformers."""
    horizon: int = 1
    executed: int = 1
    hold: int = 1
    """Control steps that each action is held for: its tokens say the mean of so many demonstrated ones. 1 is the
    published way. ``horizon`` and ``executed`` count control steps all the same."""
    head: Head = "autoregressive"
    coded_slots: bool = True
    """Whether a chunk's slots read a fixed code of their number: few layers do not tell them apart by their positions
    alone. OpenVLA-OFT reads zeros there."""
    family: Family = "openvla"
    proprio: bool = False
    """One more token that reads the normalised state (OpenVLA-OFT's proprio projector); not in released OpenVLA."""
    grounding_heads: int = 0
    """Language-queried spatial-softmax heads that make one more token; 0 is the published architecture."""
    eval_temperature: float = 0.6
    """Tokens are drawn at it where nothing is explored (RL4VLA's). 0 takes the likeliest, as OpenVLA is deployed: such
    a policy, which remembers nothing, can stand still for ever."""
    exploration: TokenExploration = field(default_factory=TokenExploration)
    """How actions are drawn in reinforcement learning, and what the critic reads."""

    def __post_init__(self) -> None:
        for name, known in (("family", get_args(Family)), ("head", get_args(Head))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"OpenVlaConfig.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}."
                )
        self._require_sizes()
        self._require_divisible()
        if not (math.isfinite(self.eval_temperature) and self.eval_temperature >= 0):
            raise ValueError(f"OpenVlaConfig.eval_temperature must be 0 or more, finite, got {self.eval_temperature}.")
        if not 1 <= self.executed <= self.horizon:
            raise ValueError(f"OpenVlaConfig.executed must be in [1, {self.horizon}], got {self.executed}.")
        if self.head == "autoregressive" and self.horizon != self.hold:
            raise ValueError(
                f"OpenVlaConfig.horizon must be {self.hold}, as hold is, with the autoregressive head, got "
                f"{self.horizon}: chunks are the parallel head's."
            )

    def _require_sizes(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"OpenVlaConfig.{name} must be {least} or more, got {getattr(self, name)}.")
        for tower, size in (("dino", self.dino), ("siglip", self.siglip)):
            if size.depth < 2:
                raise ValueError(
                    f"OpenVlaConfig.{tower}.depth must be 2 or more: features leave before the last block."
                )
            if min(size.width, size.mlp, size.heads) < 1:
                raise ValueError(f"OpenVlaConfig.{tower} must have width, mlp and heads of 1 or more, got {size}.")
        if not BINS < self.text_vocabulary <= self.vocabulary:
            raise ValueError(
                f"OpenVlaConfig.text_vocabulary must be above {BINS} and at most vocabulary {self.vocabulary}, got "
                f"{self.text_vocabulary}."
            )

    def _require_divisible(self) -> None:
        for name, number, of, divisor in (
            ("heads", self.heads, "kv_heads", self.kv_heads),
            ("dino.width", self.dino.width, "dino.heads", self.dino.heads),
            ("siglip.width", self.siglip.width, "siglip.heads", self.siglip.heads),
            ("image_size", self.image_size, "patch_size", self.patch_size),
            ("horizon", self.horizon, "hold", self.hold),
            ("executed", self.executed, "hold", self.hold),
        ):
            if number % divisor:
                raise ValueError(f"OpenVlaConfig.{name} must be a multiple of {of} {divisor}, got {number}.")
        for name in ("head_dim", "width"):  # positions and numbers are coded by sines and cosines, half each
            if getattr(self, name) % 2:
                raise ValueError(f"OpenVlaConfig.{name} must be even, got {getattr(self, name)}.")

    @property
    def patches(self) -> int:
        """Return the number of patches of a picture."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def slots(self) -> int:
        """Return the number of action tokens of one answer."""
        return self.horizon // self.hold * ACTION_DIM

    @property
    def first_action_id(self) -> int:
        """Return the id of the action token of the highest value."""
        return self.text_vocabulary - BINS

    @property
    def is_large(self) -> bool:
        """Return whether it is trained through adapters unless something else is asked for."""
        return self.width >= LARGE

    def lora(self, asked: LoraConfig) -> LoraConfig:
        """Return ``asked`` with the values of OpenVLA's fine-tuning script where it gives none.

        Raises ``ValueError`` for a tower that OpenVLA has not.
        """
        rank = asked.lora_rank or 32
        filled = asked.filled(tower="all", rank=rank, alpha=float(min(rank, 16)), init="gaussian")
        filled.pattern(TOWERS, family=self.family)
        return filled

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> OpenVlaConfig:
        """Inverse of ``to_json``. Raises ``ValueError`` on a missing or unknown field."""
        try:
            towers = {k: TowerSize(**value[k]) for k in ("dino", "siglip") if k in value}
            return cls(**{**value, **towers, "exploration": TokenExploration(**value.get("exploration", {}))})
        except TypeError as error:
            raise ValueError(f"Not a configuration of OpenVLA: {error}.") from error


def openvla_nano() -> OpenVlaConfig:
    """About 1.6 million parameters: trains on two CPU cores."""
    tower = TowerSize(width=64, mlp=192, depth=3, heads=4)
    return OpenVlaConfig(
        image_size=96,
        patch_size=24,
        dino=tower,
        siglip=tower,
        registers=2,
        width=128,
        mlp=256,
        depth=3,
        heads=4,
        kv_heads=4,
        head_dim=32,
        text_vocabulary=768,
        vocabulary=768,
        prompt_length=16,
        hold=2,
        horizon=2,
        executed=2,
        proprio=True,
        grounding_heads=16,
    )


def openvla_oft_nano() -> OpenVlaConfig:
    """``openvla_nano`` answering with a chunk in one pass: the same weights."""
    return replace(openvla_nano(), head="parallel", hold=1, horizon=8, executed=4)


def openvla_tiny() -> OpenVlaConfig:
    """For tests: random weights, milliseconds, no token that OpenVLA does not have."""
    tower = TowerSize(width=16, mlp=32, depth=2, heads=2)
    return OpenVlaConfig(
        image_size=32,
        patch_size=16,
        dino=tower,
        siglip=replace(tower, width=24),
        registers=4,
        width=16,
        mlp=32,
        depth=2,
        heads=2,
        kv_heads=2,
        head_dim=8,
        text_vocabulary=768,
        vocabulary=832,
        prompt_length=24,
    )


def openvla_oft_tiny() -> OpenVlaConfig:
    """For tests: ``openvla_tiny`` answering with a chunk, and reading the state."""
    return replace(openvla_tiny(), head="parallel", horizon=8, executed=4, proprio=True, grounding_heads=2)


def openvla_7b() -> OpenVlaConfig:
    """The released size (7.5 billion parameters)."""
    return OpenVlaConfig(
        image_size=224,
        patch_size=14,
        dino=TowerSize(width=1024, mlp=4096, depth=24, heads=16),
        siglip=TowerSize(width=1152, mlp=4304, depth=27, heads=16),
        registers=4,
        width=4096,
        mlp=11008,
        depth=32,
        heads=32,
        kv_heads=32,
        head_dim=128,
        text_vocabulary=32000,
        vocabulary=32064,
        prompt_length=96,
    )


CONFIGS = {
    "openvla-nano": openvla_nano,
    "openvla-oft-nano": openvla_oft_nano,
    "openvla-tiny": openvla_tiny,
    "openvla-oft-tiny": openvla_oft_tiny,
    "openvla-7b": openvla_7b,
}
