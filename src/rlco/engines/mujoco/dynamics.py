"""How a compiled scene moves. The defaults are the digital twin's."""

from __future__ import annotations

from dataclasses import dataclass, fields

MAX_LATENCY_S = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Dynamics:
    """Everything that changes motion and no pixel."""

    friction_scale: float = 1.0
    """Multiplies the objects' sliding friction."""
    mass_scale: float = 1.0
    """Multiplies the objects' mass."""
    stiffness_scale: float = 1.0
    """Multiplies the arm's position gain."""
    damping_scale: float = 1.0
    """Multiplies the arm's velocity gain."""
    latency_s: float = 0.0
    """A new command starts this late; the old one goes on until then."""
    gripper_speed_scale: float = 1.0
    drawer_damping_scale: float = 1.0
    """Multiplies the viscous friction of a fixture's sliding part."""
    drawer_friction_scale: float = 1.0
    """Multiplies its dry friction."""
    timestep_s: float = 0.005
    """Length of a physics tick."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.latency_s <= MAX_LATENCY_S:
            raise ValueError(f"Dynamics.latency_s must be in [0, {MAX_LATENCY_S}], got {self.latency_s}.")
        for name in (f.name for f in fields(self) if f.name.endswith("_scale")):
            if getattr(self, name) <= 0.0:
                raise ValueError(f"Dynamics.{name} must be positive, got {getattr(self, name)}.")
