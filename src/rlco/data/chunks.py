"""Supervised samples of a dataset: an observation and the H actions that followed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64, UInt8
from numpy import ndarray

from rlco.core.policy import Batch, Observation
from rlco.data.reader import Dataset


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkDataset:
    """Observation at frame t with actions t .. t + horizon - 1, for each of the N frames.

    After an episode's end its last action repeats and ``is_pad`` is True.
    """

    frames: UInt8[ndarray, "N H W 3"]
    state: Float[ndarray, "N S"]
    action: Float[ndarray, "N A"]
    last: Int64[ndarray, " N"]
    """The last frame of the episode that frame n belongs to."""
    instruction: tuple[str, ...]
    """One per frame."""
    horizon: int

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ValueError(f"The action horizon must be 1 or more, got {self.horizon}.")

    @staticmethod
    def of(dataset: Dataset, *, horizon: int) -> ChunkDataset:
        """View ``dataset`` as chunks of ``horizon`` control steps."""
        lengths = [len(span) for span in dataset.episodes]
        return ChunkDataset(
            # a plain view: indexing a np.memmap builds a new memmap object each time
            frames=np.asarray(dataset.frames),
            state=dataset.state,
            action=dataset.action,
            last=np.repeat(np.array([span.stop - 1 for span in dataset.episodes], dtype=np.int64), lengths),
            instruction=tuple(span.task for span in dataset.episodes for _ in range(len(span))),
            horizon=horizon,
        )

    def __len__(self) -> int:
        return len(self.action)

    def batch(self, index: Int[ndarray, " B"]) -> Batch:
        """Return the samples of these frames."""
        action, is_pad = self.chunk(index)
        return Batch(
            observation=Observation(
                image=torch.from_numpy(self.frames[index]),
                state=torch.from_numpy(self.state[index]),
                instruction=tuple(self.instruction[i] for i in index),
            ),
            action=torch.from_numpy(action),
            is_pad=torch.from_numpy(is_pad),
        )

    def chunk(self, index: Int[ndarray, " B"]) -> tuple[Float[ndarray, "B H A"], Bool[ndarray, "B H"]]:
        """Return the actions that follow these frames, and which of them lie after the episode's end."""
        step_BH = index[:, None] + np.arange(self.horizon)
        last_B1 = self.last[index][:, None]
        return self.action[np.minimum(step_BH, last_B1)], step_BH > last_B1


def concatenate(parts: list[Batch]) -> Batch:
    """Stack batches along B."""
    return Batch(
        observation=Observation.concatenate([p.observation for p in parts]),
        action=torch.cat([p.action for p in parts]),
        is_pad=torch.cat([p.is_pad for p in parts]),
    )
