"""How a policy reads the world and how its answers are meant. Part of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlco.core.errors import unknown_name
from rlco.core.policy import FRONT
from rlco.data.normalise import Codec
from rlco.policies.interface import CONTROL_HZ, require_control_hz, require_fields
from rlco.policies.pi.config import Family
from rlco.policies.pi.prompts import STYLE_OF_FAMILY, Tokenizer, require_style
from rlco.policies.pi.tokenizer import ToyTokenizer, open_tokenizer, save_tokenizer

SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
"""The published places of pictures in the sequence, in order. An empty one is left out: exact, because the released
models neither attend to the tokens of a missing camera nor count them in the positions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interface:
    """Units, words and cameras."""

    codec: Codec
    prompt: str
    """A name in ``STYLES``."""
    tokenizer: Tokenizer = field(default_factory=ToyTokenizer)
    cameras: Mapping[str, str] = field(default_factory=lambda: {SLOTS[0]: FRONT})
    """Published slot -> our camera, in the order of ``SLOTS``."""
    control_hz: int = CONTROL_HZ

    def __post_init__(self) -> None:
        require_style(self.prompt)
        for slot in self.cameras:
            if slot not in SLOTS:
                raise unknown_name("camera slot", slot, SLOTS)
        if list(self.cameras) != [slot for slot in SLOTS if slot in self.cameras] or not self.cameras:
            raise ValueError(
                f"Interface.cameras must have 1 to {len(SLOTS)} slots in the order {', '.join(SLOTS)}, got "
                f"{', '.join(self.cameras) or 'none'}."
            )
        if len(set(self.cameras.values())) < len(self.cameras):
            raise ValueError(f"Interface.cameras must name each camera once, got {dict(self.cameras)}.")
        require_control_hz(self.control_hz)

    @staticmethod
    def of_family(family: Family, codec: Codec) -> Interface:
        """Return the family's own prompt, the built-in tokenizer and the front camera."""
        return Interface(codec=codec, prompt=STYLE_OF_FAMILY[family])

    def to_json(self, folder: Path) -> dict[str, Any]:
        """Return what a checkpoint says beside units and rate; a tokenizer of its own is written to ``folder``."""
        return {
            "prompt": self.prompt,
            "tokenizer": save_tokenizer(self.tokenizer, folder),
            "cameras": dict(self.cameras),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any], codec: Codec, folder: Path) -> Interface:
        """Inverse of ``to_json``. Raises ``ValueError`` or ``LookupError`` on an unknown, missing or wrong field."""
        require_fields(value, ("prompt", "tokenizer", "cameras"))
        cameras = value["cameras"]
        return Interface(
            codec=codec,
            prompt=value["prompt"],
            tokenizer=open_tokenizer(value["tokenizer"], folder),
            # a list, of checkpoints made before there were several cameras
            cameras=dict(zip(SLOTS, cameras, strict=False)) if isinstance(cameras, list) else cameras,
        )
