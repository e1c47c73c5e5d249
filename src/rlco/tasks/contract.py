"""What every task tells the worlds, the operators, the generator and the evaluation; no engine in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from rlco.core.scene import Facts, InitialState, SceneSpec

CLOSE, OPEN = -1.0, 1.0
"""Gripper commands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A part of a task in which the robot moves relative to one object."""

    name: str
    free_space: bool
    """Nothing is touched: a generated demonstration may go straight through."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waypoint:
    """A TCP goal of the scripted expert, base frame; orientation is the home pose's."""

    position_m: tuple[float, float, float]
    gripper: float
    stage: int
    """Index into the task's ``stages``."""
    tolerance_m: float = 0.01
    """Near enough to go on to the next one."""


@runtime_checkable
class Task(Protocol):
    """See the module's docstring. Frozen and picklable: it travels to worker processes."""

    @property
    def name(self) -> str:
        """What people type, for example ``push-cube``."""
        ...

    @property
    def scene(self) -> SceneSpec:
        """Objects, markers and camera."""
        ...

    @property
    def control_hz(self) -> float:
        """Control steps per second."""
        ...

    @property
    def max_steps(self) -> int:
        """Control steps after which an episode is cut."""
        ...

    @property
    def hold_steps(self) -> int:
        """Control steps in a row for which ``succeeded`` must hold before the episode counts as a success."""
        ...

    @property
    def needs_touching(self) -> bool:
        """Whether success or reward reads ``Facts.touching``, which costs a contact search."""
        ...

    @property
    def stages(self) -> tuple[Stage, ...]:
        """In the order in which they happen."""
        ...

    def sample_initial_state(
        self, rng: np.random.Generator, *, colours: Sequence[str] | None = None, name: str | None = None
    ) -> InitialState:
        """Draw a start, of the given colours only."""
        ...

    def fixed_states(
        self, count: int, *, seed: int, prefix: str, colours: Sequence[str] | None = None
    ) -> list[InitialState]:
        """Return a balanced list of named starts; the same arguments give the same list for ever."""
        ...

    def check(self, state: InitialState) -> None:
        """Raise ``ValueError`` if ``state`` is not a start of this task."""
        ...

    def succeeded(self, facts: Facts) -> Bool[ndarray, " E"]:
        """Return where the goal is met at this moment."""
        ...

    def dense_reward(self, facts: Facts, success: Bool[ndarray, " E"]) -> Float[ndarray, " E"]:
        """Return the shaped reward, at most 1; ``success`` says where the task is done, hold time included."""
        ...

    def stage(self, facts: Facts) -> Int[ndarray, " E"]:
        """Return the index of the stage each environment is in."""
        ...

    def reference_object(self, state: InitialState, stage: int) -> str:
        """Return the object relative to which the robot moves in that stage."""
        ...

    def reference_pose(self, object_pose: Float[ndarray, " 7"], stage: int) -> Float[ndarray, " 7"]:
        """Return the frame, at the reference object, in which that stage's motion is the same for every start."""
        ...

    def expert(self, state: InitialState) -> tuple[Waypoint, ...]:
        """Return the way-points that solve this start."""
        ...
