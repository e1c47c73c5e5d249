"""One attempt at a new demonstration: stage by stage, each planned from where things are when it begins."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.scene import Facts, InitialState
from rlco.demos.paths import Clearance, free_way
from rlco.demos.plan import Command, Hold, Move, PlanConfig, Until, choose, follow, misfit, stage_commands
from rlco.demos.sources import Seed
from rlco.demos.targets import action_between, clip_action, commanded, transformed
from rlco.tasks import Task
from rlco.tasks.contract import CLOSE, Ends

_ARRIVED_M = 0.004
_STILL_M = 0.0005
"""Fingers that move less than this in a control step are at their end."""
_LOST_STEPS = 3
"""Control steps without a grasp after which the object has been dropped."""


class Reject(StrEnum):
    """Why an attempt is not kept."""

    NOT_GRASPED = "not grasped"
    DROPPED = "dropped"
    MISSED = "missed"
    """The motion is over, the goal is not met."""
    UNSTABLE = "unstable"
    """The goal was met, and then not any more."""
    TIME_LIMIT = "time limit"
    KINEMATICS = "inverse kinematics"
    """The motion, moved to where the object is, leaves the workspace, or the arm could not follow it."""
    LOST = "lost"
    """The worker process died or the physics diverged."""


@dataclass(slots=True)
class Attempt:
    """What a robot does in one episode; it depends on the initial state, the seeds, the plan and ``rng`` alone."""

    task: Task
    initial: InitialState
    seeds: Sequence[Seed]
    config: PlanConfig
    rng: np.random.Generator
    labels: list[Float[ndarray, " 7"]] = field(default_factory=list)
    """The actions without their noise."""
    stages: list[dict[str, Any]] = field(default_factory=list)
    """Where each stage's motion comes from; JSON values."""
    failure: Reject | None = None
    _seed: Seed | None = None
    _step_m: float = 0.0
    _queue: deque[Command] = field(default_factory=deque)
    _target: Float[ndarray, " 7"] | None = None
    """Commanded pose now, noise included."""
    _wanted: Float[ndarray, " 7"] | None = None
    """Commanded pose without the noise."""
    _gripper: float = CLOSE
    _held_steps: int = 0
    """Control steps of the present hold."""
    _width_m: float = -1.0
    _unheld_steps: int = 0
    _rests: bool = False

    def rest(self) -> None:
        """Do nothing more: the goal is met."""
        if not self._rests:
            self._rests, self._wanted = True, self._target

    def act(self, facts: Facts, e: int) -> Float[ndarray, " 7"] | None:
        """Return the next action in environment ``e``; None if the attempt is over, ``failure`` says why."""
        if self._target is None:
            self._target = self._wanted = facts.tcp_pose[e].copy()
        if self._rests:
            return self._send(self._at_last(), is_noisy=False)
        if self._has_dropped(facts, e):
            self.failure = Reject.DROPPED
            return None
        command = self._next(facts, e)
        if command is None:
            return None
        if isinstance(command, Hold):
            return self._send(self._at_last(), is_noisy=False)
        self._wanted, self._gripper = command.target, command.gripper
        return self._send(command.target, is_noisy=command.is_noisy)

    def _at_last(self) -> Float[ndarray, " 7"]:
        assert self._wanted is not None
        return self._wanted

    def _send(self, wanted: Float[ndarray, " 7"], *, is_noisy: bool) -> Float[ndarray, " 7"]:
        assert self._target is not None
        clean = action_between(self._target, wanted, gripper=self._gripper).astype(np.float32)
        action = clean.copy()
        if is_noisy:
            # on the arm only: noise on a gripper command would open the hand
            action[:3] += self.rng.normal(size=3).astype(np.float32) * self.config.noise_m
        action = clip_action(action).astype(np.float32)
        self._target = commanded(self._target, action)
        self.labels.append(clean)
        return action

    def _next(self, facts: Facts, e: int) -> Command | None:
        """Return the present command, going on to the next stage where one is over."""
        while True:
            while not self._queue:
                if not self._begin(facts, e):
                    return None
            command = self._queue[0]
            if isinstance(command, Move):
                self._held_steps, self._width_m = 0, -1.0
                return self._queue.popleft()
            if self._held_steps >= command.steps or self._is_over(command, facts, e):
                self._held_steps, self._width_m = 0, -1.0
                self._queue.popleft()
                continue
            self._held_steps += 1
            self._width_m = float(facts.gripper_width_m[e])
            return command

    def _is_over(self, hold: Hold, facts: Facts, e: int) -> bool:
        if hold.until == Until.ARRIVED:
            return float(np.linalg.norm(facts.tcp_pose[e, :3] - self._at_last()[:3])) <= _ARRIVED_M
        return self._width_m >= 0 and abs(float(facts.gripper_width_m[e]) - self._width_m) <= _STILL_M

    def _begin(self, facts: Facts, e: int) -> bool:
        """Plan the next stage from where things are now; return False if there is none, or it cannot be."""
        i = len(self.stages)
        if i and self.task.stages[i - 1].ends == Ends.GRASP and not facts.grasped[self._thing(i - 1)][e]:
            self.failure = Reject.NOT_GRASPED
            return False
        if i == len(self.task.stages):
            self.failure = Reject.MISSED
            return False
        reference = self._thing(i)
        object_pose = self.task.reference_pose(facts.object_pose[reference][e], i)
        seed = self._chosen(i, object_pose, facts.tcp_pose[e])
        source = seed.stages[i]
        poses = np.concatenate([source.start[None], source.targets])
        targets = transformed(poses, source=source.object_pose, now=object_pose)
        if misfit(targets, poses) is not None:
            self.failure = Reject.KINEMATICS
            return False
        way = self._way(facts, e, stage=i, entry=targets[0])
        gripper = self._gripper if i else float(source.gripper[0])
        self._queue.extend(Move(target=pose, gripper=gripper) for pose in way)
        settle = self.config.settle_steps
        self._queue.extend(stage_commands(targets[1:], source.gripper, before=gripper, settle_steps=settle))
        if i == len(self.task.stages) - 1:
            self._queue.extend(self._ending(targets, source.gripper[-1]))
        elif self.task.stages[i].ends == Ends.GRASP:
            self._queue.append(Hold(until=Until.GRIPPED, steps=settle))
        self.stages.append(
            {
                "stage": self.task.stages[i].name,
                "seed_episode": seed.number,
                "object_from": source.object_pose.tolist(),
                "object_to": object_pose.tolist(),
                "bridge_steps": len(way),
                "bridge_step_m": self._step_m,
                "stage_steps": len(source.targets),
            }
        )
        return True

    def _ending(self, targets: Float[ndarray, "K 7"], gripper: float) -> list[Command]:
        """Return what comes after the last stage, until the goal is met: more motion, and time to come to rest.

        A push or pull goes on as it was; an open hand goes up, off what it let go.
        """
        steps = self.config.follow_steps
        more = follow(targets, steps)
        if self.task.stages[-1].ends == Ends.RELEASE:
            more = np.repeat(targets[-1:], steps, axis=0)
            more[:, 2] += self._step_m * np.arange(1, steps + 1)
        wait = np.repeat(np.concatenate([targets, more])[-1:], self.config.wait_steps + self.task.hold_steps, axis=0)
        return [
            *(Move(target=pose, gripper=float(gripper)) for pose in more),
            *(Move(target=pose, gripper=float(gripper), is_noisy=False) for pose in wait),
        ]

    def _chosen(self, stage: int, object_pose: Float[ndarray, " 7"], tcp_pose: Float[ndarray, " 7"]) -> Seed:
        if self._seed is None or self.config.per_stage:
            self._seed = choose(
                self.seeds, stage, object_pose=object_pose, tcp_pose=tcp_pose, config=self.config, rng=self.rng
            )
        if stage == 0:
            self._step_m = float(self.rng.uniform(*self.config.bridge_step_m))
        return self._seed

    def _thing(self, stage: int) -> str:
        return self.task.reference_object(self.initial, stage)

    def _carried(self) -> str | None:
        """Return what is in the hand."""
        i = len(self.stages) - 1
        is_closed = self._gripper == CLOSE
        return self._thing(i - 1) if i > 0 and is_closed and self.task.stages[i - 1].ends == Ends.GRASP else None

    def _has_dropped(self, facts: Facts, e: int) -> bool:
        thing = self._carried()
        is_unheld = thing is not None and not facts.grasped[thing][e]
        self._unheld_steps = self._unheld_steps + 1 if is_unheld else 0
        return self._unheld_steps >= _LOST_STEPS

    def _way(self, facts: Facts, e: int, *, stage: int, entry: Float[ndarray, " 7"]) -> Float[ndarray, "n 7"]:
        """Return the way to where ``stage`` begins, over what is not its own thing; with a full hand over that too."""
        clearance, spared = Clearance(), self._thing(stage)
        if stage and self.task.stages[stage - 1].ends == Ends.GRASP:
            spared = self._thing(stage - 1)
            # it was on the table when it was grasped
            clearance = clearance.carrying(float(facts.tcp_pose[e, 2]))
        names = [name for name in self.initial.object_pose if name != spared]
        obstacles = np.array([facts.object_pose[name][e, :3] for name in names]).reshape(-1, 3)
        return free_way(self._at_last(), entry, obstacles_m=obstacles, step_m=self._step_m, clearance=clearance)
