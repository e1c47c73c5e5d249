"""Pick-place by hand: what counts as in the bowl, the rewards, the events. No simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlco.core.scene import Facts
from rlco.tasks import PickPlace
from rlco.tasks.contract import CLOSE, OPEN, Ends
from rlco.tasks.objects import BOWL, BOWL_HEIGHT_M, ITEMS

TASK = PickPlace()
STATE = TASK.fixed_states(1, seed=0, prefix="test", objects=["lime"])[0]
NAME = STATE.labels["object"]
BOWL_XYZ = np.array(STATE.object_pose[BOWL][:3])
IN_BOWL = (0.0, 0.0, 0.030)


def facts(
    *,
    offset: tuple[float, float, float] = IN_BOWL,
    tcp: tuple[float, float, float] = (0.4, 0.0, 0.3),
    speed: float = 0.0,
    touching: bool = False,
    grasped: bool = False,
    bowl: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Facts:
    """One environment; ``offset`` is the object's place from the bowl's, ``bowl`` the bowl's from its start."""
    at_bowl = BOWL_XYZ + bowl
    turn = [1.0, 0.0, 0.0, 0.0]
    return Facts(
        tcp_pose=np.array([[*tcp, *turn]]),
        gripper_width_m=np.zeros(1),
        object_pose={NAME: np.array([[*(at_bowl + offset), *turn]]), BOWL: np.array([[*at_bowl, *turn]])},
        object_speed={NAME: np.array([speed]), BOWL: np.zeros(1)},
        touching={NAME: np.array([touching]), BOWL: np.array([False])},
        grasped={NAME: np.array([grasped]), BOWL: np.array([False])},
        initial=(STATE,),
    )


def test_success_needs_the_object_inside_released_and_at_rest() -> None:
    assert TASK.succeeded(facts())[0]
    assert not TASK.succeeded(facts(touching=True))[0]
    assert not TASK.succeeded(facts(touching=True, grasped=True))[0]
    assert TASK.succeeded(facts(speed=0.05))[0]
    assert not TASK.succeeded(facts(speed=0.051))[0]
    assert not TASK.succeeded(facts(offset=(0.06, 0.0, 0.03)))[0]


def test_without_the_need_of_release_being_inside_is_enough() -> None:
    lenient = PickPlace(needs_release=False)
    assert lenient.succeeded(facts(touching=True, grasped=True, speed=0.3))[0]
    assert not lenient.succeeded(facts(offset=(0.06, 0.0, 0.03)))[0]


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        ((0.0, 0.0, 0.03), True),
        ((0.03, 0.04, 0.03), True),  # 5.0 cm from the middle
        ((0.031, 0.04, 0.03), False),  # 5.06 cm
        ((0.0, 0.0, BOWL_HEIGHT_M + 0.5 * 0.021), True),  # a lime is 2.1 cm high at rest: half of it above the rim
        ((0.0, 0.0, BOWL_HEIGHT_M + 0.5 * 0.021 + 0.001), False),
        ((0.0, 0.0, -0.001), False),  # below the bowl's foot
    ],
)
def test_inside_is_a_low_cylinder_about_the_bowls_middle(*, offset: tuple[float, float, float], expected: bool) -> None:
    assert ITEMS[NAME].rest_m == pytest.approx(0.021)
    # exactly on the border a rounding error decides: stay a micrometre inside
    inward = tuple(np.array(offset) * (1 - 1e-6))
    assert TASK.inside(facts(offset=inward))[0] == expected


def test_inside_is_judged_where_the_bowl_is_now() -> None:
    assert TASK.inside(facts(bowl=(0.1, 0.05, 0.0)))[0]
    away = facts(offset=(-0.1, -0.05, 0.03), bowl=(0.1, 0.05, 0.0))  # where the bowl was at the start
    assert not TASK.inside(away)[0]


def test_success_holds_for_three_steps_and_a_hand_that_lets_go_is_part_of_it() -> None:
    assert TASK.hold_steps == 3
    assert [stage.ends for stage in TASK.stages] == [Ends.GRASP, Ends.RELEASE]
    assert [TASK.reference_object(STATE, stage) for stage in (0, 1)] == [NAME, BOWL]


def test_the_dense_reward_is_the_papers_by_hand() -> None:
    no, yes = np.array([False]), np.array([True])
    # 3-4-5: the TCP is 5 cm from the object, the object 13 cm from the bowl (5-12-13)
    x, y, z = BOWL_XYZ.tolist()
    tcp = (x + 0.05 + 0.03, y + 0.04, z + 0.12)
    reach, carry = 1 - np.tanh(10 * 0.05), 1 - np.tanh(10 * 0.13)  # 0.5379 and 0.1383
    free = facts(offset=(0.05, 0.0, 0.12), tcp=tcp)
    held = facts(offset=(0.05, 0.0, 0.12), tcp=tcp, touching=True, grasped=True)
    assert TASK.dense_reward(free, no, before=free)[0] == pytest.approx(reach / 5)  # 0.1076
    assert TASK.dense_reward(held, no, before=free)[0] == pytest.approx((reach + 1 + carry) / 5)  # 0.3352
    # touched by one finger is not grasped
    pushed = facts(offset=(0.05, 0.0, 0.12), tcp=tcp, touching=True)
    assert TASK.dense_reward(pushed, no, before=free)[0] == pytest.approx(reach / 5)
    assert TASK.dense_reward(free, yes, before=free)[0] == 1.0


def test_the_dense_reward_is_below_that_of_success_wherever_the_object_is() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y, z = rng.uniform(-0.3, 0.3, 3)
        tx, ty, tz = rng.uniform([0.2, -0.4, 0.0], [0.8, 0.4, 0.5])
        here = facts(offset=(x, y, z), tcp=(tx, ty, tz), grasped=bool(rng.random() < 0.5))
        assert 0.0 <= TASK.dense_reward(here, np.array([False]), before=here)[0] <= 3 / 5


def test_the_events_are_the_grasp_success_and_leaving_the_bowl() -> None:
    paid = [(item.event, item.reward, item.after) for item in TASK.event_rewards]
    assert paid == [("grasped", 0.2, None), ("success", 1.0, None), ("left", -0.4, "success")]
    events = TASK.events(facts(touching=True, grasped=True), np.array([True]))
    assert {name: bool(flags[0]) for name, flags in events.items()} == {"grasped": True, "success": True, "left": False}
    events = TASK.events(facts(offset=(0.2, 0.0, 0.02)), np.array([False]))
    assert {name: bool(flags[0]) for name, flags in events.items()} == {
        "grasped": False,
        "success": False,
        "left": True,
    }


def test_each_environment_is_judged_by_its_own_object() -> None:
    other = replace(STATE, labels={**STATE.labels, "object": "can"})
    turn = [1.0, 0.0, 0.0, 0.0]
    inside, outside = [*(BOWL_XYZ + IN_BOWL), *turn], [0.4, 0.2, 0.02, *turn]
    nan = [np.nan] * 7
    both = Facts(
        tcp_pose=np.tile([0.4, 0.0, 0.3, *turn], (2, 1)),
        gripper_width_m=np.zeros(2),
        object_pose={
            NAME: np.array([outside, nan]),
            "can": np.array([nan, inside]),
            BOWL: np.array([[*BOWL_XYZ, *turn]] * 2),
        },
        object_speed={NAME: np.array([0.0, np.nan]), "can": np.array([np.nan, 0.0]), BOWL: np.zeros(2)},
        touching={NAME: np.array([True, False]), "can": np.array([False, False])},
        grasped={NAME: np.array([True, False]), "can": np.array([False, False])},
        initial=(STATE, other),
    )
    assert TASK.succeeded(both).tolist() == [False, True]
    assert TASK.events(both, np.array([False, True]))["grasped"].tolist() == [True, False]
    assert np.isfinite(TASK.dense_reward(both, np.array([False, False]), before=both)).all()


def test_the_experts_hand_closes_on_the_object_and_opens_over_the_bowl() -> None:
    points = TASK.expert(STATE)
    grips = [point.gripper for point in points]
    assert grips == [OPEN, OPEN, CLOSE, CLOSE, CLOSE, CLOSE, OPEN, OPEN]
    item = np.array(STATE.object_pose[NAME])
    np.testing.assert_allclose(points[2].position_m[:2], item[:2])
    np.testing.assert_allclose(points[6].position_m[:2], BOWL_XYZ[:2])
    assert max(point.position_m[2] for point in points) == TASK.carry_m


def test_the_place_stages_frame_is_the_bowls_place_and_the_grasps_the_objects_heading() -> None:
    pose = np.array([0.5, 0.1, 0.02, np.cos(0.2), 0.0, 0.0, np.sin(0.2)])
    np.testing.assert_allclose(TASK.reference_pose(pose, 0), pose)
    np.testing.assert_allclose(TASK.reference_pose(pose, 1), [0.5, 0.1, 0.02, 1.0, 0.0, 0.0, 0.0])
