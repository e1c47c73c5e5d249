"""One process: tracking, signs, latency, rendering, exact save and restore."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from rlco.core.poses import quat_multiply, rpy_to_quat
from rlco.core.scene import MAX_TRANSLATION_M, InitialState
from rlco.engines.mujoco.appearance import Appearance
from rlco.engines.mujoco.controller import _turned
from rlco.engines.mujoco.dynamics import Dynamics
from rlco.engines.mujoco.simulation import Simulation
from rlco.tasks import task

pytestmark = pytest.mark.sim
PUSH = task("push-cube")
STATES = PUSH.fixed_states(4, seed=0, prefix="test")
SIZE = 48


def simulation(**arguments: object) -> Simulation:
    return Simulation(PUSH.scene, image_size=SIZE, **{"num_envs": 1, **arguments})  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def twin() -> Iterator[Simulation]:
    made = simulation(num_envs=2)
    yield made
    made.close()


def action(*values: float, gripper: float = -1.0) -> np.ndarray:
    return np.array([*values, *[0.0] * (6 - len(values)), gripper], dtype=np.float32)


def picture(sim: Simulation, e: int) -> np.ndarray:
    out = np.zeros((SIZE, SIZE, 3), np.uint8)
    sim.render(e, out)
    return out


def test_five_times_two_centimetres_are_ten(twin: Simulation) -> None:
    twin.reset(0, STATES[0])
    start = twin.observe_state(0)[:3]
    for axis in (0, 1, 2):
        for sign in (1, -1):
            for _ in range(5):
                assert twin.control_step(0, action(*(sign * 0.02 * np.eye(3)[axis])))
            moved = twin.observe_state(0)[:3] - start
            expected = 0.1 * np.eye(3)[axis] * (sign > 0)
            np.testing.assert_allclose(moved, expected, atol=0.004)
    twin.control_step(0, action())
    np.testing.assert_allclose(twin.observe_state(0)[:3], start, atol=5e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_positive_rotation_turns_the_tcp_positively(twin: Simulation, axis: int, sign: float) -> None:
    twin.reset(0, STATES[0])
    for _ in range(3):
        twin.control_step(0, action(0, 0, 0, *(sign * 0.1 * np.eye(3)[axis])))
    twin.control_step(0, action())
    expected = 0.3 * sign * np.eye(3)[axis]
    np.testing.assert_allclose(twin.observe_state(0)[3:6], expected, atol=0.01)


def test_actions_are_clipped_to_one_step_and_the_target_to_the_workspace(twin: Simulation) -> None:
    twin.reset(0, STATES[0])
    x = twin.observe_state(0)[0]
    twin.control_step(0, action(1.0))
    twin.control_step(0, action())
    assert twin.observe_state(0)[0] - x == pytest.approx(MAX_TRANSLATION_M, abs=1e-3)
    for _ in range(10):
        twin.control_step(0, action(0, 0, -0.05))
    assert twin.observe_state(0)[2] > 0.009


def test_an_unreachable_command_is_reported_and_does_not_wind_up(twin: Simulation) -> None:
    twin.reset(0, STATES[0])
    reached = [twin.control_step(0, action(0, 0, 0, 0, 0.25, 0)) for _ in range(12)]
    assert reached[0]
    assert not all(reached)
    before = twin.observe_state(0)
    for _ in range(2):
        assert twin.control_step(0, action(0, 0, 0, 0, -0.2, 0))
    twin.control_step(0, action())
    turned = np.linalg.norm(twin.observe_state(0)[3:6] - before[3:6])
    assert turned > 0.2


def test_the_gripper_follows_its_sign(twin: Simulation) -> None:
    twin.reset(0, STATES[0])
    assert twin.observe_state(0)[6:].tolist() == [0.0, -1.0]
    for _ in range(4):
        twin.control_step(0, action(gripper=0.3))
    width, command = twin.observe_state(0)[6:]
    assert (width, command) == (pytest.approx(0.08, abs=2e-3), 1.0)


def test_latency_delays_the_motion_by_its_length() -> None:
    moved = []
    for latency in (0.0, 0.08):
        sim = simulation(dynamics=Dynamics(latency_s=latency))
        sim.reset(0, STATES[0])
        x = sim.observe_state(0)[0]
        sim.control_step(0, action(0.05))
        moved.append(sim.observe_state(0)[0] - x)
        for _ in range(2):
            sim.control_step(0, action())
        assert sim.observe_state(0)[0] - x == pytest.approx(0.05, abs=1e-3)
        sim.close()
    assert 0.005 < moved[1] < 0.7 * moved[0]


def test_a_reset_is_at_rest(twin: Simulation) -> None:
    twin.reset(0, STATES[1])
    for _ in range(3):
        twin.control_step(0, action())
    facts = twin.facts([0])
    for name, pose in facts.object_pose.items():
        np.testing.assert_allclose(pose[0, :3], STATES[1].object_pose[name][:3], atol=3e-4)
    np.testing.assert_allclose(facts.tcp_pose[0, :3], [0.38, 0, 0.12], atol=3e-4)


def test_touching_is_seen_when_the_fingers_push(twin: Simulation) -> None:
    twin.reset(0, STATES[0])
    target = STATES[0].labels["target"]
    assert not twin.facts([0]).touching[target][0]
    touched = set()
    for waypoint in PUSH.expert(STATES[0]):
        for _ in range(30):
            facts = twin.facts([0])
            touched |= {name for name, flags in facts.touching.items() if flags[0]}
            offset = np.array(waypoint.position_m) - facts.tcp_pose[0, :3]
            if np.abs(offset).max() < waypoint.tolerance_m or PUSH.succeeded(facts)[0]:
                break
            twin.control_step(0, action(*np.clip(offset, -0.03, 0.03)))
    assert PUSH.succeeded(twin.facts([0]))[0]
    assert touched == {target}


def test_a_picture_does_not_depend_on_which_environment_was_drawn_before(twin: Simulation) -> None:
    twin.reset(0, STATES[0])
    twin.reset(1, STATES[1])
    first = picture(twin, 0)
    other = picture(twin, 1)
    np.testing.assert_array_equal(picture(twin, 0), first)
    assert (first != other).any()


def test_the_picture_is_upright_and_shows_every_colour(twin: Simulation) -> None:
    twin.reset(0, STATES[0])
    image = picture(twin, 0).astype(float) / 255
    robot_rows = np.argwhere(image.min(axis=-1) > 0.8)[:, 0]
    assert robot_rows.mean() < SIZE / 2  # the white robot is in the upper half
    hue = image / image.max(axis=-1, keepdims=True)
    for rgb in STATES[0].object_rgb.values():
        near = np.abs(hue - np.array(rgb) / max(rgb)).max(axis=-1) < 0.1
        assert near.sum() >= 4


def test_noise_is_the_same_for_the_same_start_and_changes_with_time() -> None:
    sim = simulation(appearance=Appearance(pixel_noise=0.02), num_envs=2)
    for e in (0, 1):
        sim.reset(e, STATES[0], noise_seed=7)
    first = picture(sim, 0)
    np.testing.assert_array_equal(first, picture(sim, 1))
    sim.control_step(1, action())
    assert (picture(sim, 1) != first).mean() > 0.5
    sim.close()


def test_the_sensor_applies_gain_bias_and_noise_as_documented() -> None:
    plain, cast = Appearance(), Appearance(colour_gain=(1.25, 1.0, 0.5), colour_bias=(0.0, 0.1, -0.1), pixel_noise=0.02)
    pictures = []
    for look in (plain, cast):
        sim = simulation(appearance=look)
        sim.reset(0, STATES[0])
        pictures.append(picture(sim, 0).astype(float))
        sim.close()
    expected = np.clip(pictures[0] * [1.25, 1.0, 0.5] + 255 * np.array([0, 0.1, -0.1]), 0, 255)
    difference = pictures[1] - expected
    inner = (expected > 25) & (expected < 230)
    assert abs(difference[inner].mean()) < 1.0
    assert difference[inner].std() == pytest.approx(0.02 * 255, rel=0.1)


def test_a_restored_state_goes_on_bit_for_bit() -> None:
    rng = np.random.default_rng(3)
    actions = [action(*rng.uniform(-0.05, 0.05, 3), *rng.uniform(-0.1, 0.1, 3)) for _ in range(12)]
    for chosen in actions[:6]:
        chosen[2] = -0.03  # down to the cubes
    runs = []
    for interrupted in (False, True):
        sim = simulation(appearance=Appearance(pixel_noise=0.02), dynamics=Dynamics(latency_s=0.05), num_envs=2)
        sim.reset(0, STATES[2], noise_seed=5)
        e = 0
        for i, chosen in enumerate(actions):
            if i == 6 and interrupted:
                saved = sim.get_state(0)
                sim.reset(1, STATES[3])
                sim.control_step(1, action(0.05))
                sim.control_step(0, action(0.05))
                sim.set_state(1, saved)
                np.testing.assert_array_equal(picture(sim, 1), seen)  # noqa: F821
                e = 1
            sim.control_step(e, chosen)
            seen = picture(sim, e)  # noqa: F841
        saved = sim.get_state(e)
        runs.append((saved.physics, saved.memory, picture(sim, e), sim.facts([e]).tcp_pose))
        sim.close()
    for straight, restored in zip(*runs, strict=True):
        np.testing.assert_array_equal(straight, restored)


def test_a_diverged_simulation_raises() -> None:
    sim = simulation()
    sim.reset(0, STATES[0])
    broken = replace(sim.get_state(0), physics=np.full_like(sim.get_state(0).physics, np.nan))
    sim.set_state(0, broken)
    with pytest.raises(FloatingPointError, match="diverged"):
        sim.control_step(0, action())
    sim.close()


def test_a_start_out_of_reach_is_refused(twin: Simulation) -> None:
    far: InitialState = replace(STATES[0], tcp_offset_m=(2.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="out of reach"):
        twin.reset(0, far)


def test_the_controllers_quick_turn_is_the_library_functions_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        quat = rng.normal(size=4)
        quat /= np.linalg.norm(quat)
        rpy = rng.uniform(-0.25, 0.25, 3).astype(np.float32)
        slow = quat_multiply(quat, rpy_to_quat(rpy.astype(np.float64)))
        assert _turned(quat, rpy) == slow.tolist()
