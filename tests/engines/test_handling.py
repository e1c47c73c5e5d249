"""Things lie still, can be grasped, stay in the hand; the drawer slides as its dynamics say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy import ndarray

from rlco.core.scene import InitialState
from rlco.demos.operator import EXACT, Operator
from rlco.engines.mujoco.dynamics import Dynamics
from rlco.engines.mujoco.simulation import Simulation
from rlco.tasks import TASKS
from rlco.tasks.drawer import DRAWER, point
from rlco.tasks.objects import BOWL, ITEMS

pytestmark = pytest.mark.sim
PICK, OPENING, CLOSING = TASKS["pick-place"], TASKS["open-drawer"], TASKS["close-drawer"]
STAY = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)
LIFTED = 4
"""The way-point of pick-place's expert after the lift."""
HZ = 5


@pytest.fixture(scope="module")
def twin() -> Iterator[Simulation]:
    made = Simulation(PICK.scene, num_envs=1, image_size=8)
    yield made
    made.close()


def start(item: str) -> InitialState:
    return PICK.fixed_states(1, seed=0, prefix="test", objects=[item])[0]


def place(simulation: Simulation, name: str) -> ndarray:
    return simulation.facts([0], touching=False).object_pose[name][0, :3].copy()


def lift(simulation: Simulation, state: InitialState) -> None:
    """Let the exact operator grasp the object and lift it to the carrying height."""
    operator = Operator(PICK, num_envs=1, seed=0, style=EXACT)
    operator.start(0, state, 0)
    simulation.reset(0, state)
    for _ in range(PICK.max_steps):
        hand = operator._hands[0]
        assert hand is not None
        if hand.next >= LIFTED:
            return
        simulation.control_step(0, operator.act(simulation.facts([0]), {})[0])
    pytest.fail(f"{state.labels['object']} was never lifted")


def test_there_are_thirty_two_things_to_handle() -> None:
    assert len(ITEMS) == 32


@pytest.mark.parametrize("name", list(ITEMS))
def test_it_rests_where_it_is_said_to_rest(twin: Simulation, name: str) -> None:
    state = start(name)
    twin.reset(0, state)
    for _ in range(HZ):
        twin.control_step(0, STAY)
    for thing in (name, BOWL):
        moved_m = np.linalg.norm(place(twin, thing) - state.object_pose[thing][:3])
        assert moved_m < 0.005
    assert twin.facts([0]).object_speed[name][0] < 0.02


@pytest.mark.parametrize("name", list(ITEMS))
def test_it_can_be_grasped_and_lifted(twin: Simulation, name: str) -> None:
    state = start(name)
    lift(twin, state)
    facts = twin.facts([0])
    assert facts.grasped[name][0]
    assert not facts.touching[BOWL][0]
    assert place(twin, name)[2] - state.object_pose[name][2] > 0.08
    assert facts.gripper_width_m[0] > 0.004


@pytest.mark.parametrize(
    "name",
    ["can", "banana", "sponge", "cube", "orange", "cup", "duck"],
)
def test_what_is_held_does_not_creep_out_of_the_hand(twin: Simulation, name: str) -> None:
    lift(twin, start(name))
    for _ in range(3):
        twin.control_step(0, STAY)
    facts = twin.facts([0])
    before = place(twin, name) - facts.tcp_pose[0, :3]
    for _ in range(10 * HZ):
        twin.control_step(0, STAY)
    after = place(twin, name) - twin.facts([0]).tcp_pose[0, :3]
    assert twin.facts([0]).grasped[name][0]
    assert np.linalg.norm(after - before) < 0.004


def pulled(dynamics: Dynamics, *, force_n: float, seconds: float = 0.4) -> float:
    """Return by how much a force of the given size opens the drawer, with nobody near [m]."""
    simulation = Simulation(OPENING.scene, num_envs=1, image_size=8, dynamics=dynamics)
    simulation.reset(0, OPENING.fixed_states(1, seed=0, prefix="test")[0])
    data, joint = simulation.data(0), simulation.model(0).joint(DRAWER)
    for _ in range(round(seconds * HZ)):
        data.qfrc_applied[joint.dofadr[0]] = force_n
        simulation.control_step(0, STAY)
    opening = simulation.facts([0]).joint_value[DRAWER][0]
    simulation.close()
    return float(opening)


def test_the_drawer_slides_by_its_own_friction_and_damping() -> None:
    # dry friction of 1 N: less hardly moves it (friction is soft: it creeps), more does
    assert pulled(Dynamics(), force_n=0.9) < 0.002
    free = pulled(Dynamics(), force_n=1.4)
    assert free > 0.01
    # m x'' = (F - 1) - 4 x': from rest, m = 0.3 kg, 0.4 N over for 0.4 s
    rate = 4.0 / 0.3
    expected = 0.4 / 4.0 * (0.4 - (1 - np.exp(-rate * 0.4)) / rate)
    assert free == pytest.approx(expected, rel=0.1)


def test_the_drawers_dynamics_scale_its_friction_and_its_damping() -> None:
    free = pulled(Dynamics(), force_n=1.4)
    assert pulled(Dynamics(drawer_friction_scale=1.5), force_n=1.4) < 0.002  # 1.5 N hold it
    stiff = pulled(Dynamics(drawer_damping_scale=2.0), force_n=1.4)
    rate = 8.0 / 0.3
    assert stiff == pytest.approx(0.4 / 8.0 * (0.4 - (1 - np.exp(-rate * 0.4)) / rate), rel=0.1)
    assert stiff < 0.75 * free


def test_the_drawers_pose_is_its_sliding_parts_and_its_cabinet_stays() -> None:
    simulation = Simulation(CLOSING.scene, num_envs=1, image_size=8)
    state = CLOSING.fixed_states(2, seed=0, prefix="test")[1]
    simulation.reset(0, state)
    facts, data = simulation.facts([0]), simulation.data(0)
    np.testing.assert_allclose(facts.object_pose[DRAWER][0], state.object_pose[DRAWER], atol=1e-9)
    assert facts.joint_value[DRAWER][0] == state.joint_value[DRAWER]
    cabinet = data.body(f"{DRAWER}/fixed").xpos.copy()
    operator = Operator(CLOSING, num_envs=1, seed=0, style=EXACT)
    operator.start(0, state, 0)
    for _ in range(15):
        simulation.control_step(0, operator.act(simulation.facts([0]), {})[0])
    facts = simulation.facts([0])
    assert facts.joint_value[DRAWER][0] < 0.006
    np.testing.assert_array_equal(data.body(f"{DRAWER}/fixed").xpos, cabinet)
    # closed, the two frames are one
    np.testing.assert_allclose(facts.object_pose[DRAWER][0, :3], cabinet, atol=0.006)
    simulation.close()


@pytest.mark.parametrize("height_m", [0.0, 0.015, 0.028])
@pytest.mark.parametrize(("aside_m", "closes"), [(0.0, True), (-0.06, False), (0.06, False)])
def test_fingers_close_the_drawer_and_a_hand_beside_it_does_not(
    *, aside_m: float, height_m: float, closes: bool
) -> None:
    simulation = Simulation(CLOSING.scene, num_envs=1, image_size=8)
    state = CLOSING.fixed_states(2, seed=0, prefix="test")[1]
    simulation.reset(0, state)
    pose = np.array(state.object_pose[DRAWER])
    for x, z, steps in ((-0.10, 0.10, 15), (-0.10, height_m, 8), (0.10, height_m, 20)):
        goal = point(pose, (x, aside_m, z))
        for _ in range(steps):
            way = goal - simulation.facts([0]).tcp_pose[0, :3]
            way *= min(1.0, 0.03 / max(np.linalg.norm(way), 1e-9))
            simulation.control_step(0, np.array([*way, 0, 0, 0, -1], np.float32))
    left = simulation.facts([0]).joint_value[DRAWER][0]
    simulation.close()
    assert (left < 0.02) == closes
    assert closes or left == pytest.approx(state.joint_value[DRAWER], abs=0.002)


@pytest.mark.parametrize("heavy", [False, True])
def test_the_hand_pulls_the_drawer_open_also_where_it_is_stiff(*, heavy: bool) -> None:
    worst = Dynamics(drawer_damping_scale=3.0, drawer_friction_scale=2.0, stiffness_scale=0.3, latency_s=0.1)
    simulation = Simulation(OPENING.scene, num_envs=1, image_size=8, dynamics=worst if heavy else Dynamics())
    state = OPENING.fixed_states(1, seed=0, prefix="test")[0]
    simulation.reset(0, state)
    operator = Operator(OPENING, num_envs=1, seed=0, style=EXACT)
    operator.start(0, state, 0)
    for _ in range(OPENING.max_steps):
        simulation.control_step(0, operator.act(simulation.facts([0]), {})[0])
        if OPENING.succeeded(simulation.facts([0]))[0]:
            break
    facts = simulation.facts([0])
    assert OPENING.succeeded(facts)[0]
    assert facts.grasped[DRAWER][0]  # pulled by its handle, not flung open
    simulation.close()
