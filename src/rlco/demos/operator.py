"""A scripted operator that moves like a person with a SpaceMouse: it looks, aims roughly, corrects, hesitates.

It follows the task's way-points, planned again at every control step from where the objects are now (privileged facts
that no policy sees), and is deliberately not optimal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from rlco.core.poses import quat_to_yaw
from rlco.core.rng import numpy_generator
from rlco.core.scene import ACTION_DIM, Facts, InitialState
from rlco.demos.targets import moved
from rlco.tasks import Task, Waypoint


@dataclass(frozen=True, kw_only=True, slots=True)
class TeleopStyle:
    """How imperfect the hand is. Lengths in metres a control step unless said."""

    speed_m: tuple[float, float] = (0.018, 0.036)
    """Cruising speed, drawn once an episode."""
    wobble_m: float = 0.0027
    """Standard deviation of a slowly varying unwanted motion."""
    wobble_memory: float = 0.8
    """Correlation of that motion from one control step to the next."""
    pause_rate: float = 0.025
    """Chance at each control step to stop and look."""
    pause_steps: tuple[int, int] = (2, 6)
    detour_rate: float = 0.4
    """Chance that the episode starts by way of a point off the path."""
    detour_m: tuple[float, float, float] = (0.05, 0.15, 0.08)
    """How far off, at most, along each axis [m]; upwards only along z."""
    aim_error_m: float = 0.012
    """Standard deviation of the first aim, corrected way-point by way-point [m]."""
    aim_memory: float = 0.4
    """Share of the aim error that is left at the next way-point; none at the last one."""
    overshoot_m: tuple[float, float] = (0.0, 0.015)
    """How far the hand runs past the last way-point, drawn once an episode [m]."""
    reaction_steps: int = 1
    """Age of what the eyes see, in control steps."""
    smoothing: float = 0.3
    """Share of the last step's velocity in the next one."""


TELEOP = TeleopStyle()
EXACT = TeleopStyle(
    speed_m=(0.04, 0.04),
    wobble_m=0.0,
    pause_rate=0.0,
    detour_rate=0.0,
    aim_error_m=0.0,
    overshoot_m=(0.0, 0.0),
    reaction_steps=0,
    smoothing=0.0,
)
STYLES = {"teleop": TELEOP, "exact": EXACT}

_GAIN = 0.6
"""Share of the remaining way taken in one control step: higher swings, because the arm follows a step late."""
_TURN_RAD = 0.1
"""Fastest turn of one control step."""
_TURNED_RAD = 0.04
"""A way-point is reached only when the gripper is turned this near to what it asks for."""
_AWAY_M = 0.045
_IN_HAND_M = 0.06
"""What is farther than this from the TCP is not in the hand."""
_STUCK_M, _STUCK_STEPS = 0.04, 4
"""With the arm this far behind its command for so many steps, something is in the way: begin again, from above."""
_OFF_LINE_M = 0.022
"""Farther than this beside the line to the last way-point the object has slipped away: go round again."""


class Operator:
    """Drives E environments, each with its own hand; an episode's imperfections depend on its number alone."""

    def __init__(self, task: Task, *, num_envs: int, seed: int, style: TeleopStyle = TELEOP) -> None:
        self._task, self._seed, self._style = task, seed, style
        self._hands: list[_Hand | None] = [None] * num_envs

    def start(self, e: int, initial: InitialState, number: int) -> None:
        """Take environment ``e`` in hand for episode ``number``."""
        rng = numpy_generator(self._seed, "operator", number)
        self._hands[e] = _Hand(task=self._task, style=self._style, initial=initial, rng=rng)

    def finish(self, e: int) -> None:
        """Let go of environment ``e``."""
        self._hands[e] = None

    def act(self, facts: Facts, observation: Mapping[str, Any]) -> Float[ndarray, "E 7"]:
        """Return one action per environment; zero where no episode runs."""
        del observation
        actions = np.zeros((len(self._hands), ACTION_DIM), dtype=np.float32)
        actions[:, 6] = -1.0
        for e, hand in enumerate(self._hands):
            if hand is not None:
                actions[e] = hand.act(facts, e)
        return actions

    def stops(self) -> Bool[ndarray, " E"]:
        """Never gives up before the clock does."""
        return np.zeros(len(self._hands), dtype=bool)


@dataclass(slots=True)
class _Hand:
    """One episode of one environment."""

    task: Task
    style: TeleopStyle
    initial: InitialState
    rng: np.random.Generator
    speed_m: float = field(init=False)
    overshoot_m: float = field(init=False)
    aim_m: Float[ndarray, " 3"] = field(init=False)
    via_m: Float[ndarray, " 3"] | None = field(init=False, default=None)
    """The point of a detour, until it is reached."""
    next: int = 0
    """The way-point the hand moves to."""
    pause: int = 0
    behind: int = 0
    """Control steps in a row in which the arm did not follow."""
    waited: int = 0
    """Control steps at the way-point that is reached."""
    target: Float[ndarray, " 7"] | None = None
    """Commanded pose; what the hand believes it has asked for."""
    velocity_m: Float[ndarray, " 3"] = field(default_factory=lambda: np.zeros(3))
    wobble_m: Float[ndarray, " 3"] = field(default_factory=lambda: np.zeros(3))
    seen: list[InitialState] = field(default_factory=list)
    """The scene as the eyes had it, oldest first."""

    def __post_init__(self) -> None:
        style, rng = self.style, self.rng
        self.speed_m = float(rng.uniform(*style.speed_m))
        self.overshoot_m = float(rng.uniform(*style.overshoot_m))
        # the height is judged by the table, so the aim errs sideways only
        self.aim_m = rng.normal(size=3) * style.aim_error_m * (1.0, 1.0, 0.0)
        if rng.random() < style.detour_rate:
            self.via_m = rng.uniform([-1.0, -1.0, 0.0], 1.0) * style.detour_m

    def act(self, facts: Facts, e: int) -> Float[ndarray, " 7"]:
        tcp = facts.tcp_pose[e]
        target = tcp.copy() if self.target is None else self.target
        if self.target is None and self.via_m is not None:
            self.via_m = tcp[:3] + self.via_m
        waypoints = self.task.expert(self._look(facts, e))
        goal = self._goal(waypoints, tcp)
        waypoint = waypoints[self.next]
        step = np.zeros(ACTION_DIM, dtype=np.float32)
        # half what was asked for, half what was reached: the hand ignores neither the arm's delay nor an obstacle
        step[:3] = self._step(goal, 0.5 * (target[:3] + tcp[:3]), speed=waypoint.speed) + self._wobble()
        step[5] = _turn(target, waypoint.yaw_rad)
        step[6] = waypoint.gripper
        self.target = moved(target, step)
        return step

    def _look(self, facts: Facts, e: int) -> InitialState:
        """Return the scene with the objects where they were ``reaction_steps`` ago."""
        poses = {name: tuple(facts.object_pose[name][e].tolist()) for name in self.initial.object_pose}
        joints = {name: float(facts.joint_value[name][e]) for name in self.initial.joint_value}
        now = replace(self.initial, object_pose=poses, joint_value=joints)
        self.seen = [*self.seen, now][-1 - self.style.reaction_steps :]
        return self.seen[0]

    def _goal(self, waypoints: Sequence[Waypoint], tcp: Float[ndarray, " 7"]) -> Float[ndarray, " 3"]:
        """Return the point to move to now, going on to the next way-point where one is reached."""
        tcp_m = tcp[:3]
        if self.via_m is not None:
            if np.linalg.norm(self.via_m - tcp_m) > 0.03:
                return self.via_m
            self.via_m = None
        last = len(waypoints) - 1
        self.next = min(self.next, last)
        waypoint = waypoints[self.next]
        lost = self._slipped(waypoints, tcp_m) or _left_behind(waypoint, tcp_m) or _moved_away(waypoint, tcp_m)
        if lost or self._is_stuck(waypoint, tcp_m):
            self.next = self.waited = 0
        goal = self._aimed(waypoints)
        if self.next < last and self._is_there(waypoints[self.next], goal, tcp):
            self.waited += 1
            if self.waited > waypoints[self.next].wait_steps:
                self.next, self.waited = self.next + 1, 0
                self.aim_m = self.aim_m * self.style.aim_memory
                goal = self._aimed(waypoints)
        return goal

    def _is_stuck(self, waypoint: Waypoint, tcp_m: Float[ndarray, " 3"]) -> bool:
        if waypoint.beyond or self.target is None:
            return False
        follows = float(np.linalg.norm(self.target[:3] - tcp_m)) < _STUCK_M
        self.behind = 0 if follows else self.behind + 1
        return self.behind >= _STUCK_STEPS

    @staticmethod
    def _is_there(waypoint: Waypoint, goal: Float[ndarray, " 3"], tcp: Float[ndarray, " 7"]) -> bool:
        near = bool(np.linalg.norm(goal - tcp[:3]) < waypoint.tolerance_m)
        return near and (waypoint.yaw_rad is None or abs(float(quat_to_yaw(tcp[3:])) - waypoint.yaw_rad) < _TURNED_RAD)

    def _aimed(self, waypoints: Sequence[Waypoint]) -> Float[ndarray, " 3"]:
        point = np.array(waypoints[self.next].position_m)
        if self.next < len(waypoints) - 1:
            return point + self.aim_m
        if not waypoints[-1].beyond:
            return point
        way = point - waypoints[-2].position_m
        return point + self.overshoot_m * way / max(float(np.linalg.norm(way)), 1e-6)

    def _slipped(self, waypoints: Sequence[Waypoint], tcp_m: Float[ndarray, " 3"]) -> bool:
        """Return whether the hand is beside the line of a push."""
        if self.next < len(waypoints) - 1 or not waypoints[-1].beyond:
            return False
        start, end = (np.array(w.position_m) for w in waypoints[-2:])
        along = (end - start) / max(float(np.linalg.norm(end - start)), 1e-6)
        off = (tcp_m - start) - ((tcp_m - start) @ along) * along
        return float(np.linalg.norm(off)) > _OFF_LINE_M

    def _step(self, goal: Float[ndarray, " 3"], here: Float[ndarray, " 3"], *, speed: float) -> Float[ndarray, " 3"]:
        """Return the wanted motion of this control step, limited in speed and smoothed."""
        if self.pause > 0:
            self.pause -= 1
            self.velocity_m = np.zeros(3)
            return self.velocity_m
        if self.rng.random() < self.style.pause_rate:
            self.pause = int(self.rng.integers(self.style.pause_steps[0], self.style.pause_steps[1] + 1))
        way = _GAIN * (goal - here)
        way *= min(1.0, speed * self.speed_m / max(float(np.linalg.norm(way)), 1e-9))
        self.velocity_m = self.style.smoothing * self.velocity_m + (1 - self.style.smoothing) * way
        return self.velocity_m

    def _wobble(self) -> Float[ndarray, " 3"]:
        memory = self.style.wobble_memory
        fresh = self.rng.normal(size=3) * self.style.wobble_m * np.sqrt(1 - memory**2)
        self.wobble_m = memory * self.wobble_m + fresh
        # a hand that rests on the table shakes less up and down; a hand that pauses shakes little
        return self.wobble_m * (1.0, 1.0, 0.5) * (0.3 if self.pause else 1.0)


def _turn(target: Float[ndarray, " 7"], yaw_rad: float | None) -> float:
    """Return the turn of this control step that brings the commanded pose towards ``yaw_rad``."""
    if yaw_rad is None:
        return 0.0
    missing = yaw_rad - float(quat_to_yaw(target[3:]))
    # a measured start pose is never exactly straight
    return float(np.clip(missing, -_TURN_RAD, _TURN_RAD)) if abs(missing) > _TURNED_RAD / 2 else 0.0


def _moved_away(waypoint: Waypoint, tcp_m: Float[ndarray, " 3"]) -> bool:
    """Return whether what the fingers are about to close on, or to let go over, has moved away from under them."""
    return waypoint.wait_steps > 0 and float(np.linalg.norm(np.array(waypoint.position_m) - tcp_m)) > _AWAY_M


def _left_behind(waypoint: Waypoint, tcp_m: Float[ndarray, " 3"]) -> bool:
    """Return whether what the hand should hold is not there."""
    return waypoint.held_m is not None and float(np.linalg.norm(waypoint.held_m - tcp_m)) > _IN_HAND_M
