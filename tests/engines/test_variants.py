"""One model for each set of things on the table: nothing else in it, few of them, no colour shared by mistake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy import ndarray

from rlco.core.scene import InitialState, Look
from rlco.engines.mujoco import variants
from rlco.engines.mujoco.appearance import Appearance
from rlco.engines.mujoco.dynamics import Dynamics
from rlco.engines.mujoco.simulation import Simulation
from rlco.engines.mujoco.variants import Variants
from rlco.tasks import TASKS
from rlco.tasks.objects import BOWL, ITEMS

pytestmark = pytest.mark.sim
PICK = TASKS["pick-place"]
SIZE = 48


def start(item: str, *, shift: str | None = None) -> InitialState:
    return PICK.fixed_states(1, seed=0, prefix="test", objects=[item], shift=shift)[0]


@pytest.fixture(scope="module")
def twin() -> Iterator[Simulation]:
    made = Simulation(PICK.scene, num_envs=2, image_size=SIZE)
    yield made
    made.close()


def kept() -> Variants:
    return Variants(PICK.scene, appearance=Appearance(), dynamics=Dynamics(), image_size=SIZE)


def picture(simulation: Simulation, e: int) -> ndarray:
    out = np.zeros((SIZE, SIZE, 3), np.uint8)
    simulation.render(e, out)
    return out


def test_what_is_not_on_the_table_is_not_in_the_model(twin: Simulation) -> None:
    parts = {item.name: len(item.parts) for item in PICK.scene.objects}
    robot_only = kept().bare().model
    for state in (start("apple"), start("glove"), start("can", shift="clutter")):
        twin.reset(0, state)
        model = twin.model(0)
        bodies = {model.body(i).name for i in range(model.nbody)}
        assert bodies & set(parts) == set(state.object_pose)
        assert model.ngeom - robot_only.ngeom == sum(parts[name] for name in state.object_pose)
        assert model.nv - robot_only.nv == 6 * len(state.object_pose)
    drawer = TASKS["open-drawer"]
    alone = Simulation(drawer.scene, num_envs=1, image_size=8)
    alone.reset(0, drawer.fixed_states(1, seed=0, prefix="test")[0])
    assert alone.model(0).nv == robot_only.nv + 1
    alone.close()


def test_a_start_with_a_thing_that_the_scene_does_not_know_is_refused(twin: Simulation) -> None:
    state = start("apple")
    with pytest.raises(ValueError, match="does not know teapot"):
        twin.reset(0, replace(state, object_pose={**state.object_pose, "teapot": (0.5, 0, 0, 1, 0, 0, 0)}))


def test_the_order_in_which_a_start_names_its_things_is_of_no_account() -> None:
    models, state = kept(), start("apple")
    turned = replace(state, object_pose=dict(reversed(list(state.object_pose.items()))))
    assert models.of(state) is models.of(turned)
    assert models.of(replace(state, look=Look(brightness=0.6))) is not models.of(state)
    assert models.of(replace(state, look=Look())) is models.of(state)


def test_only_so_many_models_are_kept_and_the_one_used_longest_ago_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "MAX_MODELS", 3)
    models = kept()
    apple, lime, can, cube = (start(name) for name in ("apple", "lime", "can", "cube"))
    first = {name: models.of(state) for name, state in (("apple", apple), ("lime", lime), ("can", can))}
    assert models.of(apple) is first["apple"]  # used again: now lime is the oldest
    models.of(cube)
    assert len(models._kept) == 3
    assert models.of(apple) is first["apple"]
    assert models.of(can) is first["can"]
    assert models.of(lime) is not first["lime"]


def test_an_environment_goes_on_in_a_model_that_is_no_longer_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    moves = [np.array([0.02, 0.01, -0.02, 0, 0, 0, 1], np.float32)] * 4
    ends = []
    for most in (96, 1):
        monkeypatch.setattr(variants, "MAX_MODELS", most)
        simulation = Simulation(PICK.scene, num_envs=2, image_size=SIZE)
        simulation.reset(0, start("apple"))
        simulation.reset(1, start("lime"))
        for move in moves:
            simulation.control_step(0, move)
            simulation.control_step(1, move)
        ends.append((picture(simulation, 0), picture(simulation, 1), simulation.facts([0, 1]).tcp_pose))
        simulation.close()
    for many, few in zip(*ends, strict=True):
        np.testing.assert_array_equal(many, few)


def test_far_away_things_do_not_change_what_the_robot_does(twin: Simulation) -> None:
    rng = np.random.default_rng(0)
    moves = rng.uniform(-0.03, 0.03, (15, 7)).astype(np.float32)
    ways = []
    for state in (start("apple"), start("apple", shift="clutter"), start("glove", shift="clutter")):
        twin.reset(0, state)
        way = []
        for move in moves:
            twin.control_step(0, move)
            way.append(twin.observe_state(0).copy())
        ways.append(way)
    np.testing.assert_allclose(ways[1], ways[0], atol=1e-4)
    np.testing.assert_allclose(ways[2], ways[0], atol=1e-4)


def test_colours_belong_to_an_environment_and_not_to_the_model_that_two_share(twin: Simulation) -> None:
    red = start("apple")
    blue = replace(red, object_rgb={**red.object_rgb, "apple": (0.1, 0.1, 0.9)})
    twin.reset(0, red)
    alone = picture(twin, 0)
    twin.reset(1, blue)
    assert twin.model(0) is twin.model(1)
    other = picture(twin, 1)
    np.testing.assert_array_equal(picture(twin, 0), alone)
    assert (other != alone).any()
    changed = (other != alone).any(-1)
    assert other[changed].astype(int)[:, 2].mean() > other[changed].astype(int)[:, 0].mean() + 50
    # and back: resets in the other order, pictures in between
    twin.reset(0, blue)
    np.testing.assert_array_equal(picture(twin, 0), other)
    np.testing.assert_array_equal(picture(twin, 1), other)


def test_a_part_with_a_colour_of_its_own_keeps_it(twin: Simulation) -> None:
    state, leaves = start("carrot"), ITEMS["carrot"].parts[2].rgb
    assert leaves is not None
    for rgb in ((0.1, 0.1, 0.9), (0.9, 0.1, 0.1)):
        twin.reset(0, replace(state, object_rgb={**state.object_rgb, "carrot": rgb}))
        picture(twin, 0)
        model = twin.model(0)
        seen = [model.geom(name).rgba[:3] for name in ("carrot", "carrot/1", "carrot/2")]
        np.testing.assert_allclose(seen, [rgb, rgb, leaves], atol=1e-6)


def test_a_lamp_of_one_episode_does_not_shine_in_the_next(twin: Simulation) -> None:
    plain, dark = start("apple"), replace(start("apple"), look=Look(brightness=0.5))
    twin.reset(0, plain)
    before = picture(twin, 0)
    twin.reset(1, dark)
    assert picture(twin, 1).mean() < 0.7 * before.mean()
    np.testing.assert_array_equal(picture(twin, 0), before)
    twin.reset(1, plain)
    np.testing.assert_array_equal(picture(twin, 1), before)


def test_facts_of_mixed_tables_say_what_is_where(twin: Simulation) -> None:
    twin.reset(0, start("apple"))
    twin.reset(1, start("lime", shift="clutter"))
    facts = twin.facts([0, 1])
    assert np.isnan(facts.object_pose["lime"]).all(1).tolist() == [True, False]
    assert np.isnan(facts.object_speed["apple"]).tolist() == [False, True]
    assert not np.isnan(facts.object_pose[BOWL]).any()
    assert sum(name.startswith("distractor") for name in facts.object_pose) == 3
    swapped = facts.select([1, 0])
    np.testing.assert_array_equal(swapped.object_pose["apple"], facts.object_pose["apple"][::-1])
    assert [state.labels["object"] for state in swapped.initial] == ["lime", "apple"]
