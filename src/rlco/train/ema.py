"""An exponential moving average of the weights, which is what a stage keeps when it is on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """shadow <- decay * shadow + (1 - decay) * weight after every step, in float32.

    ``weights`` are what is averaged: the parameters, or the float32 copies of 16-bit ones (``MasterAdamW.weights``),
    whose small steps 16 bits do not show. ``parameters`` are what ``averaged`` and ``adopt`` write to.
    ``warm_up`` takes min(decay, (1 + t) / (10 + t)) in step t, so that a short stage is not mostly its first weights.
    """

    def __init__(
        self, parameters: Sequence[Tensor], weights: Sequence[Tensor], *, decay: float, warm_up: bool = True
    ) -> None:
        require_decay("Ema.decay", decay)
        self.parameters, self.weights = list(parameters), list(weights)
        self.decay, self.warm_up = decay, warm_up
        self.steps = 0
        self._shadow = [w.detach().clone().float() for w in self.weights]

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights into the average."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.warm_up else self.decay
        now = [w.detach().float() for w in self.weights]
        get_ema_multi_avg_fn(decay)(self._shadow, now, self.steps)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the average into the parameters, and the weights back afterwards."""
        kept = [p.detach().clone() for p in self.parameters]
        self.adopt()
        try:
            yield
        finally:
            self._write(kept)

    def adopt(self) -> None:
        """Put the average into the parameters for good: training ends here."""
        self._write(self._shadow)

    def state_dict(self) -> dict[str, Any]:
        """Return what ``load_state_dict`` needs to continue exactly."""
        return {"steps": self.steps, "shadow": self._shadow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``."""
        self.steps = state["steps"]
        for own, saved in zip(self._shadow, state["shadow"], strict=True):
            own.copy_(saved)

    @torch.no_grad()
    def _write(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)


def require_decay(name: str, decay: float) -> None:
    """Raise ``ValueError`` unless ``decay`` can be one; 1 would never learn."""
    if not 0 < decay < 1:
        raise ValueError(f"{name} must be in (0, 1), got {decay}.")
