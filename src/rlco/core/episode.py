"""A recorded episode, and why one ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from jaxtyping import Float, UInt8
from numpy import ndarray

from rlco.core.scene import InitialState


class StopReason(StrEnum):
    """Why an episode ended."""

    SUCCESS = "success"
    TIME_LIMIT = "time_limit"
    LOST = "lost"
    """The worker process died: neither a success nor a failure."""
    STOPPED = "stopped"
    """The operator stopped it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """T control steps. ``image[t]`` and ``state[t]`` were seen before ``action[t]`` was sent."""

    image: UInt8[ndarray, "T H W 3"]
    state: Float[ndarray, "T 8"]
    action: Float[ndarray, "T 7"]
    instruction: str
    fps: int
    stop_reason: StopReason
    initial_state: InitialState | None = None
    """Known for simulation; for real data a sidecar of the recorder gives it, or nothing does."""

    def __len__(self) -> int:
        return len(self.action)
