"""Draw training samples from several datasets with given probabilities (RL-Co, eq. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from numpy import ndarray

from rlco.core.policy import Batch
from rlco.core.rng import numpy_generator
from rlco.data.chunks import gather, without_pictures
from rlco.data.reader import Dataset


class Mixture:
    """An endless source of batches: each sample comes from dataset i with probability ``weights[i]``, then from a
    uniformly drawn frame of it.

    The expected loss is then sum_i weights[i] * L(D_i). Owns its generator, so that ``state_dict`` resumes exactly.
    """

    def __init__(
        self, datasets: Sequence[Dataset], weights: Sequence[float], *, horizon: int, batch_size: int, seed: int
    ) -> None:
        """Weights are probabilities: each in [0, 1], together 1. ``batch_size`` counts samples."""
        if len(datasets) != len(weights) or not datasets:
            raise ValueError(
                f"A mixture needs one weight a dataset, got {len(datasets)} datasets and {len(weights)} weights."
            )
        if any(not 0 <= w <= 1 for w in weights) or abs(sum(weights) - 1) > 1e-9:
            raise ValueError(f"Mixture weights must be in [0, 1] and add up to 1, got {list(weights)}.")
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, got {batch_size}.")
        require_alike(datasets)
        # a dataset that is never drawn is never decoded
        self._frames = [np.asarray(d.frames) if w > 0 else None for d, w in zip(datasets, weights, strict=True)]
        self._numbers = without_pictures(datasets, horizon=horizon)
        self._edges: Float[ndarray, " n"] = np.cumsum(weights)[:-1]
        self._sizes = np.array([len(d) for d in datasets])
        self._firsts = np.cumsum(self._sizes) - self._sizes
        self._batch_size = batch_size
        self._generator = numpy_generator(seed, "mixture")
        self._drawn = np.zeros(len(datasets), dtype=np.int64)

    @staticmethod
    def of_sim_and_real(
        sim: Dataset, real: Dataset, *, alpha: float, horizon: int, batch_size: int, seed: int
    ) -> Mixture:
        """Return the mixture of Stage I: a sample is simulated with probability ``alpha``."""
        require_alpha(alpha)
        return Mixture([sim, real], [alpha, 1 - alpha], horizon=horizon, batch_size=batch_size, seed=seed)

    def next_batch(self) -> Batch:
        """Draw the next batch; samples are grouped by dataset, in the order of ``datasets``."""
        source_B, frame_B = self.draw()
        order_B = np.argsort(source_B, kind="stable")
        source_B, frame_B = source_B[order_B], frame_B[order_B]
        edges = np.searchsorted(source_B, np.arange(len(self._frames) + 1))
        pictures = [
            (frames, frame_B[begin:end])
            for frames, begin, end in zip(self._frames, edges[:-1], edges[1:], strict=True)
            if frames is not None and end > begin
        ]
        return gather(self._numbers, frame_B + self._firsts[source_B], pictures)

    def draw(self) -> tuple[Int64[ndarray, " B"], Int64[ndarray, " B"]]:
        """Draw which dataset and which of its frames each sample of the next batch comes from."""
        u_2B = self._generator.random((2, self._batch_size))
        source_B = np.searchsorted(self._edges, u_2B[0], side="right")
        frame_B = (u_2B[1] * self._sizes[source_B]).astype(np.int64)
        self._drawn += np.bincount(source_B, minlength=len(self._drawn))
        return source_B, frame_B

    @property
    def realised_fraction(self) -> tuple[float, ...]:
        """The share of each dataset among all samples drawn so far; zeros before the first."""
        total = max(int(self._drawn.sum()), 1)
        return tuple((self._drawn / total).tolist())

    def state_dict(self) -> dict[str, Any]:
        """Return what ``load_state_dict`` needs to continue with the very next sample; JSON-serialisable."""
        return {"generator": self._generator.bit_generator.state, "drawn": self._drawn.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self._generator.bit_generator.state = state["generator"]
        self._drawn = np.array(state["drawn"], dtype=np.int64)


def require_alike(datasets: Sequence[Dataset]) -> None:
    """Raise ``ValueError`` unless all have one control rate and one size of pictures."""
    first = datasets[0]
    for other in datasets[1:]:
        if other.fps != first.fps:
            raise ValueError(
                f"A mixture needs one control rate: '{first.folder}' has {first.fps} Hz, '{other.folder}' {other.fps} "
                "Hz. Resample one with rlco data convert --control-hz."
            )
        sizes = [(d.tables.height, d.tables.width) for d in (first, other)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"A mixture needs one size of pictures: '{first.folder}' has {sizes[0][0]} x {sizes[0][1]}, "
                f"'{other.folder}' {sizes[1][0]} x {sizes[1][1]}. Resize one with rlco data convert --image-size."
            )


def require_alpha(alpha: float) -> None:
    """Raise ``ValueError`` unless ``alpha`` is a probability."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}.")
