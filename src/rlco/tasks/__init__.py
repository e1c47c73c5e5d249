"""Tasks: what is on the table, what to do with it, and how to tell that it is done."""

from rlco.core.errors import unknown_name
from rlco.tasks.contract import Stage, Task, Waypoint
from rlco.tasks.push_cube import PushCube

TASKS: dict[str, Task] = {"push-cube": PushCube()}

__all__ = ["TASKS", "PushCube", "Stage", "Task", "Waypoint", "task"]


def task(name: str) -> Task:
    """Return the task of that name. Raises ``LookupError`` naming the nearest one."""
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]
