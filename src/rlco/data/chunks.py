"""Supervised samples of a dataset: an observation and the H actions that followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

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
        # a plain view: indexing a np.memmap builds a new memmap object each time
        return replace(without_pictures([dataset], horizon=horizon), frames=np.asarray(dataset.frames))

    def __len__(self) -> int:
        return len(self.action)

    def batch(self, index: Int[ndarray, " B"]) -> Batch:
        """Return the samples of these frames."""
        return gather(self, index, [(self.frames, index)])

    def chunk(self, index: Int[ndarray, " B"]) -> tuple[Float[ndarray, "B H A"], Bool[ndarray, "B H"]]:
        """Return the actions that follow these frames, and which of them lie after the episode's end."""
        left_B1 = (self.last[index] - index)[:, None]
        step_H = np.arange(self.horizon)
        row_BH = index[:, None] + np.minimum(step_H, left_B1)
        return self.action.take(row_BH, axis=0), step_H > left_B1


def without_pictures(datasets: Sequence[Dataset], *, horizon: int) -> ChunkDataset:
    """Return the numbers of several datasets, one after the other, with pictures of no size: nothing is decoded."""
    firsts = accumulate((len(dataset) for dataset in datasets[:-1]), initial=0)
    spans = [(span, first) for dataset, first in zip(datasets, firsts, strict=True) for span in dataset.episodes]
    lengths = [len(span) for span, _ in spans]
    return ChunkDataset(
        frames=np.empty((sum(lengths), 0, 0, 3), dtype=np.uint8),
        state=_joined([dataset.state for dataset in datasets]),
        action=_joined([dataset.action for dataset in datasets]),
        last=np.repeat(np.array([first + span.stop - 1 for span, first in spans], dtype=np.int64), lengths),
        instruction=tuple(span.task for span, _ in spans for _ in range(len(span))),
        horizon=horizon,
    )


def gather(
    numbers: ChunkDataset,
    row: Int[ndarray, " B"],
    pictures: Sequence[tuple[UInt8[ndarray, "_ H W 3"], Int[ndarray, " _"]]],
) -> Batch:
    """Return the samples in these rows of ``numbers``; their pictures come from several sources, one after the other.

    A picture is copied once, from its file's memory map to its place in the batch.
    """
    image = np.empty((len(row), *pictures[0][0].shape[1:]), dtype=np.uint8)
    begin = 0
    for frames, index in pictures:
        if not 0 <= index.min() <= index.max() < len(frames):
            raise IndexError(f"Frames {index.min()} to {index.max()} of a dataset of {len(frames)}.")
        # "raise", the default, would copy twice; the check is made above
        np.take(frames, index, axis=0, out=image[begin : begin + len(index)], mode="clip")
        begin += len(index)
    action, is_pad = numbers.chunk(row)
    return Batch(
        observation=Observation(
            image=torch.from_numpy(image),
            state=torch.from_numpy(numbers.state[row]),
            instruction=tuple([numbers.instruction[i] for i in row.tolist()]),
        ),
        action=torch.from_numpy(action),
        is_pad=torch.from_numpy(is_pad),
    )


def _joined(arrays: list[ndarray]) -> ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
