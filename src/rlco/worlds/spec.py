"""What a world is made of: the one value that travels to its worker processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlco.core.errors import unknown_name
from rlco.core.scene import ACTION_DIM, STATE_DIM, InitialState
from rlco.tasks.contract import Task
from rlco.worlds.shared import Layout

ENGINES_HERE = ("mujoco",)
ENGINES_ELSEWHERE = ("maniskill", "franka")
"""Named in the contract, not in this version."""
DOMAINS_HERE = ("twin", "standin")
RENDER_MODES = ("last", "all", "none")
REWARDS = ("sparse", "dense")
MAX_CHUNK = 64
"""Most control steps of one ``step_chunk``; its buffers are reserved, not used, until they are needed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldSpec:
    """See ``make_world``. Holds no parameter of the stand-in, only the number that draws them."""

    task: Task
    domain: str
    engine: str
    num_envs: int
    reality: int
    image_size: int
    render: str
    reward: str
    max_steps: int
    end_on_success: bool
    random_look: bool

    def __post_init__(self) -> None:
        _check_engine(self.engine, self.domain)
        check_choice("render mode", self.render, RENDER_MODES)
        check_choice("reward", self.reward, REWARDS)
        for name, least in (("num_envs", 1), ("reality", 0), ("image_size", 8), ("max_steps", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}.")

    def layout(self, num_workers: int) -> Layout:
        """Return the arrays that the processes share."""
        envs, size = self.num_envs, self.image_size
        steps = (envs, MAX_CHUNK)
        return {
            "actions": ((*steps, ACTION_DIM), np.dtype(np.float32)),
            "image": ((envs, size, size, 3), np.dtype(np.uint8)),
            "state": ((envs, STATE_DIM), np.dtype(np.float32)),
            "images": ((*steps, size, size, 3), np.dtype(np.uint8)),
            "states": ((*steps, STATE_DIM), np.dtype(np.float32)),
            "rewards": (steps, np.dtype(np.float32)),
            "terminated": (steps, np.dtype(np.bool_)),
            "truncated": (steps, np.dtype(np.bool_)),
            "valid": (steps, np.dtype(np.bool_)),
            "ik_failed": (steps, np.dtype(np.bool_)),
            "success": ((envs,), np.dtype(np.bool_)),
            "done": ((envs,), np.dtype(np.bool_)),
            "lost": ((envs,), np.dtype(np.bool_)),
            "heartbeat": ((num_workers,), np.dtype(np.int64)),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Where one environment begins its next episode."""

    env: int
    """Index among the environments of the worker."""
    initial: InitialState
    noise_seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """Which environments of a world this process runs."""

    spec: WorldSpec
    worker: int
    num_workers: int
    first: int
    """Its environments are ``first`` to ``last`` - 1."""
    last: int


def check_choice(kind: str, value: str, known: tuple[str, ...]) -> None:
    """Raise ``LookupError`` if ``value`` is not one of the names that exist."""
    if value not in known:
        raise unknown_name(kind, value, known)


def _check_engine(engine: str, domain: str) -> None:
    check_choice("domain", domain, (*DOMAINS_HERE, "robot"))
    check_choice("engine", engine, (*ENGINES_HERE, *ENGINES_ELSEWHERE))
    here = f"This version has the engine {', '.join(ENGINES_HERE)} with the domains {', '.join(DOMAINS_HERE)}."
    if engine in ENGINES_ELSEWHERE:
        raise ValueError(f"The engine '{engine}' is not available. {here}")
    if domain == "robot":
        raise ValueError(f"The domain 'robot' needs the engine 'franka', which is not available. {here}")
