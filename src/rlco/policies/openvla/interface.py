"""How OpenVLA reads the world and how its answers are meant. Part of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlco.core.policy import FRONT
from rlco.data.normalise import Codec
from rlco.policies.interface import CONTROL_HZ, require_control_hz, require_known_fields
from rlco.policies.openvla.prompts import Tokenizer, ToyTokenizer, require_style


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
        if self.crop_area is not None and not 0 < self.crop_area <= 1:
            raise ValueError(f"Interface.crop_area must be in (0, 1], got {self.crop_area}.")

    def to_json(self, folder: Path) -> dict[str, Any]:
        """Return what a checkpoint says beside units and rate; a tokenizer of its own is written to ``folder``."""
        del folder
        return {"prompt": self.prompt, "tokenizer": "toy", "camera": self.camera, "crop_area": self.crop_area}

    @staticmethod
    def from_json(value: Mapping[str, Any], codec: Codec, folder: Path) -> Interface:
        """Inverse of ``to_json``. Raises ``ValueError`` or ``LookupError`` on a field that is unknown or wrong."""
        del folder
        require_known_fields(value, ("prompt", "tokenizer", "camera", "crop_area"))
        return Interface(
            codec=codec,
            prompt=value.get("prompt", "missing"),
            camera=value.get("camera", FRONT),
            crop_area=value.get("crop_area"),
        )
