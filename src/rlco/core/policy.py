"""The contract of a policy: one object serves SFT, RL, evaluation and serving.

Letters: B batch, H action horizon, A action (7), S state (8), K denoising steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

FRONT = "front"
"""The fixed third-person camera, which every world has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What a policy sees at B moments.

    Raises ``ValueError`` unless every picture is uint8 (B, height, width, 3).
    """

    image: UInt8[Tensor, "B height width 3"]
    """Of the camera ``FRONT``."""
    state: Float[Tensor, "B S"]
    """Raw SI units, as the world gives them; the policy normalises."""
    instruction: tuple[str, ...]
    cameras: Mapping[str, UInt8[Tensor, "B _ _ 3"]] = field(default_factory=dict)
    """Further cameras by name, each of its own size."""

    def __post_init__(self) -> None:
        _require_pictures("image", self.image, count=len(self.instruction))
        for name, picture in self.cameras.items():
            _require_pictures(f"cameras[{name!r}]", picture, count=len(self.instruction))
        if FRONT in self.cameras:
            raise ValueError(f"Observation.cameras has further cameras only; '{FRONT}' is Observation.image.")

    def __len__(self) -> int:
        return len(self.instruction)

    def camera(self, name: str) -> UInt8[Tensor, "B _ _ 3"]:
        """Return one camera's pictures. Raises ``ValueError`` that names the cameras there are."""
        if name == FRONT:
            return self.image
        if name not in self.cameras:
            known = ", ".join([FRONT, *self.cameras])
            raise ValueError(f"The policy looks through camera '{name}', the observation has: {known}.")
        return self.cameras[name]

    def select(self, index: Tensor) -> Observation:
        """Return the rows ``index`` (integer or bool)."""
        rows = index.nonzero().flatten() if index.dtype == torch.bool else index
        return Observation(
            image=self.image[rows],
            state=self.state[rows],
            instruction=tuple(self.instruction[i] for i in rows.tolist()),
            cameras={name: picture[rows] for name, picture in self.cameras.items()},
        )

    @staticmethod
    def concatenate(parts: list[Observation]) -> Observation:
        """Stack batches along B. Raises ``ValueError`` unless all have the same cameras."""
        names = list(parts[0].cameras)
        for part in parts[1:]:
            if part.cameras.keys() != set(names):
                raise ValueError(f"Observations of cameras {names} and {list(part.cameras)} do not stack.")
        return Observation(
            image=torch.cat([p.image for p in parts]),
            state=torch.cat([p.state for p in parts]),
            instruction=tuple(i for p in parts for i in p.instruction),
            cameras={name: torch.cat([p.cameras[name] for p in parts]) for name in names},
        )


def _require_pictures(name: str, picture: Tensor, *, count: int) -> None:
    if picture.dtype != torch.uint8 or picture.ndim != 4 or picture.shape[3] != 3 or len(picture) != count:
        kind = str(picture.dtype).removeprefix("torch.")
        raise ValueError(
            f"Observation.{name} must be uint8 ({count}, height, width, 3), got {kind} {tuple(picture.shape)}."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Supervised samples: an observation and the H actions that followed."""

    observation: Observation
    action: Float[Tensor, "B H A"]
    """Raw SI units."""
    is_pad: Bool[Tensor, "B H"]
    """True after the episode's end: those steps do not count in the loss."""

    def __len__(self) -> int:
        return len(self.action)


Trace = Mapping[str, Tensor]
"""What ``sample`` drew and ``evaluate`` needs, every tensor batched along its first axis."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """An action chunk and how it was drawn."""

    action: Float[Tensor, "B H A"]
    """Raw SI units, ready for the world."""
    log_prob: Float[Tensor, " B"]
    value: Float[Tensor, " B"]
    trace: Trace


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What the present parameters say about a drawn chunk."""

    log_prob: Float[Tensor, " B"]
    entropy: Float[Tensor, " B"]
    value: Float[Tensor, " B"]


@runtime_checkable
class Policy(Protocol):
    """See the module's docstring. ``evaluate(obs, sample(obs).trace)`` gives the same log_prob and value."""

    @property
    def horizon(self) -> int:
        """Return H, the predicted control steps."""
        ...

    @property
    def executed(self) -> int:
        """Return how many of the H are executed before the next observation."""
        ...

    def loss(self, batch: Batch, *, generator: torch.Generator) -> Float[Tensor, " B"]:
        """Return the supervised loss of each sample, over real action dimensions and unpadded steps only."""
        ...

    def sample(self, observation: Observation, *, explore: bool, generator: torch.Generator) -> Sample:
        """Draw action chunks; ``explore`` adds the RL noise."""
        ...

    def evaluate(self, observation: Observation, trace: Trace) -> Evaluation:
        """Score a drawn chunk under the present parameters, with gradients."""
        ...
