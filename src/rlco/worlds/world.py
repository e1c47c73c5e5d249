"""The vector environment that trains, evaluates and records: E environments in worker processes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool
from numpy import ndarray

from rlco.core.rng import numpy_generator, seed_of
from rlco.core.scene import ACTION_DIM, MAX_ROTATION_RAD, MAX_TRANSLATION_M, STATE_DIM, Facts, InitialState
from rlco.tasks import shifts
from rlco.tasks.contract import Task
from rlco.worlds.pool import WorkerLostError, WorkerPool
from rlco.worlds.spec import MAX_CHUNK, RENDER_MODES, Start, WorldSpec, check_choice

Observation = dict[str, Any]
StepResult = tuple[Observation, ndarray, ndarray, ndarray, dict[str, Any]]
_MAX_TRIES = 3
_TEXT = gym.spaces.Text(200, charset="".join(chr(code) for code in range(32, 127)))


class World(gym.vector.VectorEnv):
    """See ``rlco.worlds.make_world``. An episode that is over stays as it is until ``reset``, unless ``autoreset``."""

    def __init__(self, spec: WorldSpec, *, num_workers: int, seed: int, autoreset: bool) -> None:
        self._spec, self._seed, self._autoreset = spec, seed, autoreset
        self._rngs = self._generators(seed)
        self.num_envs = spec.num_envs
        self.metadata = {
            "autoreset_mode": AutoresetMode.SAME_STEP if autoreset else AutoresetMode.DISABLED,
            "render_fps": spec.task.control_hz,
        }
        size = spec.image_size
        self.single_observation_space = gym.spaces.Dict(
            {
                "image": gym.spaces.Box(0, 255, (size, size, 3), np.uint8),
                "state": gym.spaces.Box(-np.inf, np.inf, (STATE_DIM,), np.float32),
                "instruction": _TEXT,
            }
        )
        limit = np.array([MAX_TRANSLATION_M] * 3 + [MAX_ROTATION_RAD] * 3 + [1.0], np.float32)
        self.single_action_space = gym.spaces.Box(-limit, limit, dtype=np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._initial: list[InitialState | None] = [None] * self.num_envs
        self._lost_since_step = np.zeros(self.num_envs, dtype=bool)
        self._pool = WorkerPool(spec, num_workers=num_workers)
        self._arrays = self._pool.arrays
        self._finalizer = weakref.finalize(self, self._pool.close)

    @property
    def task(self) -> Task:
        """The task of this world."""
        return self._spec.task

    @property
    def domain(self) -> str:
        """Which of the worlds of its task this is."""
        return self._spec.domain

    @property
    def control_hz(self) -> float:
        """Control steps per second."""
        return self._spec.task.control_hz

    @property
    def max_steps(self) -> int:
        """Control steps after which an episode is cut."""
        return self._spec.max_steps

    @property
    def num_workers(self) -> int:
        """Worker processes."""
        return len(self._pool.process_ids)

    @property
    def worker_process_ids(self) -> list[int]:
        """Process ids, for monitoring."""
        return self._pool.process_ids

    @property
    def workers_lost(self) -> int:
        """Worker processes that died or hung so far, and were replaced."""
        return self._pool.replaced

    @property
    def initial_states(self) -> tuple[InitialState, ...]:
        """Where the present episodes began."""
        assert all(self._initial), "reset the world first"
        return tuple(self._initial)  # pyright: ignore[reportReturnType]

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,
        initial_states: Sequence[InitialState | None] | None = None,
        mask: Bool[ndarray, " E"] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin new episodes where ``mask`` is true (default: everywhere).

        ``initial_states`` holds one for each of those environments, in order; without it, or where it holds None, an
        environment draws its own from its generator. ``options`` may carry the same two by name. ``seed`` starts the
        generators again.
        """
        options = dict(options or {})
        initial_states = options.pop("initial_states", initial_states)
        mask = options.pop("mask", mask)
        if options:
            raise ValueError(f"Unknown reset options: {', '.join(sorted(options))}. Known: initial_states, mask.")
        if seed is not None:
            super().reset(seed=seed)
            self._seed, self._rngs = seed, self._generators(seed)
        envs = self._masked(mask)
        given = [None] * len(envs) if initial_states is None else list(initial_states)
        if len(given) != len(envs):
            raise ValueError(f"{len(envs)} environments are reset, {len(given)} initial states were given.")
        for state in given:
            if state is not None:
                self.task.check(state)
        self._begin(envs, given)
        return self._observation(), self._reset_info()

    def step(self, actions: ndarray) -> StepResult:
        """Run one control step of ``actions`` (E, 7): ``step_chunk`` with h = 1, its step axis dropped."""
        actions = np.asarray(actions)
        if actions.ndim != 2:
            raise ValueError(f"Actions must have shape ({self.num_envs}, {ACTION_DIM}), got {actions.shape}.")
        observation, rewards, terminated, truncated, info = self.step_chunk(actions[:, None])
        for name in ("valid", "ik_failed"):
            info[name] = info[name][:, 0]
        return observation, rewards[:, 0], terminated[:, 0], truncated[:, 0], info

    def step_chunk(self, actions: ndarray, *, render: str | None = None) -> StepResult:
        """Run the h control steps of ``actions`` (E, h, 7) open loop; return what is seen after them.

        Rewards and flags have shape (E, h). Steps after an episode's end are not simulated: reward 0 and
        ``info["valid"]`` false. ``render`` replaces the world's own mode in this call; with ``"all"``,
        ``info["images"]`` and ``info["states"]`` hold what is seen after every step.
        """
        render = self._spec.render if render is None else render
        check_choice("render mode", render, RENDER_MODES)
        steps = self._load_actions(actions)
        if None in self._initial:
            raise ValueError("Reset the world before stepping it.")
        over = self._arrays["done"].copy()
        try:
            self._call("step", steps, render)
        except WorkerLostError as error:
            self._recover(error.workers)
        self._mark_lost(over, steps)
        result = self._result(steps, render)
        if self._autoreset and self._arrays["done"].any():
            self._restart(result)
        return result

    def observe(self) -> Observation:
        """Return the present observation, rendered again."""
        self._retry(lambda: self._call("observe"))
        return self._observation()

    def facts(self) -> Facts:
        """Return body poses. Privileged: for operators and generators, never for a policy."""
        return Facts.concatenate(self._retry(lambda: self._call("facts")))

    def state(self) -> dict[str, Any]:
        """Return everything that decides how this world goes on; it pickles, for any number of workers."""
        episodes = self._retry(lambda: self._call("state"))
        return {
            "world": self._identity(),
            "seed": self._seed,
            "rngs": [rng.bit_generator.state for rng in self._rngs],
            "initial": [state.to_json() for state in self.initial_states],
            "lost": self._lost_since_step.copy(),
            "episodes": [episode for part in episodes for episode in part],
        }

    def restore(self, state: dict[str, Any]) -> Observation:
        """Go on exactly where ``state`` was taken, bit for bit; return the observation there."""
        if state["world"] != self._identity():
            raise ValueError(f"This state belongs to another world: {state['world']}, not {self._identity()}.")
        self._seed = state["seed"]
        for rng, saved in zip(self._rngs, state["rngs"], strict=True):
            rng.bit_generator.state = saved
        self._initial = [InitialState.from_json(value) for value in state["initial"]]
        parts = [[state["episodes"][e] for e in self._pool.envs(w)] for w in range(self.num_workers)]
        self._retry(lambda: self._pool.call("restore", [(part,) for part in parts]))
        # after it: a worker that was lost before or meanwhile has got its episodes back
        self._lost_since_step = state["lost"].copy()
        return self._observation()

    def close_extras(self, **kwargs: Any) -> None:  # noqa: ANN401  (gymnasium's signature)
        """End the worker processes."""
        del kwargs
        self._finalizer()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _generators(self, seed: int) -> list[np.random.Generator]:
        return [numpy_generator(seed, "env", e) for e in range(self._spec.num_envs)]

    def _masked(self, mask: Bool[ndarray, " E"] | None) -> list[int]:
        if mask is None:
            return list(range(self.num_envs))
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ValueError(f"mask must be {self.num_envs} bools, got shape {mask.shape} of {mask.dtype}.")
        if None in self._initial and not mask.all():
            raise ValueError("The first reset must reset every environment.")
        return np.flatnonzero(mask).tolist()

    def _begin(self, envs: Sequence[int], given: Sequence[InitialState | None]) -> None:
        for e, state in zip(envs, given, strict=True):
            self._initial[e] = state or self._drawn(self._rngs[e])
        self._retry(lambda: self._place(envs))
        self._lost_since_step[envs] = False

    def _drawn(self, rng: np.random.Generator) -> InitialState:
        state = self.task.sample_initial_state(rng)
        return shifts.random_look(state, rng) if self._spec.random_look else state

    def _place(self, envs: Sequence[int]) -> list[Any]:
        """Put environments at their initial states."""
        chosen = set(envs)
        starts = [
            [self._start(e, first=part.start) for e in part if e in chosen]
            for part in (self._pool.envs(w) for w in range(self.num_workers))
        ]
        return self._pool.call("reset", [(part,) if part else None for part in starts])

    def _start(self, e: int, *, first: int) -> Start:
        state = self._initial[e]
        assert state is not None
        # the noise belongs to the named start: the same on every environment
        return Start(env=e - first, initial=state, noise_seed=seed_of(self._seed, "noise", state.name) % 2**31)

    def _load_actions(self, actions: ndarray) -> int:
        """Check and share the actions; return h."""
        actions = np.asarray(actions, dtype=np.float32)
        steps = actions.shape[1] if actions.ndim == 3 else 0
        if actions.shape != (self.num_envs, steps, ACTION_DIM) or not 1 <= steps <= MAX_CHUNK:
            wanted = f"({self.num_envs}, h, {ACTION_DIM}) with h from 1 to {MAX_CHUNK}"
            raise ValueError(f"Actions must have shape {wanted}, got {actions.shape}.")
        if not np.isfinite(actions).all():
            e, step, _ = np.argwhere(~np.isfinite(actions))[0]
            raise ValueError(f"The action of environment {e} at step {step} is not finite: {actions[e, step]}.")
        self._arrays["actions"][:, :steps] = actions
        return steps

    def _call(self, command: str, *arguments: Any) -> list[Any]:  # noqa: ANN401
        return self._pool.call(command, [arguments] * self.num_workers)

    def _retry(self, ask: Callable[[], list[Any]]) -> list[Any]:
        """Ask again after a lost worker is replaced and its environments are at their starts."""
        for _ in range(_MAX_TRIES):
            try:
                return ask()
            except WorkerLostError as error:
                self._recover(error.workers)
        raise self._hopeless()

    def _recover(self, workers: Sequence[int]) -> None:
        """Put the environments of replaced workers at their initial states; their episodes are lost."""
        for _ in range(_MAX_TRIES):
            envs = [e for w in workers for e in self._pool.envs(w)]
            self._lost_since_step[envs] = True
            if None in self._initial:
                return
            try:
                self._place(envs)
            except WorkerLostError as error:
                workers = sorted({*workers, *error.workers})
                continue
            self._arrays["done"][envs] = True
            return
        raise self._hopeless()

    @staticmethod
    def _hopeless() -> RuntimeError:
        return RuntimeError(f"Worker processes of the world died {_MAX_TRIES} times in a row.")

    def _mark_lost(self, over: Bool[ndarray, " E"], steps: int) -> None:
        """Write the rows of episodes that were lost with their worker; ``over``: had ended before this call."""
        rows = self._lost_since_step
        self._arrays["lost"][over & ~rows] = False
        if not rows.any():
            return
        for name in ("rewards", "terminated", "truncated", "valid", "ik_failed"):
            self._arrays[name][rows, :steps] = 0
        self._arrays["truncated"][rows, 0] = True
        self._arrays["lost"][rows] = True
        self._lost_since_step[:] = False

    def _result(self, steps: int, render: str) -> StepResult:
        arrays = self._arrays
        rewards, terminated, truncated, valid, ik_failed = (
            arrays[name][:, :steps].copy() for name in ("rewards", "terminated", "truncated", "valid", "ik_failed")
        )
        info: dict[str, Any] = {
            "valid": valid,
            "ik_failed": ik_failed,
            "initial_states": list(self.initial_states),
            **{name: arrays[name].copy() for name in ("success", "done", "lost")},
        }
        if render == "all":
            info |= {name: arrays[name][:, :steps].copy() for name in ("images", "states")}
        return self._observation(), rewards, terminated, truncated, info

    def _restart(self, result: StepResult) -> None:
        """Begin new episodes where the last one is over; the last observation moves to ``final_obs``."""
        observation, *_, info = result
        done = info["done"]
        final = np.full(self.num_envs, None, dtype=object)
        envs = np.flatnonzero(done).tolist()
        for e in envs:
            final[e] = {name: np.copy(observation[name][e]) for name in ("image", "state")}
            final[e]["instruction"] = observation["instruction"][e]
        self._begin(envs, [None] * len(envs))
        info["final_obs"], info["_final_obs"] = final, done
        observation.update(self._observation())

    def _observation(self) -> Observation:
        return {
            "image": self._arrays["image"].copy(),
            "state": self._arrays["state"].copy(),
            "instruction": [state.instruction for state in self.initial_states],
        }

    def _reset_info(self) -> dict[str, Any]:
        info = {name: self._arrays[name].copy() for name in ("success", "done", "lost")}
        return {**info, "initial_states": list(self.initial_states)}

    def _identity(self) -> dict[str, Any]:
        spec = self._spec
        return {
            "task": spec.task.name,
            "domain": spec.domain,
            "engine": spec.engine,
            "reality": spec.reality,
            "num_envs": spec.num_envs,
            "image_size": spec.image_size,
        }
