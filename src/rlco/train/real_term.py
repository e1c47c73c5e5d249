"""The supervised term of Stage II: L_SFT on the real demonstrations (RL-Co, eq. 8)."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rlco.core.policy import Batch
from rlco.core.rng import numpy_generator, seed_of
from rlco.data.augment import ColourJitter, RandomCrop
from rlco.data.chunks import ChunkDataset
from rlco.policies.contract import AnyPolicy, prefix_bytes, prefix_rows

_ENCODED_AT_ONCE, _ENCODED_BYTES = 256, 2**30
_LEAST_SAMPLES = 2048
"""Samples behind ``mean_loss``, of a small set several times: flow times and noise are drawn anew."""


class RealTerm:
    """Draws real samples uniformly and gives their loss under a policy.

    Where nothing upstream of the policy's prefix learns, the prefixes of all real frames are encoded once and kept, if
    they fit in ``cache_bytes``: the term then costs the expert alone. ``jitter``, and the random crop of a policy that
    sees the centre of its pictures, need the image and are used only where the prefix learns, so that keeping prefixes
    changes the cost and not the loss.
    """

    def __init__(
        self,
        policy: AnyPolicy,
        real: ChunkDataset,
        *,
        batch_size: int,
        jitter: ColourJitter | None,
        seed: int,
        cache_bytes: int = 4_000_000_000,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"The real term's batch_size must be 1 or more, got {batch_size}.")
        self.policy, self.real, self.batch_size, self.seed = policy, real, batch_size, seed
        crop = None if policy.crop_area is None else RandomCrop(area=policy.crop_area)
        self.changes = [change for change in (jitter, crop) if change is not None] if policy.prefix_trains else []
        self.generator = numpy_generator(seed, "real-term")
        one = frame_bytes(policy, real)
        keeps = not policy.prefix_trains and len(real) * one <= cache_bytes
        at_once = max(1, min(_ENCODED_AT_ONCE, _ENCODED_BYTES // one))
        self._prefix = encode_all(policy, real, at_once=at_once) if keeps else None
        self.last: Batch | None = None
        """What the latest losses were computed from, pictures as they are in the data."""

    @property
    def keeps_prefixes(self) -> bool:
        """Return whether every frame's prefix is in memory."""
        return self._prefix is not None

    def loss(self, *, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the mean loss of a fresh batch."""
        return self._losses(self.generator.integers(0, len(self.real), self.batch_size), generator).mean()

    @torch.no_grad()
    def mean_loss(self) -> float:
        """Return the mean loss over all real samples under the present policy; changes no generator of training."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, "real-term", "mean"))
        index = np.tile(np.arange(len(self.real)), max(1, _LEAST_SAMPLES // len(self.real)))
        parts = np.array_split(index, -(-len(index) // self.batch_size))
        return float(torch.cat([self._losses(part, generator) for part in parts]).double().mean())

    def _losses(self, index: np.ndarray, generator: torch.Generator) -> Float[Tensor, " B"]:
        batch = self.last = self.real.batch(index)
        if self._prefix is not None:
            return self.policy.loss(
                batch, generator=generator, prefix=prefix_rows(self._prefix, torch.from_numpy(index))
            )
        return self.policy.loss(self._augmented(batch, generator), generator=generator)

    def _augmented(self, batch: Batch, generator: torch.Generator) -> Batch:
        image = batch.observation.image
        for change in self.changes:
            image = change(image, generator=generator)
        return replace(batch, observation=replace(batch.observation, image=image))


def frame_bytes(policy: AnyPolicy, data: ChunkDataset) -> int:
    """Return the memory of one frame's prefix."""
    with torch.no_grad():
        return prefix_bytes(policy.encode(data.batch(np.zeros(1, dtype=np.int64)).observation))


def encode_all(policy: AnyPolicy, data: ChunkDataset, *, at_once: int) -> Any:  # noqa: ANN401  (the family's prefix)
    """Return the prefix of every frame. Each is written to its place: never two copies of all of them."""
    kept: dict[str, Tensor] = {}
    kind = None
    for rows in np.array_split(np.arange(len(data)), max(1, len(data) // at_once)):
        with torch.no_grad():
            part = policy.encode(data.batch(rows).observation)
        kind = type(part)
        for name in (f.name for f in fields(part)):
            value = getattr(part, name)
            if name not in kept:
                kept[name] = value.new_empty(len(data), *value.shape[1:])
            kept[name][rows[0] : rows[-1] + 1] = value
    assert kind is not None, "no frames"
    return kind(**kept)
