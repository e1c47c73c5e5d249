"""What every task tells the worlds, the operators, the generator and the evaluation; no engine in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from rlco.core.scene import Facts, InitialState, SceneSpec

CLOSE, OPEN = -1.0, 1.0
"""Gripper commands."""


class Ends(StrEnum):
    """What ends a contact stage."""

    GRASP = "grasp"
    """The gripper has closed on the reference object."""
    RELEASE = "release"
    """The gripper has opened."""
    EPISODE = "episode"
    """The end of the demonstration."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A part of a task in which the robot moves relative to one object; between two of them it moves freely."""

    name: str
    ends: Ends


@dataclass(frozen=True, kw_only=True, slots=True)
class EventReward:
    """A sparse reward, paid once an episode."""

    event: str
    """Key of what ``Task.events`` returns."""
    reward: float
    after: str | None = None
    """Pays only in an episode in which this other event was paid before."""


SUCCESS = "success"
"""The event that every task has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waypoint:
    """A TCP goal of the scripted expert, base frame; the fingers point down."""

    position_m: tuple[float, float, float]
    yaw_rad: float | None = 0.0
    """Of the gripper about the vertical; 0 is the home pose's, None leaves it as it is."""
    gripper: float
    """Command while going there."""
    tolerance_m: float = 0.01
    """Near enough to go on to the next one."""
    wait_steps: int = 0
    """Control steps to stay when it is reached, for the gripper to move."""
    speed: float = 1.0
    """Share of the cruising speed."""
    held_m: tuple[float, float, float] | None = None
    """Where the point by which something is held on this way is now; if it is left behind, begin again."""
    beyond: bool = False
    """The last way-point of a push: the hand runs past it, and goes round again where it is off the line to it."""


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
        """Whether success or a reward reads contacts (``Facts.touching``, ``grasped``), which costs a search."""
        ...

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The contact stages, in the order in which they happen."""
        ...

    @property
    def event_rewards(self) -> tuple[EventReward, ...]:
        """The sparse reward: what is paid, each once an episode."""
        ...

    @property
    def shifts(self) -> tuple[str, ...]:
        """Names of the distribution shifts that make sense here."""
        ...

    def sample_initial_state(
        self, rng: np.random.Generator, *, objects: Sequence[str] | None = None, name: str | None = None
    ) -> InitialState:
        """Draw a start. ``objects``: of these things only (cube colours, fruit, ...); all training ones by default."""
        ...

    def fixed_states(
        self, count: int, *, seed: int, prefix: str, objects: Sequence[str] | None = None, shift: str | None = None
    ) -> list[InitialState]:
        """Return a balanced list of named starts; the same arguments give the same list for ever.

        ``shift``: one of ``shifts``; None is the distribution of the training. Raises ``LookupError`` for others.
        """
        ...

    def paraphrases(self, state: InitialState) -> tuple[str, ...]:
        """Return other sentences that ask for the same."""
        ...

    def check(self, state: InitialState) -> None:
        """Raise ``ValueError`` if ``state`` is not a start of this task."""
        ...

    def succeeded(self, facts: Facts) -> Bool[ndarray, " E"]:
        """Return where the goal is met at this moment."""
        ...

    def dense_reward(self, facts: Facts, success: Bool[ndarray, " E"], *, before: Facts) -> Float[ndarray, " E"]:
        """Return the shaped reward, at most 1; ``success`` says where the task is done, hold time included.

        ``before``: the same environments one control step ago.
        """
        ...

    def events(self, facts: Facts, success: Bool[ndarray, " E"]) -> Mapping[str, Bool[ndarray, " E"]]:
        """Return by name where what ``event_rewards`` names is so at this moment."""
        ...

    def progress(self, facts: Facts) -> Int[ndarray, " E"]:
        """Return how far the robot is at this moment (``rlco.tasks.progress.Progress``), for sorting failures."""
        ...

    def reference_object(self, state: InitialState, stage: int) -> str:
        """Return the object relative to which the robot moves in that stage."""
        ...

    def reference_pose(self, object_pose: Float[ndarray, " 7"], stage: int) -> Float[ndarray, " 7"]:
        """Return the frame, at the reference object, in which that stage's motion is the same for every start."""
        ...

    def expert(self, state: InitialState) -> tuple[Waypoint, ...]:
        """Return the way-points that solve this start; ``state`` may hold poses of now instead of the start's."""
        ...
