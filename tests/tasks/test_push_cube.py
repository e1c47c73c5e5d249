"""Push-cube by hand: starts, success band, rewards, stages. No simulator."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from rlco.core.scene import Facts, InitialState
from rlco.tasks import TASKS, task
from rlco.tasks.push_cube import COLOURS, CUBES, REAL_COLOURS, PushCube

TASK = PushCube()
STATE = TASK.fixed_states(1, seed=0, prefix="test")[0]
Y0 = STATE.object_pose[STATE.labels["target"]][1]


def facts(*, cube: tuple[float, float], tcp: tuple[float, float, float] = (0.0, 0.0, 0.5)) -> Facts:
    """One environment with the named cube and the TCP at given places."""
    pose = {name: np.array([values]) for name, values in STATE.object_pose.items()}
    pose[STATE.labels["target"]] = np.array([[*cube, 0.025, 1.0, 0.0, 0.0, 0.0]])
    return Facts(
        tcp_pose=np.array([[*tcp, 1.0, 0.0, 0.0, 0.0]]),
        gripper_width_m=np.zeros(1),
        object_pose=pose,
        initial=(STATE,),
    )


def test_an_unknown_task_names_the_nearest_one() -> None:
    with pytest.raises(LookupError, match="Did you mean 'push-cube'"):
        task("push_cub")


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_pickles_and_repeats_its_fixed_states(name: str) -> None:
    one = task(name)
    assert pickle.loads(pickle.dumps(one)) == one
    first, again = (one.fixed_states(6, seed=3, prefix="eval") for _ in range(2))
    assert first == again
    assert one.fixed_states(4, seed=3, prefix="eval") == first[:4]  # a longer list begins with the shorter one
    assert one.fixed_states(6, seed=4, prefix="eval") != first
    for state in first:
        one.check(state)
        assert InitialState.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_cubes_stay_in_their_squares_and_never_overlap() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        state = TASK.sample_initial_state(rng)
        places = np.array([state.object_pose[cube][:3] for cube in CUBES])
        nominal = [[0.5, 0.15, 0.025], [0.5, 0.0, 0.025], [0.5, -0.15, 0.025]]
        assert np.abs(places - nominal).max() <= 0.025
        assert np.abs(np.diff(places[:, 1])).min() > TASK.edge_m
        assert len(set(state.object_rgb.values())) == 3
        assert state.object_rgb[state.labels["target"]] == COLOURS[state.labels["object"]]
        assert state.instruction == f"push the {state.labels['object']} cube"


def test_drawn_starts_use_only_the_colours_asked_for() -> None:
    rng = np.random.default_rng(0)
    allowed = {COLOURS[name] for name in REAL_COLOURS}
    for _ in range(20):
        assert set(TASK.sample_initial_state(rng, objects=REAL_COLOURS).object_rgb.values()) == allowed
    with pytest.raises(LookupError, match="No cube colour named 'blue'"):
        TASK.sample_initial_state(rng, objects=("blue", "pink", "green"))
    with pytest.raises(ValueError, match="at least 3"):
        TASK.sample_initial_state(rng, objects=("pink", "green"))


def test_fixed_states_are_balanced_over_place_and_colour() -> None:
    states = TASK.fixed_states(150, seed=0, prefix="eval")
    assert states[7].name == "push-cube/eval/0007"
    assert len({state.name for state in states}) == 150
    cells = Counter((state.labels["place"], state.labels["object"]) for state in states)
    assert set(cells.values()) == {10}
    assert len(cells) == 15


def test_a_state_of_another_task_is_refused() -> None:
    with pytest.raises(ValueError, match="not an initial state of 'push-cube'"):
        TASK.check(replace(STATE, task="open-drawer"))


@pytest.mark.parametrize(
    ("dx", "dy", "expected"),
    [(0.0, 0.0, True), (-0.001, 0.0, False), (0.05, 0.039, True), (0.0, 0.041, False), (0.0, -0.041, False)],
)
def test_success_is_beyond_the_goal_and_inside_the_band(*, dx: float, dy: float, expected: bool) -> None:
    assert TASK.succeeded(facts(cube=(TASK.goal_x_m + dx, Y0 + dy)))[0] == expected


def test_only_the_named_cube_counts() -> None:
    other = next(name for name in CUBES if name != STATE.labels["target"])
    moved = facts(cube=(0.5, Y0))
    moved.object_pose[other][0, 0] = 0.7
    assert not TASK.succeeded(moved)[0]


def test_the_dense_reward_is_the_papers_by_hand() -> None:
    # p_push = (0.5 - 0.025 - 0.02, y0, 0.025); TCP 3 cm behind it: inside the gate of 5 cm
    near = facts(cube=(0.5, Y0), tcp=(0.425, Y0, 0.025))
    expected = (1 - np.tanh(5 * 0.03) + 1 - np.tanh(5 * 0.22)) / 3
    assert TASK.dense_reward(near, np.array([False]), before=near)[0] == pytest.approx(expected)
    # 6 cm behind: outside the gate, the placing part is off
    far = facts(cube=(0.5, Y0), tcp=(0.395, Y0, 0.025))
    assert TASK.dense_reward(far, np.array([False]), before=far)[0] == pytest.approx((1 - np.tanh(5 * 0.06)) / 3)
    assert TASK.dense_reward(far, np.array([True]), before=far)[0] == 1.0


def test_the_dense_reward_is_never_negative_and_below_success() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y, z = rng.uniform([0.2, -0.4, 0.0], [0.8, 0.4, 0.5])
        drawn = facts(cube=(rng.uniform(0.4, 0.8), rng.uniform(-0.3, 0.3)), tcp=(x, y, z))
        reward = TASK.dense_reward(drawn, np.array([False]), before=drawn)[0]
        assert 0.0 <= reward < 2 / 3 + 1e-9


def test_the_experts_last_way_point_carries_the_cube_over_the_line() -> None:
    points = TASK.expert(STATE)
    assert [point.beyond for point in points] == [False, False, True]
    finger_half_m = 0.0095
    assert points[-1].position_m[0] + finger_half_m + TASK.edge_m / 2 > TASK.goal_x_m + 0.01
    assert {point.position_m[1] for point in points} == {Y0}
