"""A tiny world and policy with known behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray
from torch import Tensor

from rlco.core.policy import Observation, Sample
from rlco.core.scene import Facts, InitialState
from rlco.tasks.contract import Ends, Stage
from rlco.tasks.progress import furthest

HOME = (0.3, 0.0, 0.02, 1.0, 0.0, 0.0, 0.0)


def state(name: str, *, length: int = 4, colour: str = "purple") -> InitialState:
    """Return a start whose episode lasts ``length`` control steps."""
    return InitialState(
        name=name,
        task="fake",
        instruction=f"push the {colour} cube",
        object_pose={"named": HOME, "other": HOME},
        object_rgb={"named": (1.0, 0.0, 0.0), "other": (0.0, 1.0, 0.0)},
        labels={"target": "named", "object": colour, "length": str(length)},
    )


class FakeTask:
    """Reached is 2 mm, under way 1 cm from the start."""

    stages = (Stage(name="push", ends=Ends.EPISODE),)

    def reference_object(self, state: InitialState, stage: int) -> str:
        return state.labels["target"]

    def progress(self, facts: Facts) -> Int[ndarray, " E"]:
        ahead_m = facts.object_pose["named"][:, 0] - HOME[0]
        return furthest(reached=ahead_m > 0.0019, under_way=ahead_m > 0.0099)


class FakeWorld:
    """Adds every dx to the named object and every dy to the other one; solved at dx >= 0.1 in total."""

    def __init__(self, task: str, *, num_envs: int, image_size: int, lose: str = "", **settings: object) -> None:
        assert settings.keys() == {"domain", "seed", "reality"}
        self.num_envs, self.image_size, self.lose = num_envs, image_size, lose
        self.workers_lost = 0
        self.starts: list[InitialState | None] = [None] * num_envs
        self.moved = np.zeros((num_envs, 2))
        self.steps = np.zeros(num_envs, dtype=int)
        self.over = np.ones(num_envs, dtype=bool)
        self.task = FakeTask()
        self.closed = False
        self.resets = 0

    def reset(self, *, initial_states: Sequence[InitialState], mask: np.ndarray) -> tuple[dict[str, Any], dict]:
        assert self.over[mask].all(), "an episode was cut short"
        for e, start in zip(mask.nonzero()[0], initial_states, strict=True):
            self.starts[e], self.moved[e], self.steps[e], self.over[e] = start, 0.0, 0, False
        self.resets += 1
        return self.observation(), {}

    def step_chunk(
        self, actions: np.ndarray, *, render: str | None = None
    ) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, dict]:
        shape = actions.shape[:2]
        terminated, truncated, valid = (np.zeros(shape, dtype=bool) for _ in range(3))
        lost = np.array([s is not None and s.name == self.lose for s in self.starts]) & ~self.over
        for e, h in np.ndindex(*shape):
            start = self.starts[e]
            if self.over[e] or start is None or lost[e]:
                continue
            self.moved[e] += actions[e, h, :2]
            self.steps[e] += 1
            valid[e, h] = True
            terminated[e, h] = self.moved[e, 0] >= 0.1
            truncated[e, h] = self.steps[e] >= int(start.labels["length"])
            self.over[e] = terminated[e, h] or truncated[e, h]
        self.over |= lost
        info = {"valid": valid, "lost": lost, "success": terminated.any(1)}
        if render == "all":
            image = self.observation()["image"]
            info["images"] = np.repeat(image[:, None], shape[1], axis=1)
        return self.observation(), np.zeros(shape), terminated, truncated, info

    def facts(self) -> Facts:
        poses = {name: np.tile(HOME, (self.num_envs, 1)) for name in ("named", "other")}
        for i, name in enumerate(poses):
            poses[name][:, 0] += self.moved[:, i]
        return Facts(
            tcp_pose=np.tile(HOME, (self.num_envs, 1)),
            gripper_width_m=np.zeros(self.num_envs),
            object_pose=poses,
            initial=tuple(s or state("none") for s in self.starts),
        )

    def close(self) -> None:
        self.closed = True

    def observation(self) -> dict[str, Any]:
        # the image shows which episode it is: a mix-up between environments changes what the policy does
        image = np.zeros((self.num_envs, self.image_size, self.image_size, 3), dtype=np.uint8)
        image[:] = self.steps[:, None, None, None]
        return {
            "image": image,
            "state": np.zeros((self.num_envs, 8), dtype=np.float32),
            "instruction": [s.instruction if s else "" for s in self.starts],
        }


class FakePolicy:
    """Moves the named object by 0.01 + noise, and the other one by ``other_m`` each step."""

    executed = 2
    noise_shape = (3, 9)

    def __init__(self, *, push_m: float = 0.01, other_m: float = 0.0, noise_m: float = 0.0) -> None:
        self.push_m, self.other_m, self.noise_m = push_m, other_m, noise_m
        self.batch_sizes: list[int] = []

    def sample(
        self, observation: Observation, *, explore: bool, generator: torch.Generator, noise: Tensor | None = None
    ) -> Sample:
        assert not explore
        assert noise is not None
        batch = len(observation)
        self.batch_sizes.append(batch)
        action = torch.zeros(batch, 3, 7)
        action[..., 0] = self.push_m + self.noise_m * noise[..., 0]
        action[..., 1] = self.other_m
        return Sample(action=action, log_prob=torch.zeros(batch), value=torch.zeros(batch), trace={})
