"""RL-based sim-real co-training of vision-language-action policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from rlco.worlds.make import make_world

__version__ = "0.1.0"
__all__ = ["GYMNASIUM_IDS", "__version__", "make_world"]

GYMNASIUM_IDS = {
    "rlco/PickPlace-v0": "pick-place",
    "rlco/PushCube-v0": "push-cube",
    "rlco/OpenDrawer-v0": "open-drawer",
    "rlco/CloseDrawer-v0": "close-drawer",
}
"""Name in gymnasium's registry -> task. Written out so that importing the package loads none of its parts."""

for _name, _task in GYMNASIUM_IDS.items():
    if _name not in gymnasium.registry:
        gymnasium.register(_name, vector_entry_point="rlco.worlds.make:make_world", kwargs={"task": _task})


def __getattr__(name: str) -> Any:  # noqa: ANN401  (a module attribute)
    """Load ``make_world`` when it is asked for."""
    if name == "make_world":
        from rlco.worlds.make import make_world

        return make_world
    raise AttributeError(f"module 'rlco' has no attribute '{name}'")
