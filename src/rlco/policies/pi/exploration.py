"""How a flow policy explores in reinforcement learning. Nothing here builds anything."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from rlco.algos.flow import TRUST_REGIONS, Reduction, TrustRegion

Method = Literal["flow-noise", "flow-sde", "reinflow"]
Steps = Literal["one", "all"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Published:
    """What a method comes with."""

    noise_std: tuple[float, float] = (0.03, 0.2)
    noise_std_start: float = 0.12
    log_prob: Reduction = "sum"
    mean_bound: float = 0.0


_METHODS: dict[Method, _Published] = {
    "flow-noise": _Published(),
    "flow-sde": _Published(),
    # ReinFlow cuts intermediate actions at 1; the initial noise is beyond that in one entry of three
    "reinflow": _Published(noise_std=(0.08, 0.14), noise_std_start=0.11, log_prob="mean", mean_bound=3.0),
}
_LEARNED = ("noise_std", "noise_std_start", "mean_bound", "log_prob")
_READ: dict[Method, tuple[str, ...]] = {
    "flow-noise": _LEARNED,
    "flow-sde": ("noise_level", "stochastic_steps", "log_prob"),
    "reinflow": _LEARNED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowExploration:
    """Which steps from noise to actions are Gaussian, how wide they are, and how they are scored.

    None stands for the method's own value; ``resolved`` fills it in. See ``docs/flow_rl.md``.
    """

    method: Method = "flow-noise"
    """flow-noise, reinflow: a learned deviation at every step; flow-sde: the SDE with the flow's own marginals."""
    noise_std: tuple[float, float] | None = None
    """Least and largest learned standard deviation, in normalised action units (flow-noise, reinflow)."""
    noise_std_start: float | None = None
    """Learned standard deviation before the first update, in normalised action units."""
    noise_level: float = 0.5
    """a of flow-sde: a step's deviation is a sqrt(t / (1 - t)) sqrt(1 / K)."""
    stochastic_steps: Steps = "one"
    """flow-sde: one step, drawn for every sample, or all K."""
    mean_bound: float | None = None
    """A step's mean is cut to +- this, in normalised action units; 0: it is not (flow-noise, reinflow)."""
    log_prob: Reduction | None = None
    """How the log-densities of a chain's steps and entries make one number. Clip ranges depend on it."""

    def __post_init__(self) -> None:
        for name, known in (("method", _METHODS), ("stochastic_steps", get_args(Steps)), ("log_prob", TRUST_REGIONS)):
            value = getattr(self, name)
            if value not in known and (name, value) != ("log_prob", None):
                raise ValueError(f"FlowExploration.{name} must be one of {', '.join(known)}, got {value!r}.")
        low, high = self.std_bounds
        if not 0 < low < high:
            raise ValueError(f"FlowExploration.noise_std must be two rising numbers above 0, got {low} and {high}.")
        if not low < self.std_start < high:
            raise ValueError(f"FlowExploration.noise_std_start must be between {low} and {high}, got {self.std_start}.")
        if self.noise_level <= 0:
            raise ValueError(f"FlowExploration.noise_level must be above 0, got {self.noise_level}.")
        if self.bound < 0:
            raise ValueError(f"FlowExploration.mean_bound must be 0 or more, got {self.bound}.")

    @property
    def std_bounds(self) -> tuple[float, float]:
        """Return the least and the largest learned standard deviation."""
        return self._own.noise_std if self.noise_std is None else self.noise_std

    @property
    def std_start(self) -> float:
        """Return the learned standard deviation before the first update."""
        return self._own.noise_std_start if self.noise_std_start is None else self.noise_std_start

    @property
    def bound(self) -> float:
        """Return where a step's mean is cut; 0: nowhere."""
        return self._own.mean_bound if self.mean_bound is None else self.mean_bound

    @property
    def reduction(self) -> Reduction:
        """Return how a chain's log-densities make one number."""
        return self._own.log_prob if self.log_prob is None else self.log_prob

    @property
    def trust_region(self) -> TrustRegion:
        """Return the default clip range and KL stop of this log-probability."""
        return TRUST_REGIONS[self.reduction]

    @property
    def draws_one_step(self) -> bool:
        """Return whether one step of each chain is Gaussian and the others follow the flow."""
        return self.method == "flow-sde" and self.stochastic_steps == "one"

    @property
    def learns_noise(self) -> bool:
        """Return whether the standard deviation is learned; the entropy is then worth a bonus."""
        return self.method != "flow-sde"

    def resolved(self) -> FlowExploration:
        """Return the same with every value given: it means the same whatever the defaults become."""
        return replace(
            self,
            noise_std=self.std_bounds,
            noise_std_start=self.std_start,
            mean_bound=self.bound,
            log_prob=self.reduction,
        )

    def require_read(self) -> None:
        """Raise ``ValueError`` where an option is given that the method does not read."""
        usual, read = FlowExploration(method=self.method).resolved(), _READ[self.method]
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name not in ("method", *read) and value not in (None, getattr(usual, f.name)):
                options = ", ".join(read)
                raise ValueError(f"{f.name} is {value}, but {self.method} does not read it: it reads {options}.")

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> FlowExploration:
        """Inverse of ``dataclasses.asdict``. Raises ``ValueError`` on an unknown field."""
        unknown = sorted(value.keys() - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"Not an exploration: it has unknown fields {', '.join(unknown)}.")
        bounds = value.get("noise_std")
        return cls(**{**value, "noise_std": None if bounds is None else tuple(bounds)})

    @property
    def _own(self) -> _Published:
        return _METHODS[self.method]
