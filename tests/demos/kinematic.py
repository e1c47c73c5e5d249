"""A world without physics in which pick-place can be done: the hand follows its target, what is gripped follows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray

from rlco.core.scene import Facts, InitialState
from rlco.demos.targets import commanded

HOME = np.array([0.38, 0.0, 0.12, 1.0, 0.0, 0.0, 0.0])
SLIPPERY, BOUNCING, RUNAWAY = "slippery", "bouncing", "runaway"
"""Kinds of starts, in their labels: it cannot be gripped; it leaves the bowl; the bowl moves when it is gripped."""


@dataclass
class Env:
    initial: InitialState
    target: ndarray
    tcp: ndarray
    width: float
    poses: dict[str, ndarray]
    steps: int = 0
    held: bool = False
    met: int = 0
    bowl_has_moved: bool = False


@dataclass
class KinematicWorld:
    """Success: the apple within 5 cm of the bowl, sideways, and not held. It never ends an episode."""

    num_envs: int
    loses: set[tuple[str, int]] = field(default_factory=set)
    """(name of a start, step) at which its worker dies, once."""
    control_hz: float = 5.0
    envs: dict[int, Env] = field(default_factory=dict)

    def reset(self, *, initial_states: list[InitialState], mask: ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
        for e, state in zip(np.flatnonzero(mask).tolist(), initial_states, strict=True):
            poses = {name: np.array(pose) for name, pose in state.object_pose.items()}
            self.envs[e] = Env(state, HOME.copy(), HOME.copy(), 0.0, poses)
        return self._observation(), {}

    def step_chunk(self, actions: ndarray, *, render: str = "last") -> tuple[Any, ...]:
        del render
        success, lost = np.zeros(self.num_envs, dtype=bool), np.zeros(self.num_envs, dtype=bool)
        for e, env in self.envs.items():
            success[e] = self._step(env, actions[e, 0])
            key = (env.initial.name, env.steps)
            lost[e] = key in self.loses
            self.loses.discard(key)
        no = np.zeros((self.num_envs, 1), dtype=bool)
        info = {"success": success, "lost": lost, "ik_failed": no}
        return self._observation(), None, no, no, info

    def facts(self) -> Facts:
        envs = [self.envs[e] for e in range(self.num_envs)]
        names = list(dict.fromkeys(name for env in envs for name in env.poses))
        nothing = np.full(7, np.nan)
        held = {name: np.array([env.held and name == "apple" for env in envs]) for name in names}
        return Facts(
            tcp_pose=np.stack([env.tcp for env in envs]),
            gripper_width_m=np.array([env.width for env in envs]),
            object_pose={name: np.stack([env.poses.get(name, nothing) for env in envs]) for name in names},
            initial=tuple(env.initial for env in envs),
            touching=held,
            grasped=held,
        )

    def _step(self, env: Env, action: ndarray) -> bool:
        """Move one environment; return whether the goal is met after that."""
        env.steps += 1
        env.target = commanded(env.target, action)
        before = env.tcp.copy()
        env.tcp = np.concatenate([env.tcp[:3] + 0.7 * (env.target[:3] - env.tcp[:3]), env.target[3:]])
        env.width = float(np.clip(env.width + (0.05 if action[6] > 0 else -0.05), 0.04 if env.held else 0.0, 0.08))
        kind, apple = env.initial.labels.get("kind"), env.poses["apple"]
        is_at = np.linalg.norm(env.tcp[:3] - apple[:3]) < 0.012
        env.held = bool(action[6] < 0 and (env.held or (is_at and kind != SLIPPERY)))
        if env.held:
            apple[:3] += env.tcp[:3] - before[:3]
            if kind == RUNAWAY and not env.bowl_has_moved:
                env.poses["bowl"][0] += 0.08
                env.bowl_has_moved = True
        is_in = not env.held and float(np.linalg.norm(apple[:2] - env.poses["bowl"][:2])) < 0.05
        env.met = env.met + 1 if is_in else 0
        if kind == BOUNCING and env.met == 2:
            apple[0] += 0.2
        return is_in

    def _observation(self) -> dict[str, Any]:
        image = np.zeros((self.num_envs, 2, 2, 3), dtype=np.uint8)
        state = np.zeros((self.num_envs, 8), dtype=np.float32)
        for e, env in self.envs.items():
            image[e], state[e, :3], state[e, 6] = env.steps, env.tcp[:3], env.width
        return {"image": image, "state": state}
