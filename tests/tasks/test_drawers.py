"""Open-drawer and close-drawer by hand: thresholds, rewards, the step before. No simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlco.core.scene import Facts, InitialState
from rlco.tasks import CloseDrawer, OpenDrawer
from rlco.tasks.contract import CLOSE, OPEN, Ends
from rlco.tasks.drawer import DRAWER, TRAVEL_M

OPENING, CLOSING = OpenDrawer(), CloseDrawer()
NO, YES = np.array([False]), np.array([True])
QUARTER = (np.cos(np.pi / 24), 0.0, 0.0, np.sin(np.pi / 24))
"""15 degrees about the vertical."""


def facts(opening_m: float, *, tcp: tuple[float, float, float] = (0.4, 0.0, 0.3)) -> Facts:
    """One environment with the sliding part at (0.5, 0.1), turned by 15 degrees."""
    state = replace(OPENING.fixed_states(1, seed=0, prefix="test")[0], joint_value={DRAWER: opening_m})
    return Facts(
        tcp_pose=np.array([[*tcp, 1.0, 0.0, 0.0, 0.0]]),
        gripper_width_m=np.zeros(1),
        object_pose={DRAWER: np.array([[0.5, 0.1, 0.0, *QUARTER]])},
        joint_value={DRAWER: np.array([opening_m])},
        initial=(state,),
    )


@pytest.mark.parametrize(("opening_m", "expected"), [(0.108, True), (0.1079, False), (0.12, True), (0.0, False)])
def test_open_is_nine_tenths_of_the_travel(*, opening_m: float, expected: bool) -> None:
    assert TRAVEL_M == 0.12  # 0.9 x 12 cm = 10.8 cm
    assert OPENING.succeeded(facts(opening_m))[0] == expected


@pytest.mark.parametrize(("opening_m", "expected"), [(0.006, True), (0.0061, False), (0.0, True), (0.1, False)])
def test_closed_is_a_twentieth_of_the_travel(*, opening_m: float, expected: bool) -> None:
    assert CLOSING.succeeded(facts(opening_m))[0] == expected  # 0.05 x 12 cm = 6 mm


def test_opening_is_rewarded_as_in_the_paper_by_hand() -> None:
    # the handle: (0.5, 0.1, 0) + turn(15 deg) (-0.03, 0, 0.06)
    handle = (0.5 - 0.03 * np.cos(np.pi / 12), 0.1 - 0.03 * np.sin(np.pi / 12), 0.06)
    near = facts(0.0, tcp=(handle[0], handle[1] + 0.06, handle[2] + 0.08))  # 6-8-10: 10 cm away
    assert OPENING.cabinet.handle_m == (-0.030, 0.0, 0.060)
    reach = 1 - np.tanh(5 * 0.10)  # 0.5379
    assert OPENING.dense_reward(near, NO, before=near)[0] == pytest.approx(reach / 5)  # 0.1076
    # 3 cm open: the reach is 1 wherever the hand is, and 2 x 0.25 comes on top
    begun = facts(0.03, tcp=(0.3, -0.3, 0.4))
    assert OPENING.dense_reward(begun, NO, before=near)[0] == pytest.approx((1 + 0.5) / 5)  # 0.3
    assert OPENING.dense_reward(facts(0.12), NO, before=near)[0] == pytest.approx(0.6)  # before it has held
    assert OPENING.dense_reward(facts(0.12), YES, before=near)[0] == 1.0


def test_the_reach_is_full_only_once_the_drawer_has_begun_to_open() -> None:
    far = (0.3, -0.3, 0.4)
    still, begun = (
        OPENING.dense_reward(facts(q, tcp=far), NO, before=facts(0.0))[0] * 5 - 2 * q / 0.12 for q in (0.005, 0.0051)
    )
    assert still < 0.1
    assert begun == pytest.approx(1.0)


def test_closing_is_rewarded_for_the_change_since_the_step_before_by_hand() -> None:
    # 6 cm to 3 cm of 12: Delta = 0.25, (2 x 0.25 - 0.02) / 5 = 0.096
    assert CLOSING.dense_reward(facts(0.03), NO, before=facts(0.06))[0] == pytest.approx(0.096)
    # nothing moves: the time penalty alone
    assert CLOSING.dense_reward(facts(0.06), NO, before=facts(0.06))[0] == pytest.approx(-0.004)
    # pulled open again by 3 cm: (2 x -0.25 - 0.02) / 5
    assert CLOSING.dense_reward(facts(0.06), NO, before=facts(0.03))[0] == pytest.approx(-0.104)
    # success overrides the shaping
    assert CLOSING.dense_reward(facts(0.006), YES, before=facts(0.006))[0] == 1.0


def test_the_change_that_closing_is_paid_for_is_clipped_to_the_whole_travel() -> None:
    # a joint beyond its limits by a solver's softness: Delta = 1.2 counts as 1
    assert CLOSING.dense_reward(facts(-0.012), NO, before=facts(0.132))[0] == pytest.approx((2.0 - 0.02) / 5)


@pytest.mark.parametrize("task", [OPENING, CLOSING], ids=lambda task: task.name)
def test_success_must_hold_for_two_steps_and_is_the_one_event(task: OpenDrawer | CloseDrawer) -> None:
    assert task.hold_steps == 2
    assert [(item.event, item.reward, item.after) for item in task.event_rewards] == [("success", 1.0, None)]
    assert set(task.events(facts(0.05), YES)) == {"success"}
    assert [stage.ends for stage in task.stages] == [Ends.EPISODE]
    assert task.reference_object(facts(0.0).initial[0], 0) == DRAWER


def along(state: InitialState, points: np.ndarray) -> np.ndarray:
    """Return how far each point is along the drawer's own x, the way it closes [m]."""
    w, _, _, z = state.object_pose[DRAWER][3:]
    axis = np.array([1 - 2 * z * z, 2 * w * z, 0.0])
    return (points - state.object_pose[DRAWER][:3]) @ axis


def test_the_opening_expert_grasps_the_handle_and_pulls_beyond_the_travel() -> None:
    state = OPENING.fixed_states(3, seed=0, prefix="test")[2]
    points = OPENING.expert(state)
    assert [point.gripper for point in points] == [OPEN, OPEN, CLOSE, CLOSE]
    x = along(state, np.array([point.position_m for point in points]))
    np.testing.assert_allclose(x[:3], OPENING.cabinet.handle_m[0], atol=1e-9)
    assert x[3] == pytest.approx(OPENING.cabinet.handle_m[0] - TRAVEL_M - 0.03)


def test_the_closing_expert_pushes_the_tip_of_the_handle_past_its_closed_place() -> None:
    state = CLOSING.fixed_states(3, seed=0, prefix="test")[2]
    points = CLOSING.expert(state)
    assert {point.gripper for point in points} == {CLOSE}
    x = along(state, np.array([point.position_m for point in points]))
    # the fingers are 1 cm thick to each side: they meet the tip 1 cm before it
    assert x[1] < CLOSING.cabinet.handle_tip_m[0] - 0.01
    assert x[2] == pytest.approx(CLOSING.cabinet.handle_tip_m[0] - 0.01 + state.joint_value[DRAWER] + 0.01)
