"""The ``stats.json`` of a dataset: exact for numbers, from a stated sample of frames for images."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Num, UInt8
from numpy import ndarray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_FRAMES_AN_EPISODE = 8
"""How many frames of each episode the image figures are taken from."""

Summary = dict[str, Any]


def number_summary(values: Num[ndarray, "N D"]) -> Summary:
    """Return min, max, mean, std, count and exact quantiles of each column."""
    exact = values.astype(np.float64)
    rows = {"min": exact.min(0), "max": exact.max(0), "mean": exact.mean(0), "std": exact.std(0)}
    quantiles = np.quantile(exact, list(QUANTILES.values()), axis=0)
    rows |= dict(zip(QUANTILES, quantiles, strict=True))
    return {name: row.tolist() for name, row in rows.items()} | {"count": [len(exact)]}


def sampled(frames: UInt8[ndarray, "T H W 3"]) -> UInt8[ndarray, "n H W 3"]:
    """Return the evenly spread frames of one episode that image figures are taken from."""
    index = np.linspace(0, len(frames) - 1, min(len(frames), _FRAMES_AN_EPISODE)).round().astype(int)
    return frames[index]


class ImageSummary:
    """Counts of the 256 grey levels of each channel: every figure follows from them exactly."""

    def __init__(self) -> None:
        self._counts = np.zeros((3, 256), dtype=np.int64)
        self._frames = 0

    def add(self, frames: UInt8[ndarray, "n H W 3"]) -> None:
        """Count the pixels of these frames."""
        for channel in range(3):
            self._counts[channel] += np.bincount(frames[..., channel].ravel(), minlength=256)
        self._frames += len(frames)

    def merge(self, other: ImageSummary) -> None:
        """Count the pixels that ``other`` has counted."""
        self._counts += other._counts
        self._frames += other._frames

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"frames": self._frames, "counts": self._counts.tolist()}

    @staticmethod
    def from_json(value: dict[str, Any]) -> ImageSummary:
        """Inverse of ``to_json``."""
        summary = ImageSummary()
        summary._counts += np.array(value["counts"], dtype=np.int64).reshape(3, 256)
        summary._frames += int(value["frames"])
        return summary

    def result(self) -> Summary:
        """Return the figures with pixels in [0, 1], each (3, 1, 1); count is the number of frames."""
        level = np.arange(256) / 255.0
        share = self._counts / self._counts.sum(axis=1, keepdims=True)
        mean = share @ level
        std = np.sqrt(np.maximum(share @ level**2 - mean**2, 0.0))
        seen = [np.flatnonzero(row) for row in self._counts]
        rows = {"min": level[[s[0] for s in seen]], "max": level[[s[-1] for s in seen]], "mean": mean, "std": std}
        below = np.cumsum(share, axis=1)
        for name, q in QUANTILES.items():
            # the smallest level with at least this share at or below it; the rounding error of a sum stays below 1e-12
            rows[name] = level[(below >= q - 1e-12).argmax(axis=1)]
        return {name: [[[v]] for v in row.tolist()] for name, row in rows.items()} | {"count": [self._frames]}


def image_summary(frames: UInt8[ndarray, "n H W 3"]) -> Summary:
    """Return the figures of these frames alone."""
    summary = ImageSummary()
    summary.add(frames)
    return summary.result()
