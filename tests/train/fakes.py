"""A world of arithmetic: each environment counts steps, and an action with dx > 0 in its first step succeeds late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlco.core.scene import InitialState


def start(number: int) -> InitialState:
    """Return a start that has a name and nothing else."""
    name = f"counting/{number:04d}"
    return InitialState(name=name, task="counting", instruction="push the pink cube", object_pose={}, object_rgb={})


class CountingWorld:
    """E environments of ``length`` steps. Success when the summed dx passes a line; pictures show the step number."""

    def __init__(self, num_envs: int = 4, *, length: int = 12, line_m: float = 0.05) -> None:
        self.num_envs, self.length, self.line_m = num_envs, length, line_m
        self.step_E = np.zeros(num_envs, dtype=int)
        self.sum_E = np.zeros(num_envs)
        self.lose: int | None = None
        self.actions: list[np.ndarray] = []
        self.starts: list[list[str]] = []

    @property
    def max_steps(self) -> int:
        return self.length

    def reset(
        self, *, mask: np.ndarray | None = None, initial_states: Sequence[InitialState] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if initial_states is not None:
            self.starts.append([state.name for state in initial_states])
        mask = np.ones(self.num_envs, dtype=bool) if mask is None else mask
        self.step_E[mask], self.sum_E[mask] = 0, 0.0
        return self._observe(), {}

    def step_chunk(self, actions: np.ndarray) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, dict]:
        self.actions.append(actions.copy())
        shape = actions.shape[:2]
        reward, terminated, truncated, valid = (np.zeros(shape) for _ in range(4))
        success = np.zeros(self.num_envs, dtype=bool)
        for e in range(self.num_envs):
            for h in range(shape[1]):
                valid[e, h] = 1
                self.step_E[e] += 1
                self.sum_E[e] += actions[e, h, 0]
                success[e] = self.sum_E[e] > self.line_m
                reward[e, h], terminated[e, h] = self.pay(bool(success[e]), actions[e, h]), success[e]
                truncated[e, h] = not success[e] and self.step_E[e] >= self.length
                if terminated[e, h] or truncated[e, h]:
                    break
        lost = np.zeros(self.num_envs, dtype=bool)
        if self.lose is not None:
            lost[self.lose], truncated[self.lose], self.lose = True, True, None
        info = {"valid": valid.astype(bool), "success": success, "lost": lost}
        return self._observe(), reward, terminated.astype(bool), truncated.astype(bool), info

    def pay(self, success: bool, action: np.ndarray) -> float:  # noqa: FBT001
        """Return the reward of one step."""
        del action
        return float(success)

    def state(self) -> dict[str, np.ndarray]:
        return {"step": self.step_E.copy(), "sum": self.sum_E.copy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.step_E, self.sum_E = state["step"].copy(), state["sum"].copy()

    def _observe(self) -> dict[str, Any]:
        image = np.zeros((self.num_envs, 32, 32, 3), np.uint8)
        image[:] = (self.step_E * 10).astype(np.uint8)[:, None, None, None]
        state = np.zeros((self.num_envs, 8), np.float32)
        state[:, 0] = self.sum_E
        return {"image": image, "state": state, "instruction": ["push the pink cube"] * self.num_envs}


class PayingWorld(CountingWorld):
    """Pays dx in every step, so that no two episodes score the same."""

    def pay(self, success: bool, action: np.ndarray) -> float:  # noqa: FBT001
        del success
        return float(action[0])
