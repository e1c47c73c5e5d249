"""Domain randomisation: every drawn start has a look of its own, and nothing else of it changes."""

from __future__ import annotations

import numpy as np

from rlco.core.scene import AS_IT_IS
from rlco.tasks import task
from rlco.tasks.shifts import LOOKS
from rlco.worlds.make import make_world


def test_drawn_starts_differ_in_look_only_and_named_ones_keep_theirs() -> None:
    with make_world("push-cube", num_envs=6, seed=3) as world:
        plain = world.reset()[0]["image"].copy()
        ordinary = list(world.initial_states)
    with make_world("push-cube", num_envs=6, seed=3, random_look=True) as world:
        seen = world.reset()[0]["image"].copy()
        drawn = list(world.initial_states)
        given = task("push-cube").fixed_states(6, seed=0, prefix="look")
        world.reset(initial_states=given)
        assert [s.look for s in world.initial_states] == [AS_IT_IS] * 6
    assert drawn[0].object_pose == ordinary[0].object_pose
    looks = [state.look for state in drawn]
    assert all(look in LOOKS for look in looks)
    assert len(set(looks)) > 1
    assert np.abs(seen.astype(float) - plain).mean(axis=(1, 2, 3)).min() > 2.0


def test_looks_are_many_and_the_same_everywhere() -> None:
    assert len(set(LOOKS)) == 16
    assert min(look.brightness for look in LOOKS) < 0.7
    assert max(look.brightness for look in LOOKS) > 1.3
    assert max(abs(v) for look in LOOKS for v in look.camera_offset_m) <= 0.03
