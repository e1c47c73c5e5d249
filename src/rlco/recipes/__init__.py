"""Complete runs as functions. A number in a paper comes from a recipe, never from flags."""

from __future__ import annotations

from collections.abc import Callable

from rlco.core.errors import unknown_name
from rlco.recipes.config import RunConfig
from rlco.recipes.push_cube import push_cube_demo, push_cube_pi05_nano, push_cube_pi05_nano_debug

RECIPES: dict[str, Callable[[], RunConfig]] = {
    "push-cube-demo": push_cube_demo,
    "push-cube-pi05-nano": push_cube_pi05_nano,
    "push-cube-pi05-nano-debug": push_cube_pi05_nano_debug,
}


def recipe(name: str) -> RunConfig:
    """Return the configuration of the recipe of that name. Raises ``LookupError`` naming the nearest one."""
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]()
