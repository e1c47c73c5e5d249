"""How policies explore in reinforcement learning: what each family reads, side by side."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Any

from rlco.policies.openvla.exploration import TokenExploration
from rlco.policies.pi.config import ValueFrom
from rlco.policies.pi.exploration import FlowExploration


@dataclass(frozen=True, kw_only=True, slots=True)
class Exploration:
    """A policy takes what its family reads."""

    flow: FlowExploration = field(default_factory=FlowExploration)
    """pi0 and pi0.5."""
    value_from: ValueFrom = "prefix"
    """pi0 and pi0.5: what the critic reads, the prefix's outputs, or the action expert's at t = 1 on zeros."""
    tokens: TokenExploration = field(default_factory=TokenExploration)
    """OpenVLA."""

    def require_read(self, parts: Collection[str], *, family: str) -> None:
        """Raise ``ValueError`` where an option is given that has no effect on a policy that reads only ``parts``."""
        said = {name: _given(self, name) for name in (f.name for f in fields(self))}
        read = [option for part in parts for option in _options(self, part)]
        for part, options in said.items():
            if part not in parts and options:
                name, value = next(iter(options.items()))
                raise ValueError(
                    f"{name} is {value}, but a policy of {family} does not read it: it reads {', '.join(read)}."
                )
        if "flow" in parts:
            self.flow.require_read()

    def require_entropy_matters(self, weight: float, parts: Collection[str]) -> None:
        """Raise ``ValueError`` where a ``weight`` of the entropy would have no effect on what reads ``parts``."""
        if weight and "flow" in parts and not self.flow.learns_noise:
            raise ValueError(f"entropy must be 0 with {self.flow.method}, whose noise is fixed, got {weight}.")

    def require_critic_is_read(self) -> None:
        """Raise ``ValueError`` where an option of the critic is given; there is none in GRPO."""
        usual = Exploration()
        for own, default, name in (
            (self.value_from, usual.value_from, "value_from"),
            (self.tokens.value_token, usual.tokens.value_token, "value_token"),
            (self.tokens.value_gradient, usual.tokens.value_gradient, "value_gradient"),
        ):
            if own != default:
                raise ValueError(f"{name} must be {default} with grpo, which has no critic, got {own}.")


def _options(exploration: Exploration, part: str) -> list[str]:
    value = getattr(exploration, part)
    return [part] if isinstance(value, str) else [f.name for f in fields(value)]


def _given(exploration: Exploration, part: str) -> dict[str, Any]:
    """Return the options of a part that are not at their defaults."""
    value, usual = getattr(exploration, part), getattr(Exploration(), part)
    if isinstance(value, str):
        return {} if value == usual else {part: value}
    pairs = {f.name: (getattr(value, f.name), getattr(usual, f.name)) for f in fields(value)}
    return {name: own for name, (own, default) in pairs.items() if own != default}
