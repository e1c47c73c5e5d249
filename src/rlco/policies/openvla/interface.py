"""How OpenVLA reads the world and how its answers are meant. Part of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlco.core.policy import FRONT
from rlco.data.augment import require_area
from rlco.data.normalise import Codec
from rlco.policies.interface import CONTROL_HZ, require_control_hz, require_fields
from rlco.policies.openvla.prompts import Tokenizer, require_style
from rlco.policies.openvla.tokenizer import ToyTokenizer, open_tokenizer, save_tokenizer

SLOT = "image"
"""The published place of the picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interface:
    """Units, words and the camera."""

    codec: Codec
    prompt: str = "openvla"
    """A name in ``STYLES``."""
    tokenizer: Tokenizer = field(default_factory=ToyTokenizer)
    camera: str = FRONT
    control_hz: int = CONTROL_HZ
    crop_area: float | None = None
    """The policy was trained on random crops of this share of the picture, and sees the centre of it."""

    def __post_init__(self) -> None:
        require_style(self.prompt)
        require_control_hz(self.control_hz)
        require_area("Interface.crop_area", self.crop_area)

    @property
    def cameras(self) -> dict[str, str]:
        """Return published slot -> our camera: there is one."""
        return {SLOT: self.camera}

    def to_json(self, folder: Path) -> dict[str, Any]:
        """Return what a checkpoint says beside units and rate; a tokenizer of its own is written to ``folder``."""
        tokenizer = save_tokenizer(self.tokenizer, folder)
        return {"prompt": self.prompt, "tokenizer": tokenizer, "camera": self.camera, "crop_area": self.crop_area}

    @staticmethod
    def from_json(value: Mapping[str, Any], codec: Codec, folder: Path) -> Interface:
        """Inverse of ``to_json``. Raises ``ValueError`` or ``LookupError`` on an unknown, missing or wrong field."""
        require_fields(value, ("prompt", "tokenizer", "camera", "crop_area"))
        return Interface(
            codec=codec,
            prompt=value["prompt"],
            tokenizer=open_tokenizer(value["tokenizer"], folder),
            camera=value["camera"],
            crop_area=value["crop_area"],
        )
