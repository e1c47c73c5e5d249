"""Statistics of states and actions, and the normaliser built on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from rlco.data.reader import Dataset

ACTION_RANGE_FLOOR = (0.01, 0.01, 0.01, 0.02, 0.02, 0.02, 2.0)
"""Smallest q99 - q01 of an action dimension [m, m, m, rad, rad, rad, gripper sign]: a constant one must not explode."""
STATE_RANGE_FLOOR = (0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 0.02, 2.0)
"""Smallest q99 - q01 of a state dimension [m x 3, rad x 3, m, gripper sign]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """Exact figures of N vectors of D numbers, one tuple of D floats each."""

    q01: tuple[float, ...]
    q99: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]

    @staticmethod
    def of(values: Float[ndarray, "N D"]) -> Statistics:
        """Compute them over the first axis."""
        if not len(values):
            raise ValueError("Statistics of no data: at least one frame is needed.")
        exact = values.astype(np.float64)
        low, high = np.quantile(exact, [0.01, 0.99], axis=0)
        columns = (low, high, exact.mean(0), exact.std(0), exact.min(0), exact.max(0))
        return Statistics(**{f.name: tuple(c.tolist()) for f, c in zip(fields(Statistics), columns, strict=True)})

    def to_json(self) -> dict[str, list[float]]:
        """Return plain JSON values."""
        return {name: list(values) for name, values in asdict(self).items()}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Statistics:
        """Inverse of ``to_json``. Raises ``ValueError`` on a missing or unknown field."""
        try:
            return Statistics(**{name: tuple(float(x) for x in values) for name, values in value.items()})
        except TypeError as error:
            raise ValueError(f"Not statistics: {error}.") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetStatistics:
    """What a policy stores to read states and write actions in SI units."""

    state: Statistics
    action: Statistics

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"state": self.state.to_json(), "action": self.action.to_json()}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> DatasetStatistics:
        """Inverse of ``to_json``."""
        missing = {"state", "action"} - value.keys()
        if missing:
            raise ValueError(f"Not dataset statistics: missing {', '.join(sorted(missing))}.")
        return DatasetStatistics(
            state=Statistics.from_json(value["state"]), action=Statistics.from_json(value["action"])
        )


def statistics_of(datasets: Sequence[Dataset]) -> DatasetStatistics:
    """Return exact statistics over every frame of every dataset, pooled."""
    return DatasetStatistics(
        state=Statistics.of(np.concatenate([d.state for d in datasets])),
        action=Statistics.of(np.concatenate([d.action for d in datasets])),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Normaliser:
    """Maps [low, high] to [-1, 1] in each dimension, without clipping, so that ``undo(do(x)) == x``."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or any(a >= b for a, b in zip(self.low, self.high, strict=False)):
            raise ValueError(f"Normaliser.low must be below high in each dimension, got {self.low} and {self.high}.")

    @staticmethod
    def of(statistics: Statistics, *, floor: Sequence[float]) -> Normaliser:
        """Take q01..q99, widened around its centre to at least ``floor``."""
        low, high, least = (np.asarray(v, dtype=np.float64) for v in (statistics.q01, statistics.q99, floor))
        if low.shape != least.shape:
            raise ValueError(f"The statistics have {low.size} dimensions, the normaliser needs {least.size}.")
        centre, half = (low + high) / 2, np.maximum(high - low, least) / 2
        return Normaliser(low=tuple((centre - half).tolist()), high=tuple((centre + half).tolist()))

    def do(self, value: Float[Tensor, "*b D"]) -> Float[Tensor, "*b D"]:
        """SI units to [-1, 1]."""
        low, high = self._bounds(value)
        return (value - low) * (2.0 / (high - low)) - 1.0

    def undo(self, value: Float[Tensor, "*b D"]) -> Float[Tensor, "*b D"]:
        """[-1, 1] to SI units."""
        low, high = self._bounds(value)
        return (value + 1.0) * ((high - low) / 2.0) + low

    def _bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return like.new_tensor(self.low), like.new_tensor(self.high)


@dataclass(frozen=True, kw_only=True, slots=True)
class Codec:
    """How raw SI values become network values, and back. Part of a checkpoint."""

    state: Normaliser
    action: Normaliser


def action_normaliser(statistics: DatasetStatistics) -> Normaliser:
    """Return the codec of 7-D actions."""
    return Normaliser.of(statistics.action, floor=ACTION_RANGE_FLOOR)


def state_normaliser(statistics: DatasetStatistics) -> Normaliser:
    """Return the normaliser of 8-D states."""
    return Normaliser.of(statistics.state, floor=STATE_RANGE_FLOOR)
