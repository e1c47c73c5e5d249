"""How policies explore in reinforcement learning: what each family reads, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlco.policies.openvla.exploration import TokenExploration
from rlco.policies.pi.config import ValueFrom
from rlco.policies.pi.exploration import FlowExploration


@dataclass(frozen=True, kw_only=True, slots=True)
class Exploration:
    """A policy takes what its family reads and leaves the rest."""

    flow: FlowExploration = field(default_factory=FlowExploration)
    """pi0 and pi0.5."""
    value_from: ValueFrom = "prefix"
    """pi0 and pi0.5: what the critic reads, the prefix's outputs, or the action expert's at t = 1 on zeros."""
    tokens: TokenExploration = field(default_factory=TokenExploration)
    """OpenVLA."""
