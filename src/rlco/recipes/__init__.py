"""Complete runs as functions. A number in a paper comes from a recipe, never from flags."""

from __future__ import annotations

from collections.abc import Callable

from rlco.core.errors import unknown_name
from rlco.recipes.config import RunConfig
from rlco.recipes.drawers import (
    close_drawer_demo,
    close_drawer_pi05_nano,
    close_drawer_pi05_nano_debug,
    open_drawer_demo,
    open_drawer_pi05_nano,
    open_drawer_pi05_nano_debug,
)
from rlco.recipes.pick_place import pick_place_demo, pick_place_pi05_nano, pick_place_pi05_nano_debug
from rlco.recipes.push_cube import push_cube_demo, push_cube_pi05_nano, push_cube_pi05_nano_debug

RECIPES: dict[str, Callable[[], RunConfig]] = {
    "pick-place-demo": pick_place_demo,
    "pick-place-pi05-nano": pick_place_pi05_nano,
    "pick-place-pi05-nano-debug": pick_place_pi05_nano_debug,
    "push-cube-demo": push_cube_demo,
    "push-cube-pi05-nano": push_cube_pi05_nano,
    "push-cube-pi05-nano-debug": push_cube_pi05_nano_debug,
    "open-drawer-demo": open_drawer_demo,
    "open-drawer-pi05-nano": open_drawer_pi05_nano,
    "open-drawer-pi05-nano-debug": open_drawer_pi05_nano_debug,
    "close-drawer-demo": close_drawer_demo,
    "close-drawer-pi05-nano": close_drawer_pi05_nano,
    "close-drawer-pi05-nano-debug": close_drawer_pi05_nano_debug,
}


def recipe(name: str) -> RunConfig:
    """Return the configuration of the recipe of that name. Raises ``LookupError`` naming the nearest one."""
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]()
