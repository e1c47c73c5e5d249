"""What a task is in a few words, with its numbers: for people who choose one, and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlco.tasks import CloseDrawer, OpenDrawer, PickPlace, PushCube, Task
from rlco.tasks.drawer import TRAVEL_M
from rlco.tasks.objects import IRREGULAR_NAMES, TRAINING_NAMES
from rlco.tasks.push_cube import COLOURS


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskCard:
    """See the module's docstring."""

    name: str
    instruction: str
    """An example."""
    paraphrases: tuple[str, ...]
    control_hz: float
    max_steps: int
    hold_steps: int
    """Control steps in a row for which the goal must be met."""
    success: str
    sparse: str
    """What is paid, each once an episode."""
    dense: str
    objects: tuple[str, ...]
    """Training objects that a start may be drawn from; empty where there is nothing to choose."""
    unseen_objects: tuple[str, ...]
    """Objects of the shift with that name."""
    shifts: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Return the longest episode [s]."""
        return self.max_steps / self.control_hz


@dataclass(frozen=True, kw_only=True, slots=True)
class _Words:
    """What no field of a task says."""

    success: str
    dense: str
    objects: Sequence[str] = ()
    unseen_objects: Sequence[str] = ()


def card(task: Task) -> TaskCard:
    """Return the task's card; a task from elsewhere says of itself what the contract makes it say."""
    state, words = task.fixed_states(1, seed=0, prefix="card")[0], _words(task)
    events = (f"{e.reward:+g} ({e.event}{f', after {e.after}' if e.after else ''})" for e in task.event_rewards)
    return TaskCard(
        name=task.name,
        instruction=state.instruction,
        paraphrases=task.paraphrases(state),
        control_hz=task.control_hz,
        max_steps=task.max_steps,
        hold_steps=task.hold_steps,
        success=words.success,
        sparse=", ".join(events),
        dense=words.dense,
        objects=tuple(words.objects),
        unseen_objects=tuple(words.unseen_objects),
        shifts=task.shifts,
    )


def _words(task: Task) -> _Words:
    match task:
        case PickPlace():
            released = ", with the hand off it and at rest" if task.needs_release else ""
            return _Words(
                success=f"the object lies in the bowl, within {_cm(task.inside_m)} of its middle{released}",
                dense="(nearness of hand and object + 1 while grasped + nearness of object and bowl while grasped) / 5",
                objects=TRAINING_NAMES,
                unseen_objects=IRREGULAR_NAMES,
            )
        case PushCube():
            return _Words(
                success=f"the named cube's centre is {_cm(task.goal_x_m)} from the robot's base or farther, "
                f"and within {_cm(task.band_m)} of the line straight ahead of its start",
                dense="(nearness of hand and pushing point + nearness of cube and goal while the hand is there) / 3",
                objects=tuple(COLOURS),
            )
        case OpenDrawer():
            share = f"{100 * task.open_share:.0f} %"
            return _Words(
                success=f"the drawer is open by {share} of its {_cm(TRAVEL_M)} or more",
                dense="(nearness of hand and handle, 1 once it has begun to open + 2 x open share) / 5",
            )
        case CloseDrawer():
            share = f"{100 * task.open_share:.0f} %"
            return _Words(
                success=f"the drawer is open by {share} of its {_cm(TRAVEL_M)} or less",
                dense=f"({task.gain:g} x share closed in the step - {task.time_penalty:g}) / 5",
            )
    return _Words(success="as the task's own 'succeeded' says", dense="as the task's own 'dense_reward' says")


def _cm(length_m: float) -> str:
    return f"{np.round(100 * length_m, 1):g} cm"
