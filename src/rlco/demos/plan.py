"""From a source demonstration to the targets of a new scene: choose, transform, bridge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.demos.sources import Source
from rlco.demos.targets import bridge, transformed

Selection = Literal["nearest", "random"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanConfig:
    """How a new demonstration follows a real one. Lengths in metres."""

    selection: Selection = "nearest"
    """``nearest``: a random one of the ``nearest`` sources whose object was closest to where it is now."""
    nearest: int = 5
    bridge_step_m: tuple[float, float] = (0.02, 0.04)
    """Longest step of the straight way to the contact stage, drawn once an episode."""
    noise_m: float = 0.003
    """Standard deviation of noise on each translation, corrected by the next action: recovery to learn from."""
    clean_label: bool = False
    """Record the action without its noise instead of the executed one."""
    follow_steps: int = 4
    """If the source's stage ends before success, its last motion goes on for at most so many control steps."""
    wait_steps: int = 2
    """Then the target is held for so many."""

    def __post_init__(self) -> None:
        low, high = self.bridge_step_m
        if self.selection not in ("nearest", "random"):
            raise ValueError(f"PlanConfig.selection must be 'nearest' or 'random', got '{self.selection}'.")
        if not 0 < low <= high or self.noise_m < 0:
            raise ValueError(f"PlanConfig needs 0 < bridge_step_m and 0 <= noise_m, got {self}.")
        if self.nearest < 1 or min(self.follow_steps, self.wait_steps) < 0:
            raise ValueError(f"PlanConfig needs nearest >= 1, follow_steps and wait_steps >= 0, got {self}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Commanded poses of a whole episode, n control steps."""

    targets: Float[ndarray, "n 7"]
    gripper: Float[ndarray, " n"]
    provenance: dict[str, Any]
    """Which source, which transform, how long the parts are; JSON values."""


def choose(
    sources: Sequence[Source], object_pose: Float[ndarray, " 7"], *, config: PlanConfig, rng: np.random.Generator
) -> Source:
    """Return the source to follow for an object that is at ``object_pose``."""
    if config.selection == "random":
        return sources[int(rng.integers(len(sources)))]
    distance = [np.linalg.norm(source.object_pose[:3] - object_pose[:3]) for source in sources]
    nearest = np.argsort(distance, kind="stable")[: config.nearest]
    return sources[int(nearest[rng.integers(len(nearest))])]


def plan(
    source: Source,
    *,
    start: Float[ndarray, " 7"],
    object_pose: Float[ndarray, " 7"],
    config: PlanConfig,
    rng: np.random.Generator,
) -> Plan:
    """Return: a straight way from ``start`` to where the contact stage begins, the stage, its last motion, a wait.

    ``start``: the commanded TCP pose now. ``object_pose``: the reference object now.
    """
    entry = transformed(source.start[None], source=source.object_pose, now=object_pose)[0]
    stage = transformed(source.targets, source=source.object_pose, now=object_pose)
    step_m = float(rng.uniform(*config.bridge_step_m))
    way = bridge(start, entry, step_m=step_m)
    follow = _follow(np.concatenate([entry[None], stage]), config.follow_steps)
    wait = np.repeat(follow[-1:] if len(follow) else stage[-1:], config.wait_steps, axis=0)
    after = len(follow) + len(wait)
    gripper = np.concatenate([np.full(len(way), source.gripper[0]), source.gripper, np.full(after, source.gripper[-1])])
    return Plan(
        targets=np.concatenate([way, stage, follow, wait]),
        gripper=gripper,
        provenance={
            "seed_episode": source.number,
            "object_from": source.object_pose.tolist(),
            "object_to": object_pose.tolist(),
            "bridge_steps": len(way),
            "bridge_step_m": step_m,
            "stage_steps": len(stage),
        },
    )


def _follow(stage: Float[ndarray, "K 7"], steps: int) -> Float[ndarray, "n 7"]:
    """Return the poses that go on with the mean motion of the last steps of ``stage``."""
    back = min(3, len(stage) - 1)
    follow = np.repeat(stage[-1:], steps, axis=0)
    if back > 0:
        motion = (stage[-1, :3] - stage[-1 - back, :3]) / back
        follow[:, :3] += np.arange(1, steps + 1)[:, None] * motion
    return follow
