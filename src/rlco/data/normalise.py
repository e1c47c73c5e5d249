"""Statistics of states and actions, and the normaliser built on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from rlco.core.scene import ACTION_DIM, STATE_DIM
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
    """Maps [low, high] to [-1, 1] in each dimension, without clipping, so that ``undo(do(x)) == x``.

    A z-score is such a map too: from mean -+ std.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    centred: bool = False
    """Count from the centre instead of from ``low``: the same map, but a constant dimension far from 0 stays exact."""
    flipped: tuple[int, ...] = ()
    """Dimensions whose sign turns: there [low, high] maps to [1, -1]. A gripper that counts the other way."""

    def __post_init__(self) -> None:
        if any(not 0 <= i < len(self.low) for i in self.flipped):
            raise ValueError(f"Normaliser.flipped must name some of {len(self.low)} dimensions, got {self.flipped}.")
        # isfinite: a NaN is not above anything, and an infinite bound maps everything to 0
        is_range = (isfinite(a) and isfinite(b) and a < b for a, b in zip(self.low, self.high, strict=False))
        if len(self.low) != len(self.high) or not all(is_range):
            raise ValueError(
                f"Normaliser.low must be below high in each dimension, both finite, got {self.low} and {self.high}."
            )

    @staticmethod
    def of(statistics: Statistics, *, floor: Sequence[float]) -> Normaliser:
        """Take q01..q99, widened around its centre to at least ``floor``."""
        return Normaliser.quantile(statistics.q01, statistics.q99, floor=floor)

    @staticmethod
    def quantile(
        q01: Sequence[float], q99: Sequence[float], *, epsilon: float = 0.0, floor: Sequence[float] | None = None
    ) -> Normaliser:
        """Map q01..q99: (x - q01) / (q99 - q01 + epsilon) * 2 - 1.

        ``epsilon`` is 1e-6 in openpi; lerobot has none. ``floor`` is ours: the least
        range of each dimension; a narrower one is widened around its centre.
        """
        low, high = np.asarray(q01, dtype=np.float64), np.asarray(q99, dtype=np.float64) + epsilon
        if floor is not None:
            low, high = _widened(low, high, floor)
        return Normaliser(low=tuple(low.tolist()), high=tuple(high.tolist()))

    @staticmethod
    def mean_std(
        mean: Sequence[float], std: Sequence[float], *, epsilon: float, floor: Sequence[float] | None = None
    ) -> Normaliser:
        """Map to a z-score: (x - mean) / (std + epsilon). ``epsilon`` is 1e-6 in openpi, 1e-8 in lerobot."""
        centre, half = np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64) + epsilon
        low, high = centre - half, centre + half
        if floor is not None:
            low, high = _widened(low, high, floor)
        return Normaliser(low=tuple(low.tolist()), high=tuple(high.tolist()), centred=True)

    def do(self, value: Float[Tensor, "*b D"]) -> Float[Tensor, "*b D"]:
        """SI units to [-1, 1]."""
        origin, length = self._origin_and_length(value)
        scaled = (value - origin) * (2.0 / length)
        return self._turned(scaled if self.centred else scaled - 1.0)

    def undo(self, value: Float[Tensor, "*b D"]) -> Float[Tensor, "*b D"]:
        """[-1, 1] to SI units."""
        origin, length = self._origin_and_length(value)
        value = self._turned(value)
        return (value if self.centred else value + 1.0) * (length / 2.0) + origin

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        value = asdict(self)
        return value if self.flipped else {k: v for k, v in value.items() if k != "flipped"}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Normaliser:
        """Inverse of ``to_json``. Raises ``ValueError`` on a missing or unknown field."""
        unknown = value.keys() - {f.name for f in fields(Normaliser)}
        if unknown or not {"low", "high"} <= value.keys():
            raise ValueError(f"Not a normaliser: it needs low and high, got {', '.join(value) or 'nothing'}.")
        low, high = (tuple(float(x) for x in value[name]) for name in ("low", "high"))
        flipped = tuple(int(i) for i in value.get("flipped", ()))
        return Normaliser(low=low, high=high, centred=bool(value.get("centred", False)), flipped=flipped)

    def _turned(self, value: Float[Tensor, "*b D"]) -> Float[Tensor, "*b D"]:
        if not self.flipped:
            return value
        return value * value.new_tensor([-1.0 if i in self.flipped else 1.0 for i in range(len(self.low))])

    def _origin_and_length(self, like: Tensor) -> tuple[Tensor, Tensor]:
        # in double precision: the difference of two rounded bounds may be 0
        pairs = list(zip(self.low, self.high, strict=True))
        origin = [(low + high) / 2 if self.centred else low for low, high in pairs]
        return like.new_tensor(origin), like.new_tensor([high - low for low, high in pairs])


def _widened(
    low: Float[ndarray, " D"], high: Float[ndarray, " D"], floor: Sequence[float]
) -> tuple[Float[ndarray, " D"], Float[ndarray, " D"]]:
    least = np.asarray(floor, dtype=np.float64)
    if low.shape != least.shape:
        raise ValueError(f"The statistics have {low.size} dimensions, the normaliser needs {least.size}.")
    centre, half = (low + high) / 2, np.maximum(high - low, least) / 2
    return centre - half, centre + half


@dataclass(frozen=True, kw_only=True, slots=True)
class Codec:
    """How raw SI values become network values, and back. Part of a checkpoint."""

    state: Normaliser
    action: Normaliser
    state_clip: float | None = None
    """Normalised states are cut to [-state_clip, state_clip]. None, as published: not at all."""

    def __post_init__(self) -> None:
        for name, found, needed in (("state", self.state, STATE_DIM), ("action", self.action, ACTION_DIM)):
            if len(found.low) != needed:
                raise ValueError(f"Codec.{name} must have {needed} dimensions, got {len(found.low)}.")
        if self.state_clip is not None and self.state_clip <= 0:
            raise ValueError(f"Codec.state_clip must be above 0, got {self.state_clip}.")

    def read(self, state: Float[Tensor, "*b S"]) -> Float[Tensor, "*b S"]:
        """Return what the network sees of a raw state."""
        seen = self.state.do(state)
        return seen if self.state_clip is None else seen.clamp(-self.state_clip, self.state_clip)


def action_normaliser(statistics: DatasetStatistics) -> Normaliser:
    """Return the codec of 7-D actions."""
    return Normaliser.of(statistics.action, floor=ACTION_RANGE_FLOOR)


def state_normaliser(statistics: DatasetStatistics) -> Normaliser:
    """Return the normaliser of 8-D states."""
    return Normaliser.of(statistics.state, floor=STATE_RANGE_FLOOR)
