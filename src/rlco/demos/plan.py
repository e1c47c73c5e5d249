"""From the stages of seeds to the commands of a new scene: choose, transform, bridge, settle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.poses import quat_conjugate, quat_multiply, quat_rotate, quat_to_rotvec
from rlco.core.scene import WORKSPACE_HIGH_M, WORKSPACE_LOW_M
from rlco.demos.segments import WindowConfig
from rlco.demos.sources import Seed, Source
from rlco.demos.targets import transformed

Selection = Literal["nearest", "nearest-object", "nearest-robot", "random"]
_SELECTIONS = ("nearest", "nearest-object", "nearest-robot", "random")
_OUTSIDE_M = 0.015
"""How far outside its workspace a pose may be asked for: the controller stays inside."""
_TILT_RAD = 0.35
"""A hand that a transform tilts by more than this does not do what it did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanConfig:
    """How a new demonstration follows real ones. Lengths in metres."""

    selection: Selection = "nearest"
    """``nearest-object`` (also ``nearest``): a random one of the ``nearest`` seeds whose object was closest to where it
    is now. ``nearest-robot``: of those that begin closest to where the hand is now. ``random``: any."""
    nearest: int = 5
    yaw_weight_m: float = 0.1
    """A turn of the object by 1 rad counts like this much distance."""
    height_weight: float = 10.0
    """A difference in height counts so many times: an object whose middle is higher is a taller one, held higher up."""
    per_stage: bool = False
    """Choose a seed for each stage, not one for the whole episode."""
    window: WindowConfig = field(default_factory=WindowConfig)
    """What of a seed is kept."""
    bridge_step_m: tuple[float, float] = (0.02, 0.04)
    """Longest step of the way to a contact stage, drawn once an episode."""
    noise_m: float = 0.003
    """Standard deviation of noise on each translation, corrected by the next action: recovery to learn from."""
    clean_label: bool = False
    """Record the action without its noise instead of the executed one."""
    settle_steps: int = 5
    """Longest wait for the arm to arrive before the gripper moves, and for the gripper after."""
    follow_steps: int = 4
    """If the last stage ends before success, its last motion goes on for at most so many control steps."""
    wait_steps: int = 2
    """Then the target is held for so many, and for the task's hold time."""

    def __post_init__(self) -> None:
        low, high = self.bridge_step_m
        if self.selection not in _SELECTIONS:
            raise ValueError(f"PlanConfig.selection must be one of {', '.join(_SELECTIONS)}, got '{self.selection}'.")
        if not 0 < low <= high or self.noise_m < 0:
            raise ValueError(f"PlanConfig needs 0 < bridge_step_m and 0 <= noise_m, got {self}.")
        if self.nearest < 1 or min(self.follow_steps, self.wait_steps, self.settle_steps) < 0:
            raise ValueError(f"PlanConfig needs nearest >= 1 and steps >= 0, got {self}.")
        if min(self.yaw_weight_m, self.height_weight) < 0:
            raise ValueError(f"PlanConfig needs yaw_weight_m and height_weight >= 0, got {self}.")


class Until(StrEnum):
    """What ends a hold."""

    ARRIVED = "arrived"
    """The TCP is where it was sent."""
    GRIPPED = "gripped"
    """The fingers move no more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """One control step to a commanded pose."""

    target: Float[ndarray, " 7"]
    gripper: float
    is_noisy: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """Stay where the last move went, without noise, for at most ``steps`` control steps."""

    until: Until
    steps: int


Command = Move | Hold


def choose(
    seeds: Sequence[Seed],
    stage: int,
    *,
    object_pose: Float[ndarray, " 7"],
    tcp_pose: Float[ndarray, " 7"],
    config: PlanConfig,
    rng: np.random.Generator,
) -> Seed:
    """Return the seed to follow in ``stage``, given its reference frame and the hand now."""
    if config.selection == "random":
        return seeds[int(rng.integers(len(seeds)))]
    sources = [seed.stages[stage] for seed in seeds]
    if config.selection == "nearest-robot":
        starts = np.concatenate([moved_start(source, object_pose) for source in sources])
        distance = distances(starts, tcp_pose, yaw_weight_m=config.yaw_weight_m)
    else:
        poses = np.stack([source.object_pose for source in sources])
        distance = distances(poses, object_pose, yaw_weight_m=config.yaw_weight_m, height_weight=config.height_weight)
    nearest = np.argsort(distance, kind="stable")[: config.nearest]
    return seeds[int(nearest[rng.integers(len(nearest))])]


def moved_start(source: Source, object_pose: Float[ndarray, " 7"]) -> Float[ndarray, "1 7"]:
    """Return where the stage would begin now."""
    return transformed(source.start[None], source=source.object_pose, now=object_pose)


def distances(
    poses: Float[ndarray, "n 7"], here: Float[ndarray, " 7"], *, yaw_weight_m: float, height_weight: float = 1.0
) -> Float[ndarray, " n"]:
    """Return how far poses are from ``here`` [m], a turn counting with ``yaw_weight_m`` [m/rad]."""
    off = (poses[:, :3] - here[:3]) * (1.0, 1.0, height_weight)
    turn = quat_to_rotvec(quat_multiply(quat_conjugate(poses[:, 3:]), np.broadcast_to(here[3:], (len(poses), 4))))
    return np.linalg.norm(off, axis=1) + yaw_weight_m * np.linalg.norm(turn, axis=1)


def stage_commands(
    targets: Float[ndarray, "K 7"], gripper: Float[ndarray, " K"], *, before: float, settle_steps: int
) -> list[Command]:
    """Return the moves of a stage; the arm has arrived before each gripper change and the fingers have moved after it.

    ``before``: the gripper's command until then. A change is a step of its own, at the pose before it.
    """
    commands: list[Command] = []
    last: Float[ndarray, " 7"] | None = None
    for target, grip in zip(targets, gripper.tolist(), strict=True):
        if grip != before:
            commands.append(Hold(until=Until.ARRIVED, steps=settle_steps))
            commands.append(Move(target=target if last is None else last, gripper=grip, is_noisy=False))
            commands.append(Hold(until=Until.GRIPPED, steps=settle_steps))
            before = grip
        commands.append(Move(target=target, gripper=grip))
        last = target
    return commands


def follow(stage: Float[ndarray, "K 7"], steps: int) -> Float[ndarray, "n 7"]:
    """Return the poses that go on with the mean motion of the last steps of ``stage``."""
    back = min(3, len(stage) - 1)
    poses = np.repeat(stage[-1:], steps, axis=0)
    if back > 0:
        motion = (stage[-1, :3] - stage[-1 - back, :3]) / back
        poses[:, :3] += np.arange(1, steps + 1)[:, None] * motion
    return poses


def misfit(targets: Float[ndarray, "K 7"], source: Float[ndarray, "K 7"]) -> str | None:
    """Return why transformed targets cannot be followed, or None: out of reach, or tilted against the source's."""
    low, high = np.array(WORKSPACE_LOW_M) - _OUTSIDE_M, np.array(WORKSPACE_HIGH_M) + _OUTSIDE_M
    if ((targets[:, :3] < low) | (targets[:, :3] > high)).any():
        return "out of reach"
    return "tilted" if (np.abs(_tilt(targets) - _tilt(source)) > _TILT_RAD).any() else None


def _tilt(poses: Float[ndarray, "K 7"]) -> Float[ndarray, " K"]:
    """Return the angle between the fingers and the vertical [rad]."""
    down = quat_rotate(poses[:, 3:], np.broadcast_to(np.array([0.0, 0.0, 1.0]), (len(poses), 3)))
    return np.arccos(np.clip(down[:, 2], -1.0, 1.0))
