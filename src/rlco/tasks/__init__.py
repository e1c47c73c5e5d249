"""Tasks: what is on the table, what to do with it, and how to tell that it is done."""

from dataclasses import asdict
from functools import cache
from typing import Any

from rlco.core.errors import unknown_name
from rlco.core.files import fingerprint
from rlco.tasks.close_drawer import CloseDrawer
from rlco.tasks.contract import Stage, Task, Waypoint
from rlco.tasks.open_drawer import OpenDrawer
from rlco.tasks.pick_place import PickPlace
from rlco.tasks.push_cube import PushCube

TASKS: dict[str, Task] = {
    "pick-place": PickPlace(),
    "push-cube": PushCube(),
    "open-drawer": OpenDrawer(),
    "close-drawer": CloseDrawer(),
}

__all__ = [
    "TASKS",
    "CloseDrawer",
    "OpenDrawer",
    "PickPlace",
    "PushCube",
    "Stage",
    "Task",
    "Waypoint",
    "task",
    "task_fingerprint",
]
_SHOWN_STATES = 8


def task(name: str) -> Task:
    """Return the task of that name. Raises ``LookupError`` naming the nearest one."""
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


@cache
def task_fingerprint(name: str) -> str:
    """Return what tells a task from what it was: its numbers, its scene, its first starts.

    What was made of another one is not this one's. Raises ``LookupError`` naming the nearest task.
    """
    one: Any = task(name)  # a dataclass, whatever the contract says of it
    states = one.fixed_states(_SHOWN_STATES, seed=0, prefix="fingerprint")
    return fingerprint(
        {
            "numbers": asdict(one),
            "scene": asdict(one.scene),
            "states": [state.to_json() for state in states],
        }
    )
