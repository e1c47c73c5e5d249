"""The supervised term of Stage II: L_SFT on the real demonstrations (RL-Co, eq. 8)."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rlco.core.rng import numpy_generator
from rlco.data.augment import ColourJitter
from rlco.data.chunks import ChunkDataset
from rlco.policies.pi.network import Prefix
from rlco.policies.pi.policy import PiPolicy


class RealTerm:
    """Draws real samples uniformly and gives their loss under a policy.

    Where the policy's prefix is frozen, the prefixes of all real frames are encoded once and kept: the term then costs
    the expert alone. ``jitter`` needs the image and is used only where the prefix is trained.
    """

    def __init__(
        self, policy: PiPolicy, real: ChunkDataset, *, batch_size: int, jitter: ColourJitter | None, seed: int
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"The real term's batch_size must be 1 or more, got {batch_size}.")
        self.policy, self.real, self.batch_size, self.jitter = policy, real, batch_size, jitter
        self.generator = numpy_generator(seed, "real-term")
        self._prefix = encode_all(policy, real) if policy.trainable == "expert" else None

    def loss(self, *, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the mean loss of a fresh batch."""
        index = self.generator.integers(0, len(self.real), self.batch_size)
        batch = self.real.batch(index)
        if self._prefix is not None:
            return self.policy.loss(batch, generator=generator, prefix=rows_of(self._prefix, index)).mean()
        if self.jitter is not None:
            image = self.jitter(batch.observation.image, generator=generator)
            batch = replace(batch, observation=replace(batch.observation, image=image))
        return self.policy.loss(batch, generator=generator).mean()


def encode_all(policy: PiPolicy, data: ChunkDataset, *, batch_size: int = 256) -> Prefix:
    """Return the prefix of every frame."""
    with torch.no_grad():
        parts = [
            policy.encode(data.batch(index).observation)
            for index in np.array_split(np.arange(len(data)), max(1, len(data) // batch_size))
        ]
    return Prefix(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Prefix)})


def rows_of(prefix: Prefix, index: np.ndarray) -> Prefix:
    """Return some rows of a kept prefix."""
    rows = torch.from_numpy(index)
    return Prefix(**{f.name: getattr(prefix, f.name)[rows] for f in fields(Prefix)})
