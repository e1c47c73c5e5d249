"""The models of one scene: one for each set of objects that is on the table together, and each look.

What is not on the table is not in the model, so it costs no physics. Models are compiled when they are first needed.
"""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's compiled modules carry no type stubs.

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import mujoco
import numpy as np

from rlco.core.scene import AS_IT_IS, InitialState, Look, SceneSpec
from rlco.engines.mujoco import panda
from rlco.engines.mujoco.appearance import Appearance
from rlco.engines.mujoco.dynamics import Dynamics
from rlco.engines.mujoco.scene import compile_scene

MAX_MODELS = 96
"""Models kept; the one used longest ago goes first. About 2 MB each."""
_NOBODY = -1


class Variant:
    """One model, and where its things are in MuJoCo's arrays."""

    def __init__(self, model: mujoco.MjModel, scene: SceneSpec) -> None:
        self.model = model
        self.objects = [item.name for item in scene.objects]
        self.fixtures = [item.name for item in scene.fixtures]
        self.names = [*self.objects, *self.fixtures]
        self.address = {name: int(model.joint(name).qposadr[0]) for name in self.names}
        self.dof = {name: int(model.joint(name).dofadr[0]) for name in self.names}
        self.body = {name: self._id(mujoco.mjtObj.mjOBJ_BODY, name) for name in self.names}
        self.mocap = {name: int(model.body(f"{name}/fixed").mocapid[0]) for name in self.fixtures}
        self.site = self._id(mujoco.mjtObj.mjOBJ_SITE, panda.TCP)
        self.is_robot = model.geom_contype == panda.ROBOT_CONTACT
        self.finger = np.full(model.ngeom, _NOBODY)
        for i, name in enumerate(panda.FINGERS):
            self.finger[model.geom_bodyid == self._id(mujoco.mjtObj.mjOBJ_BODY, name)] = i
        self.owner = self._owners()
        # geoms whose colour is the object's own, which differs from one environment to the next
        self.painted = self._painted(scene)
        self.rgba = model.geom_rgba

    def _id(self, kind: mujoco.mjtObj, name: str) -> int:
        return mujoco.mj_name2id(self.model, kind, name)

    def _owners(self) -> np.ndarray:
        """Return for each geom the index of the thing it belongs to."""
        owner = np.full(self.model.ngeom, _NOBODY)
        for i, name in enumerate(self.names):
            owner[self.model.geom_bodyid == self.body[name]] = i
        for name in self.fixtures:
            fixed = self._id(mujoco.mjtObj.mjOBJ_BODY, f"{name}/fixed")
            owner[self.model.geom_bodyid == fixed] = self.names.index(name)
        return owner

    def _painted(self, scene: SceneSpec) -> np.ndarray:
        """Return (geom, index of its thing) rows."""
        parts = {
            **{item.name: [(item.name, part) for part in item.parts] for item in scene.objects},
            **{
                item.name: [*((item.name, p) for p in item.sliding), *((f"{item.name}/fixed", p) for p in item.fixed)]
                for item in scene.fixtures
            },
        }
        rows: list[tuple[int, int]] = []
        for i, name in enumerate(self.names):
            geoms = np.flatnonzero(self.owner == i)
            # fixed parts belong to the outer body, which comes first in the model
            ordered = sorted(parts[name], key=lambda body_part: not body_part[0].endswith("/fixed"))
            rows += [(int(geom), i) for geom, (_, part) in zip(geoms, ordered, strict=True) if part.rgb is None]
        return np.array(rows, dtype=int).reshape(-1, 2)


class Variants:
    """Compiles and keeps the models of a scene."""

    def __init__(self, scene: SceneSpec, *, appearance: Appearance, dynamics: Dynamics, image_size: int) -> None:
        self._scene, self._appearance, self._dynamics, self._size = scene, appearance, dynamics, image_size
        self._kept: OrderedDict[tuple[frozenset[str], Look], Variant] = OrderedDict()

    def bare(self) -> Variant:
        """Return the scene with nothing on the table."""
        return self._get(frozenset(), AS_IT_IS)

    def of(self, initial: InitialState) -> Variant:
        """Return the model in which this start can be put."""
        return self._get(frozenset(initial.object_pose), initial.look)

    def _get(self, names: frozenset[str], look: Look) -> Variant:
        key = (names, look)
        if key not in self._kept:
            self._kept[key] = self._compile(names, look)
            if len(self._kept) > MAX_MODELS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _compile(self, names: frozenset[str], look: Look) -> Variant:
        scene = replace(
            self._scene,
            objects=tuple(item for item in self._scene.objects if item.name in names),
            fixtures=tuple(item for item in self._scene.fixtures if item.name in names),
        )
        appearance = self._appearance if look == AS_IT_IS else self._appearance.under(look)
        model = compile_scene(scene, appearance=appearance, dynamics=self._dynamics, image_size=self._size)
        variant = Variant(model, scene)
        unknown = names - set(variant.names)
        if unknown:
            raise ValueError(f"The scene does not know {', '.join(sorted(unknown))}.")
        return variant
