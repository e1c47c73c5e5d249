"""Learning rates: one pure function for every stage."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

Schedule = Literal["constant", "cosine"]


def _constant(progress: float, floor: float) -> float:
    del progress, floor
    return 1.0


def _cosine(progress: float, floor: float) -> float:
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


_SHAPES: dict[Schedule, Callable[[float, float], float]] = {"constant": _constant, "cosine": _cosine}


def learning_rate(
    step: int, *, peak: float, schedule: Schedule, progress: float, warmup_steps: int = 0, floor: float = 0.1
) -> float:
    """Return the rate of optimiser step ``step`` (0-based).

    It rises linearly to ``peak`` over ``warmup_steps``, times a shape over ``progress`` in [0, 1], the share of the
    stage that is done: ``constant`` is 1, ``cosine`` falls from 1 to ``floor``. ``progress`` is apart from ``step``
    because Stage II may leave an iteration's updates early: its shape follows the iterations.
    """
    warm = min(1.0, (step + 1) / max(warmup_steps, 1))
    return peak * warm * _SHAPES[schedule](progress, floor)


def require_schedule(owner: str, schedule: str, floor: float) -> None:
    """Raise ``ValueError`` unless the schedule is known and its floor is a share."""
    if schedule not in get_args(Schedule):
        raise ValueError(f"{owner}.lr_schedule must be constant or cosine, got {schedule!r}.")
    if not 0 <= floor <= 1:
        raise ValueError(f"{owner}.lr_floor must be in [0, 1], got {floor}.")
