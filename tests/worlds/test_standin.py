"""The stand-in differs from the twin, is fixed by its number, and cannot be reached from a training process."""

from __future__ import annotations

import ast
import gc
import os
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import rlco
from rlco.engines.mujoco.appearance import Appearance
from rlco.engines.mujoco.dynamics import MAX_LATENCY_S, Dynamics
from rlco.worlds import standin
from rlco.worlds.make import make_world

SOURCE = Path(rlco.__file__).parent
HIDDEN = ("StandIn", "StandInRanges", "Appearance", "Dynamics", "Simulation", "MjModel")


def imported(path: Path) -> set[str]:
    """Return every module name that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def reachable(root: object) -> set[str]:
    """Return the type names of everything that ``root`` holds, without walking through modules and classes."""
    seen: dict[int, object] = {}
    stack = [root]
    while stack:
        item = stack.pop()
        if id(item) in seen or isinstance(item, (type, type(sys))):
            continue
        seen[id(item)] = item
        stack += [value for value in gc.get_referents(item) if value is not sys.modules]
    return {type(item).__name__ for item in seen.values()}


def test_only_the_worker_process_imports_the_stand_in() -> None:
    users = {path for path in SOURCE.rglob("*.py") if "rlco.worlds.standin" in imported(path)}
    assert users == {SOURCE / "worlds" / "worker.py"}
    starters = {path for path in SOURCE.rglob("*.py") if "rlco.worlds.worker" in imported(path)}
    assert starters == set()  # it is only ever started as a program


@pytest.mark.sim
def test_no_parameter_of_the_stand_in_is_reachable_from_its_world() -> None:
    with make_world("push-cube", domain="standin", reality=1, num_envs=2, image_size=32) as world:
        world.reset()
        *_, info = world.step_chunk(np.zeros((2, 2, 7)))
        held = reachable(world) | reachable([info, world.state(), world.facts()])
        assert "World" in held
        assert "WorldSpec" in held  # the walk does reach what the world is made of
        assert not held & set(HIDDEN)


@pytest.mark.sim
def test_a_training_process_loads_neither_the_stand_in_nor_an_engine_nor_torch() -> None:
    script = (
        "import sys, rlco, numpy as np\n"
        "with rlco.make_world('push-cube', domain='standin', image_size=32) as world:\n"
        "    world.reset(); world.step(np.zeros((1, 7))); world.state(); world.facts()\n"
        "print(sorted({'rlco.worlds.standin', 'mujoco', 'torch'} & set(sys.modules)))\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=environment, check=True
    )
    assert done.stdout.strip() == "[]"


def test_worker_processes_import_no_torch() -> None:
    for folder in ("engines", "tasks", "worlds"):
        for path in (SOURCE / folder).rglob("*.py"):
            assert not any(name.split(".")[0] == "torch" for name in imported(path)), path


def test_a_reality_is_drawn_once_and_for_all() -> None:
    assert standin.draw(1) == standin.draw(1)
    assert standin.draw(1) != standin.draw(2)


@pytest.mark.parametrize("reality", range(20))
def test_every_reality_stays_inside_the_stated_limits(reality: int) -> None:
    drawn, ranges = standin.draw(reality), standin.RANGES
    look, moves = drawn.appearance, drawn.dynamics
    assert np.abs(look.camera_offset_m).max() <= 0.015
    assert np.abs(look.camera_offset_rad).max() <= np.deg2rad(1.5)
    assert 0 <= moves.latency_s <= MAX_LATENCY_S
    for name in ("friction_scale", "mass_scale", "stiffness_scale", "damping_scale", "gripper_speed_scale"):
        low, high = getattr(ranges, name)
        assert low <= getattr(moves, name) <= high
    for item in look.clutter:
        x, y, _ = item.position_m
        assert abs(y) > 0.25 or x > 0.78 or x < 0.2  # outside the cubes' area


def test_strength_zero_is_the_twin_in_every_field() -> None:
    none = replace(standin.RANGES, appearance_strength=0.0, dynamics_strength=0.0)
    drawn = standin.draw(3, ranges=none)
    assert drawn.dynamics == Dynamics()
    for field in fields(Appearance):
        if field.name != "texture_seed":
            assert getattr(drawn.appearance, field.name) == getattr(Appearance(), field.name), field.name
    assert is_dataclass(drawn)
