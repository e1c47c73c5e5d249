"""From an observation to what the network reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rlco.core.policy import Observation
from rlco.data.augment import centre_window
from rlco.policies.openvla.config import OpenVlaConfig
from rlco.policies.openvla.interface import Interface
from rlco.policies.openvla.prompts import tokenise

DINO_MEAN, DINO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1]. SigLIP's are 0.5 each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Observations as the network reads them."""

    pixels: Float[Tensor, "B 6 rows columns"]
    """Channels 0 to 2 normalised for DINO, 3 to 5 for SigLIP."""
    begin: Int[Tensor, " B"]
    """The id that begins the sequence; the looks follow it."""
    tokens: Int[Tensor, "B T"]
    """The rest of the prompt, padded on the left."""
    is_token: Bool[Tensor, "B T"]
    """False on padding."""
    is_word: Bool[Tensor, "B T"]
    """True on the words of the instruction."""
    state: Float[Tensor, "B S"]
    """Normalised."""

    def to(self, device: torch.device) -> Inputs:
        """Return the same on ``device``."""
        return Inputs(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


class Preprocessor:
    """Normalises and tokenises; crops and resizes images."""

    def __init__(self, config: OpenVlaConfig, interface: Interface) -> None:
        """Raises ``ValueError`` for the tokenizer of another policy."""
        interface.tokenizer.require_fits(config)
        self.config, self.interface = config, interface

    def __call__(self, observation: Observation) -> Inputs:
        """Raises ``ValueError`` when a prompt does not fit or is empty, or the camera is missing."""
        tokens, is_token, is_word = self._prompts(observation.instruction)
        picture = observation.camera(self.interface.camera)
        return Inputs(
            pixels=to_pixels(picture, size=self.config.image_size, crop_area=self.interface.crop_area),
            begin=torch.full((len(tokens),), self.interface.tokenizer.begin),
            tokens=tokens,
            is_token=is_token,
            is_word=is_word,
            state=self.interface.codec.read(observation.state),
        )

    def require_fits(self, instructions: Iterable[str]) -> None:
        """Raise ``ValueError`` unless the prompt of every instruction fits."""
        if tasks := sorted(set(instructions)):
            self._prompts(tuple(tasks))

    def prompt_tokens(self, instructions: Iterable[str]) -> int:
        """Return the tokens of the longest prompt, as ``require_fits`` checks it: a batch is padded to its longest."""
        return self._prompts(tuple(sorted(set(instructions))))[0].shape[1]

    def require_cameras(self, available: Iterable[str], *, source: str) -> None:
        """Raise ``ValueError`` unless ``source`` has the camera that the policy looks through."""
        found = list(available)
        if self.interface.camera not in found:
            raise ValueError(
                f"The policy looks through camera '{self.interface.camera}', {source} has {', '.join(found)}."
            )

    def _prompts(self, tasks: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
        return tokenise(
            tasks,
            style=self.interface.prompt,
            tokenizer=self.interface.tokenizer,
            length=self.config.prompt_length,
        )


def to_pixels(
    image: UInt8[Tensor, "B height width 3"], *, size: int, crop_area: float | None = None
) -> Float[Tensor, "B 6 size size"]:
    """Cut the centre, resize without keeping the aspect (bicubic), normalise twice.

    ``crop_area``: what share of the picture is kept, for a policy that was trained on random crops of that area.
    """
    x = image.permute(0, 3, 1, 2)
    if crop_area is not None:
        rows, columns = (centre_window(side, crop_area) for side in x.shape[-2:])
        x = x[..., rows, columns]
    if x.shape[-2:] != (size, size):
        # on bytes: torch then rounds after each axis as PIL does, with which OpenVLA's processor resizes
        x = F.interpolate(x, size=(size, size), mode="bicubic", antialias=True)
    x = x.contiguous().float()  # a plane for each channel: several times faster from here on
    half = (0.5, 0.5, 0.5)
    mean, std = (x.new_tensor([*dino, *half]).view(6, 1, 1) for dino in (DINO_MEAN, DINO_STD))
    return torch.addcmul(-mean / std, x.repeat(1, 2, 1, 1), 1 / (255 * std))
