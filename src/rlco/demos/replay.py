"""Replay recorded actions in a world, open loop, and write down what happens to everything on the table."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from rlco.core.scene import ACTION_DIM, Facts, InitialState

WAIT_STEPS = 5
"""Control steps that a world may still take after the last recorded action, for things to come to rest."""
_LOST_TRIES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """T control steps of one episode. What has T + 1 rows was read before each action and after the last one."""

    action: Float[ndarray, "T 7"]
    """What was sent: the recorded actions, then the wait."""
    tcp_pose: Float[ndarray, "T1 7"]
    gripper_width_m: Float[ndarray, " T1"]
    object_pose: Mapping[str, Float[ndarray, "T1 7"]]
    """Of everything on the table; of a fixture, its sliding part's."""
    touching: Mapping[str, Bool[ndarray, " T1"]]
    grasped: Mapping[str, Bool[ndarray, " T1"]]
    ik_failed: Bool[ndarray, " T"]

    def __len__(self) -> int:
        return len(self.action)


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """One replayed episode."""

    number: int
    """Position in the list of episodes."""
    initial: InitialState
    trace: Trace
    succeeded: bool
    """The goal was met, for the task's hold time. The trace ends there."""
    lost: bool
    """Its worker process died or its physics diverged: neither a success nor a failure."""
    timed_out: bool
    """The world cut it before the actions were over."""


def replay(
    world: Any,  # noqa: ANN401
    actions: Sequence[Float[ndarray, "_ 7"]],
    initial_states: Sequence[InitialState],
    *,
    wait_steps: int = WAIT_STEPS,
) -> Iterator[Replayed]:
    """Yield what the actions of each episode do from its initial state, in order; nothing is rendered.

    ``world``: any world of ours, ending at success or not. An episode ends at its first success, when the world cuts
    it, or ``wait_steps`` after its last action. Every value depends on the episode alone, not on ``world.num_envs``.
    Raises ``ValueError`` if the lists differ in length or an episode has no actions.
    """
    if len(actions) != len(initial_states):
        raise ValueError(f"{len(actions)} episodes of actions do not fit {len(initial_states)} initial states.")
    for number, its in enumerate(actions):
        if not len(its):
            raise ValueError(f"Episode {number} has no actions to replay.")
    return _Replayer(world, actions, initial_states, wait_steps=wait_steps).run()


def steps_for(lengths: Sequence[int], *, least: int) -> int:
    """Return after how many control steps a world may cut a replay of episodes of these lengths.

    A person's demonstration may be longer than the task's own clock.
    """
    return max([least, *(length + WAIT_STEPS + 1 for length in lengths)])


@dataclass(slots=True)
class _Running:
    number: int
    sent: list[ndarray] = field(default_factory=list)
    ik_failed: list[bool] = field(default_factory=list)
    moments: list[dict[str, Any]] = field(default_factory=list)


class _Replayer:
    """Keeps every environment busy and hands the episodes out in order."""

    def __init__(
        self,
        world: Any,  # noqa: ANN401
        actions: Sequence[Float[ndarray, "_ 7"]],
        initial_states: Sequence[InitialState],
        *,
        wait_steps: int,
    ) -> None:
        self._world, self._actions, self._initial, self._wait = world, actions, initial_states, wait_steps
        self._running: list[_Running | None] = [None] * world.num_envs
        self._waiting = deque(range(len(actions)))
        self._losses: Counter[int] = Counter()
        self._was_reset = False
        self._finished: dict[int, Replayed] = {}

    def run(self) -> Iterator[Replayed]:
        handed_out = 0
        self._fill()
        while any(self._running):
            self._step()
            while handed_out in self._finished:
                yield self._finished.pop(handed_out)
                handed_out += 1
            self._fill()

    def _fill(self) -> None:
        """Start waiting episodes in the free environments."""
        free = [e for e, running in enumerate(self._running) if running is None]
        chosen = {e: self._waiting.popleft() for e in free[: len(self._waiting)]}
        if not chosen:
            return
        # an environment that was never reset needs some start, so the first reset gives all of them one
        envs = sorted(chosen) if self._was_reset else free
        self._was_reset, spare = True, next(iter(chosen.values()))
        states = [self._initial[chosen.get(e, spare)] for e in envs]
        self._world.reset(initial_states=states, mask=np.isin(np.arange(self._world.num_envs), envs))
        facts = self._world.facts()
        for e, number in chosen.items():
            self._running[e] = _Running(number=number, moments=[_moment(facts, e, self._initial[number])])

    def _step(self) -> None:
        """Run one control step everywhere and finish what ended."""
        actions = np.zeros((self._world.num_envs, ACTION_DIM), dtype=np.float32)
        for e, running in enumerate(self._running):
            if running is not None:
                actions[e] = self._action(running)
                running.sent.append(actions[e].copy())
        _, _, _, truncated, info = self._world.step_chunk(actions[:, None], render="none")
        facts = self._world.facts()
        for e, running in enumerate(self._running):
            if running is None:
                continue
            running.ik_failed.append(bool(info["ik_failed"][e, 0]))
            running.moments.append(_moment(facts, e, self._initial[running.number]))
            lost, succeeded = bool(info["lost"][e]), bool(info["success"][e])
            if lost and self._is_tried_again(running.number):
                self._running[e] = None
                continue
            spent = len(running.sent) >= len(self._actions[running.number]) + self._wait
            if lost or succeeded or truncated[e].any() or spent:
                self._running[e] = None
                self._finished[running.number] = Replayed(
                    number=running.number,
                    initial=self._initial[running.number],
                    trace=_trace(running),
                    succeeded=succeeded and not lost,
                    lost=lost,
                    timed_out=bool(truncated[e].any()) and not (lost or succeeded),
                )

    def _is_tried_again(self, number: int) -> bool:
        """Put an episode whose worker died back in front, some times: whether a worker dies must decide nothing."""
        self._losses[number] += 1
        if self._losses[number] >= _LOST_TRIES:
            return False
        self._waiting.appendleft(number)
        return True

    def _action(self, running: _Running) -> Float[ndarray, " 7"]:
        """Return the recorded action, or a wait with the last gripper command."""
        its, t = self._actions[running.number], len(running.sent)
        action = np.array(its[min(t, len(its) - 1)], dtype=np.float32)
        if t >= len(its):
            action[:6] = 0.0
        return action


def _moment(facts: Facts, e: int, initial: InitialState) -> dict[str, Any]:
    """Return what is kept of one environment at one moment."""
    names = list(initial.object_pose)
    return {
        "tcp_pose": facts.tcp_pose[e].copy(),
        "gripper_width_m": facts.gripper_width_m[e],
        **{
            field_name: {name: np.array(getattr(facts, field_name)[name][e]) for name in names}
            for field_name in ("object_pose", "touching", "grasped")
        },
    }


def _trace(running: _Running) -> Trace:
    def stacked(field_name: str) -> dict[str, Any]:
        names = running.moments[0][field_name]
        return {name: np.stack([moment[field_name][name] for moment in running.moments]) for name in names}

    return Trace(
        action=np.stack(running.sent).astype(np.float64),
        tcp_pose=np.stack([moment["tcp_pose"] for moment in running.moments]),
        gripper_width_m=np.array([moment["gripper_width_m"] for moment in running.moments]),
        ik_failed=np.array(running.ik_failed),
        object_pose=stacked("object_pose"),
        touching=stacked("touching"),
        grasped=stacked("grasped"),
    )
