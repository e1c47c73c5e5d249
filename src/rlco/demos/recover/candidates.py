"""Starts to try: the guesses, and starts near them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.poses import quat_multiply, quat_rotate, quat_to_yaw, yaw_to_quat
from rlco.core.scene import InitialState
from rlco.tasks import Task

_SAME_M, _SAME_RAD = 0.001, 0.01
_PER_M, _PER_RAD = 0.1, 0.01
"""What moving or turning a thing away from its guess counts against a candidate [m per m, m per rad]: where the motion
does not tell, the guess stands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A start to replay from."""

    state: InitialState
    by: str
    """What it comes from."""
    away_m: float = 0.0
    """What its distance from the guess counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Standard deviations of a search around a guess."""

    position_m: float
    yaw_rad: float
    opening_m: float

    def grown(self, factor: float) -> Spread:
        """Return it ``factor`` times as wide."""
        return Spread(
            position_m=factor * self.position_m, yaw_rad=factor * self.yaw_rad, opening_m=factor * self.opening_m
        )


def near(task: Task, guess: Candidate, rng: np.random.Generator, spread: Spread) -> Candidate:
    """Return a start near ``guess``: what the task is about is moved and turned on the table.

    A fixture that is open at the start is more or less open; its closed place moves as the others do.
    """
    state, away = guess.state, guess.away_m
    poses, joints = dict(state.object_pose), dict(state.joint_value)
    for name in about(task, state):
        step, turn = rng.normal(size=2) * spread.position_m, float(rng.normal()) * spread.yaw_rad
        pose = np.array(poses[name])
        pose[:2] += step
        pose[3:] = quat_multiply(np.array(yaw_to_quat(turn)), pose[3:])
        if joints.get(name, 0.0) > 0.0:
            more = float(np.clip(rng.normal() * spread.opening_m, -joints[name] / 2, _room(task, name, joints[name])))
            pose[:3] -= quat_rotate(pose[3:], np.array([more, 0.0, 0.0]))
            joints[name] += more
            away += _PER_M * abs(more)
        poses[name] = tuple(pose.tolist())
        away += _PER_M * float(np.linalg.norm(step)) + _PER_RAD * abs(turn)
    return Candidate(state=replace(state, object_pose=poses, joint_value=joints), by="search", away_m=away)


def about(task: Task, state: InitialState) -> list[str]:
    """Return the things relative to which the robot moves."""
    return list(dict.fromkeys(task.reference_object(state, i) for i in range(len(task.stages))))


def fresh(candidates: Sequence[Candidate], tried: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that differ from each other and from those tried."""
    found: list[Candidate] = []
    for candidate in candidates:
        if not any(_same(candidate.state, other.state) for other in (*tried, *found)):
            found.append(candidate)
    return found


def _same(a: InitialState, b: InitialState) -> bool:
    if a.object_pose.keys() != b.object_pose.keys():
        return False
    return all(_near(np.array(a.object_pose[name]), np.array(b.object_pose[name])) for name in a.object_pose) and all(
        abs(a.joint_value[name] - b.joint_value[name]) < _SAME_M for name in a.joint_value
    )


def _near(a: Float[ndarray, " 7"], b: Float[ndarray, " 7"]) -> bool:
    turn = (float(quat_to_yaw(a[3:]) - quat_to_yaw(b[3:])) + np.pi) % (2 * np.pi) - np.pi
    return bool(np.linalg.norm(a[:3] - b[:3]) < _SAME_M) and abs(turn) < _SAME_RAD


def _room(task: Task, name: str, opening_m: float) -> float:
    """Return by how much the fixture can still open."""
    return next(fixture.travel_m for fixture in task.scene.fixtures if fixture.name == name) - opening_m
