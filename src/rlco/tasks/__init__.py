"""Tasks: what is on the table, what to do with it, and how to tell that it is done."""

from rlco.core.errors import unknown_name
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

__all__ = ["TASKS", "CloseDrawer", "OpenDrawer", "PickPlace", "PushCube", "Stage", "Task", "Waypoint", "task"]


def task(name: str) -> Task:
    """Return the task of that name. Raises ``LookupError`` naming the nearest one."""
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]
