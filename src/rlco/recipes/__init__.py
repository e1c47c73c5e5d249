"""Complete runs as functions. A number in a paper comes from a recipe, never from flags."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rlco.core.errors import unknown_name
from rlco.recipes.budgets import BUDGETS, budgeted, compared, debug
from rlco.recipes.config import RunConfig
from rlco.recipes.drawers import close_drawer_demo, open_drawer_demo
from rlco.recipes.pick_place import pick_place_demo
from rlco.recipes.push_cube import push_cube_demo

DEMOS: dict[str, Callable[[], RunConfig]] = {
    "pick-place": pick_place_demo,
    "push-cube": push_cube_demo,
    "open-drawer": open_drawer_demo,
    "close-drawer": close_drawer_demo,
}
"""Task -> the main job within 20 minutes on two CPU cores."""


def demo(task: str, base: str) -> RunConfig:
    """Return the main job of ``task`` for a shipped base. Raises ``LookupError`` naming the nearest one."""
    return budgeted(DEMOS[task](), base)


def main_result(task: str, base: str) -> RunConfig:
    """Return the job of a table of results."""
    return compared(demo(task, base))


def seconds(task: str, base: str) -> RunConfig:
    """Return every stage of the demo in seconds; proves nothing."""
    return debug(demo(task, base))


RECIPES: dict[str, Callable[[], RunConfig]] = {
    **{f"{task}-demo": job for task, job in DEMOS.items()},
    **{f"{task}-{base}": partial(main_result, task, base) for task in DEMOS for base in BUDGETS},
    **{f"{task}-{base}-debug": partial(seconds, task, base) for task in DEMOS for base in BUDGETS},
}
"""``TASK-demo``, ``TASK-BASE`` and ``TASK-BASE-debug``."""


def recipe(name: str) -> RunConfig:
    """Return the configuration of the recipe of that name. Raises ``LookupError`` naming the nearest one."""
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]()
