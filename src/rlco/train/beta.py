"""The weight of the real term in Stage II: constant, on a schedule, or whatever keeps the real loss where it was.

The paper's beta (eq. 8) is a constant that somebody must find for each task. The constraint says what it is for:
minimise L_RL subject to L_SFT(real) <= (1 + tolerance) * L_SFT(real) of the policy that Stage I made. Its Lagrangian
is eq. 8, and beta its multiplier, found by dual ascent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

BetaMode = Literal["constant", "linear", "cosine", "constraint"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BetaControl:
    """How beta moves from its first value, once an iteration."""

    beta_mode: BetaMode = "constant"
    """``linear`` or ``cosine`` from beta to beta_end over the iterations; ``constraint``: see ``sft_tolerance``."""
    beta_end: float = 0.1
    """Where the two schedules arrive in the last iteration."""
    sft_tolerance: float = 0.1
    """The constraint lets the real SFT loss grow by this share of what it was when Stage II began."""
    beta_rate: float = 1.0
    """Dual ascent: while the loss is 10 % above its limit, log(beta) grows by a tenth of this an iteration."""
    beta_range: tuple[float, float] = (0.01, 100.0)
    """Least and largest beta of the constraint."""

    def __post_init__(self) -> None:
        if self.beta_mode not in get_args(BetaMode):
            known = ", ".join(get_args(BetaMode))
            raise ValueError(f"BetaControl.beta_mode must be one of {known}, got {self.beta_mode!r}.")
        if self.beta_end < 0:
            raise ValueError(f"BetaControl.beta_end must be 0 or more, got {self.beta_end}.")
        if self.sft_tolerance < 0:
            raise ValueError(f"BetaControl.sft_tolerance must be 0 or more, got {self.sft_tolerance}.")
        if self.beta_rate <= 0:
            raise ValueError(f"BetaControl.beta_rate must be above 0, got {self.beta_rate}.")
        if not 0 < self.beta_range[0] < self.beta_range[1]:
            raise ValueError(f"BetaControl.beta_range must be 0 < least < largest, got {self.beta_range}.")

    def require(self, beta: float) -> None:
        """Raise ``ValueError`` where ``beta`` cannot be the first value: 0 is plain RL, and no factor moves it."""
        if beta < 0 or (beta == 0 and self.beta_mode != "constant"):
            range_ = "0 or more" if self.beta_mode == "constant" else f"above 0 with beta_mode {self.beta_mode!r}"
            raise ValueError(f"RLConfig.beta must be {range_}, got {beta}.")
        low, high = self.beta_range
        if self.beta_mode == "constraint" and not low <= beta <= high:
            raise ValueError(f"RLConfig.beta must be in beta_range [{low}, {high}], got {beta}.")


class Beta:
    """The weight of the coming iteration, ``value``. ``state_dict`` continues exactly."""

    def __init__(self, start: float, control: BetaControl, *, iterations: int) -> None:
        """``iterations``: those in which the policy learns, which are those that ``observe`` hears of."""
        control.require(start)
        self.start, self.control, self.iterations = start, control, iterations
        self.value = start
        self.limit: float | None = None
        self._seen = 0

    def begin(self, real_loss: Callable[[], float]) -> None:
        """Fix the constraint's limit by ``real_loss``, L_SFT(real) of the starting policy; once, not after a resume."""
        if self.control.beta_mode == "constraint" and self.limit is None:
            self.limit = (1 + self.control.sft_tolerance) * real_loss()

    def observe(self, real_loss: float | None) -> dict[str, float]:
        """Move on after an iteration of this mean real loss (None: it made no update); return its figures."""
        figures = {"rl/beta": self.value}
        if self.limit is not None and real_loss is not None:
            figures |= {"rl/sft_limit": self.limit, "rl/sft_violation": real_loss / self.limit - 1}
        self._seen += 1
        self.value = _NEXT[self.control.beta_mode](self, real_loss)
        return figures

    def state_dict(self) -> dict[str, Any]:
        """Return what the next value depends on."""
        return {"value": self.value, "limit": self.limit, "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``."""
        self.value, self.limit, self._seen = state["value"], state["limit"], state["seen"]

    @property
    def progress(self) -> float:
        """Return the share of the schedule that the coming iteration is at: 0 in the first, 1 in the last."""
        return min(1.0, self._seen / max(self.iterations - 1, 1))


def ascended(beta: float, *, real_loss: float, limit: float, rate: float, bounds: tuple[float, float]) -> float:
    """Return beta * exp(rate * (L / limit - 1)), within ``bounds``: one step of multiplicative dual ascent."""
    log_beta = math.log(beta) + rate * (real_loss / limit - 1)
    # clipped as a logarithm: exp() of a loss that has exploded overflows
    return math.exp(min(max(log_beta, math.log(bounds[0])), math.log(bounds[1])))


def _constant(beta: Beta, real_loss: float | None) -> float:
    del real_loss
    return beta.start


def _linear(beta: Beta, real_loss: float | None) -> float:
    del real_loss
    return beta.start + (beta.control.beta_end - beta.start) * beta.progress


def _cosine(beta: Beta, real_loss: float | None) -> float:
    del real_loss
    end = beta.control.beta_end
    return end + (beta.start - end) * 0.5 * (1 + math.cos(math.pi * beta.progress))


def _constraint(beta: Beta, real_loss: float | None) -> float:
    assert beta.limit is not None, "begin() comes before the first observe()"
    if real_loss is None:
        return beta.value
    control = beta.control
    return ascended(
        beta.value, real_loss=real_loss, limit=beta.limit, rate=control.beta_rate, bounds=control.beta_range
    )


_NEXT: dict[BetaMode, Callable[[Beta, float | None], float]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "constraint": _constraint,
}
