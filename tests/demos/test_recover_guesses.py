"""Key events of a motion, and what each task reads from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from jaxtyping import Float
from numpy import ndarray

from rlco.core.poses import quat_rotate, quat_to_yaw, yaw_to_quat
from rlco.core.rng import numpy_generator
from rlco.core.scene import InitialState
from rlco.demos.recover.agreement import Agreement
from rlco.demos.recover.candidates import Candidate, Spread, fresh, near
from rlco.demos.recover.recorded import robot_start
from rlco.demos.recover.search import Tried
from rlco.tasks import TASKS, CloseDrawer, OpenDrawer, PickPlace, PushCube
from rlco.tasks.close_drawer import PUSH_HEIGHT_M
from rlco.tasks.drawer import Region, drawer_state, point
from rlco.tasks.motion import Motion, UnreadableMotionError

HOME = np.array([0.38, 0.0, 0.12, 1.0, 0.0, 0.0, 0.0])


def motion(
    places: Sequence[Sequence[float] | ndarray] | ndarray,
    *,
    width: list[float] | None = None,
    opens: list[int] | None = None,
    yaw: float = 0.0,
) -> Motion:
    xyz = np.array(places)
    pose = np.concatenate([xyz, np.tile(np.array(yaw_to_quat(yaw)), (len(xyz), 1))], axis=1)
    return Motion(
        tcp_pose=pose,
        gripper_width_m=np.array(width or [0.0] * len(xyz)),
        opens=np.array(opens or [0] * len(xyz), dtype=bool),
    )


def carried(at: tuple[float, float], to: tuple[float, float], *, held_m: float, yaw: float = 0.0) -> Motion:
    """Return: open at step 0, close on something at step 2, open again at step 7 over the bowl."""
    xyz = [(0.38, 0.0, 0.12), (*at, 0.03), *[(*at, 0.02)] * 4, (*to, 0.1), (*to, 0.06), (*to, 0.06)]
    width = [0.0, 0.08, 0.08, 0.05, held_m, held_m, held_m, held_m, 0.08]
    return motion(xyz, width=width, opens=[1, 1, 0, 0, 0, 0, 0, 1, 1], yaw=yaw)


def test_a_grip_tells_when_the_fingers_stop_and_how_wide() -> None:
    #            open          closes at 2    still from 5 on       opens at 8
    width = [0.0, 0.08, 0.08, 0.06, 0.04, 0.03, 0.03, 0.03, 0.03, 0.08]
    (grip,) = motion(np.zeros((10, 3)), width=width, opens=[1, 1, 0, 0, 0, 0, 0, 0, 1, 1]).grips()
    # they moved from 5 to 6 by nothing: 6 is the first moment at which they are still
    assert (grip.closed, grip.stopped, grip.opened, grip.width_m) == (2, 6, 8, 0.03)


def test_a_gripper_that_was_never_open_grips_nothing_and_the_last_grip_may_stay_closed() -> None:
    assert motion(np.zeros((4, 3))).grips() == ()
    grips = motion(np.zeros((9, 3)), opens=[1, 0, 0, 1, 1, 0, 0, 0, 0]).grips()
    assert [(grip.closed, grip.opened) for grip in grips] == [(1, 3), (5, None)]


def test_low_spells_are_told_apart() -> None:
    xyz = np.zeros((7, 3))
    xyz[:, 2] = [0.2, 0.03, 0.02, 0.2, 0.2, 0.04, 0.2]
    assert motion(xyz).low_spells(below_m=0.05) == ((1, 2), (5, 5))
    assert motion(xyz).low_spells(below_m=0.01) == ()


def test_a_carried_thing_was_where_the_fingers_stopped_and_the_bowl_where_they_opened() -> None:
    task = PickPlace()
    guesses = task.guesses(carried((0.455, 0.14), (0.51, -0.16), held_m=0.036, yaw=0.3), "Put the BLOCK in the bowl!")
    on_grid, measured = guesses[0].state, guesses[3].state
    assert on_grid.object_pose["block"][:2] == (0.47, 0.15)
    assert on_grid.object_pose["bowl"][:2] == (0.52, -0.15)
    assert measured.object_pose["block"][:2] == pytest.approx((0.455, 0.14))
    assert measured.object_pose["bowl"][:2] == pytest.approx((0.51, -0.16))
    assert quat_to_yaw(np.array(measured.object_pose["block"])[3:]) == pytest.approx(0.3)
    for guess in guesses:
        task.check(guess.state)
        assert guess.state.instruction == "Put the BLOCK in the bowl!"


def test_off_the_grid_only_the_measured_places_are_guessed() -> None:
    guesses = PickPlace().guesses(carried((0.30, 0.30), (0.30, -0.30), held_m=0.036), "put the block in the bowl")
    assert [guess.by for guess in guesses] == ["the grasp and the release"]


def test_a_thing_without_a_known_name_is_known_by_its_width() -> None:
    # the first parts of roll and banana are 48 and 30 mm wide; nothing else is as near
    for held_m, name in ((0.0485, "roll"), (0.029, "banana")):
        guesses = PickPlace().guesses(carried((0.47, 0.1), (0.52, -0.2), held_m=held_m), "put it in the bowl")
        assert name in guesses[0].state.object_pose
        assert f"the {name} by its width" in guesses[0].by


def test_a_retried_grasp_gives_both_places() -> None:
    xyz = [(0.47, 0.1, 0.02)] * 4 + [(0.47, 0.04, 0.02)] * 5 + [(0.52, -0.2, 0.06)] * 2
    width = [0.08, 0.08, 0.04, 0.04, 0.08, 0.08, 0.036, 0.036, 0.036, 0.036, 0.08]
    guesses = PickPlace().guesses(motion(xyz, width=width, opens=[1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1]), "the block")
    ys = {round(guess.state.object_pose["block"][1], 3) for guess in guesses}
    assert ys == {0.1, 0.05, 0.04}


@pytest.mark.parametrize(
    ("task", "what", "reason"),
    [
        (PickPlace(), motion(np.zeros((5, 3))), "never grasped"),
        (PickPlace(), carried((0.5, 0.1), (0.5, -0.2), held_m=0.001), "never grasped"),
        (OpenDrawer(), carried((0.5, 0.1), (0.4, 0.1), held_m=0.0), "handle missed"),
        (CloseDrawer(), motion([(0.4, 0.0, 0.2)] * 5), "never pushed"),
        (PushCube(), motion([(0.4, 0.0, 0.2)] * 5), "never pushed"),
    ],
)
def test_a_motion_without_its_key_event_says_so(task: PickPlace, what: Motion, reason: str) -> None:
    with pytest.raises(UnreadableMotionError, match=reason):
        task.guesses(what, "the pink block")


def test_a_pushed_cube_is_on_the_line_of_the_push_and_the_others_are_out_of_its_way() -> None:
    x = np.linspace(0.42, 0.68, 14)
    way = np.stack([x, np.full(14, 0.16), np.full(14, 0.025)], axis=1)
    task, moved = PushCube(), motion(np.concatenate([[[0.38, 0.0, 0.12]], way]))
    for guess in task.guesses(moved, "push the green cube"):
        state = guess.state
        task.check(state)
        assert state.labels == {"target": "cube_left", "object": "green", "place": "left"}
        assert state.object_pose["cube_left"][1] == pytest.approx(0.16)
        # ahead of the fingers that came down at x = 0.42
        assert 0.455 <= state.object_pose["cube_left"][0] <= 0.525 + 1e-9
        others = [np.array(state.object_pose[name][:2]) for name in ("cube_middle", "cube_right")]
        assert all(np.linalg.norm(way[:, :2] - other, axis=1).min() > 0.1 for other in others)
        assert len(set(state.object_rgb.values())) == 3


def test_a_cube_beside_a_crooked_way_is_moved_off_it() -> None:
    x = np.linspace(0.42, 0.68, 14)
    way = np.stack([x, np.linspace(0.10, 0.16, 14), np.full(14, 0.025)], axis=1)
    (first, *_) = PushCube().guesses(motion(way), "push the green cube")
    middle = np.array(first.state.object_pose["cube_middle"][:2])
    nominal = np.linalg.norm(way[:, :2] - (0.50, 0.0), axis=1).min()
    assert np.linalg.norm(way[:, :2] - middle, axis=1).min() >= nominal
    with pytest.raises(UnreadableMotionError, match="names no known object"):
        PushCube().guesses(motion(way), "push the turquoise cube")


def test_a_drawer_is_where_its_handle_was_grasped_and_as_it_was_pulled() -> None:
    truth = at(np.array([0.57, 0.03]), "open-drawer", opening_m=0.0)
    pose = np.array(truth.object_pose["drawer"])
    x, y, z = OpenDrawer().cabinet.handle_m
    handle, out = point(pose, (x, y, z)), point(pose, (x - 0.11, y, z))
    moved = motion([HOME[:3], *[handle] * 5, out, out], width=[0, 0.08, 0.08, 0.03, 0.012, 0.012, 0.012, 0.012],
                   opens=[1, 1, 0, 0, 0, 0, 0, 0], yaw=0.1)  # fmt: skip
    by = {guess.by: guess.state for guess in OpenDrawer().guesses(moved, "open it")}
    # the gripper was not turned like the drawer, the pull tells the truth
    assert by["the grasp and the pull"].object_pose["drawer"] == pytest.approx(pose)
    assert quat_to_yaw(np.array(by["the grasp"].object_pose["drawer"])[3:]) == pytest.approx(0.1)


def test_a_closed_drawer_is_where_the_push_ends_and_was_open_as_usual() -> None:
    task, closed = CloseDrawer(), np.array([0.57, 0.03])
    truth = at(closed, task.name, opening_m=0.1)
    pose = np.array(truth.object_pose["drawer"])
    assert pose[:2] + 0.1 * np.array([np.cos(0.2), np.sin(0.2)]) == pytest.approx(closed)
    tip = task.cabinet.handle_tip_m[0] - 0.010
    way = [point(pose, (tip + along, 0.0, PUSH_HEIGHT_M)) for along in np.linspace(-0.03, 0.1, 12)]
    moved = motion([HOME[:3], *way], yaw=0.2)
    guesses = task.guesses(moved, "")
    assert guesses[0].state.object_pose["drawer"] == pytest.approx(pose)
    assert guesses[0].state.joint_value["drawer"] == pytest.approx(0.1)
    for guess in guesses:
        task.check(guess.state)


def test_a_robot_that_starts_elsewhere_is_put_there_and_one_out_of_reach_is_refused() -> None:
    start = robot_start(np.array([0.43, 0.0, 0.12, *yaw_to_quat(0.5)]), home=HOME)
    assert (start.tcp_offset_m, start.tcp_yaw_rad) == (pytest.approx((0.05, 0.0, 0.0)), pytest.approx(0.5))
    nearly = robot_start(np.array([0.381, 0.0, 0.12, *yaw_to_quat(0.005)]), home=HOME)
    assert (nearly.tcp_offset_m, nearly.tcp_yaw_rad) == ((0.0, 0.0, 0.0), 0.0)
    with pytest.raises(UnreadableMotionError, match="out of reach: the start"):
        robot_start(np.array([1.2, 0.0, 0.12, *yaw_to_quat(0.0)]), home=HOME)
    with pytest.raises(UnreadableMotionError, match="tilted by 29 deg"):
        robot_start(np.array([0.38, 0.0, 0.12, np.cos(0.25), np.sin(0.25), 0.0, 0.0]), home=HOME)


def at(closed_m: Float[ndarray, " 2"], task: str, *, opening_m: float) -> InitialState:
    place = Region().place(closed_m, 0.2)
    return drawer_state(place, task=task, name=f"{task}/x", instruction="", opening_m=opening_m)


def drawer(opening_m: float = 0.1) -> InitialState:
    return at(np.array([0.57, 0.03]), "close-drawer", opening_m=opening_m)


def closed_place(state: InitialState) -> Float[ndarray, " 3"]:
    pose = np.array(state.object_pose["drawer"])
    return pose[:3] + quat_rotate(pose[3:], np.array([state.joint_value["drawer"], 0.0, 0.0]))


def test_an_opening_is_searched_without_moving_the_cabinet() -> None:
    task, guess = TASKS["close-drawer"], Candidate(state=drawer(), by="x")
    spread = Spread(position_m=0.0, yaw_rad=0.0, opening_m=0.02)
    found = [near(task, guess, numpy_generator(0, "t", i), spread) for i in range(40)]
    openings = np.array([its.state.joint_value["drawer"] for its in found])
    assert openings.std() > 0.005
    assert (openings > 0).all()
    assert (openings <= 0.12).all()
    for its in found:
        task.check(its.state)
        assert closed_place(its.state) == pytest.approx(closed_place(guess.state))


def test_a_search_moves_what_the_task_is_about_only_and_is_the_same_again() -> None:
    task = TASKS["push-cube"]
    guess = Candidate(state=task.fixed_states(1, seed=0, prefix="t")[0], by="x")
    spread = Spread(position_m=0.005, yaw_rad=0.05, opening_m=0.0)
    a, b = (near(task, guess, numpy_generator(0, "t"), spread) for _ in range(2))
    assert a == b
    target = guess.state.labels["target"]
    changed = {name for name in guess.state.object_pose if a.state.object_pose[name] != guess.state.object_pose[name]}
    assert changed == {target}
    assert 0 < np.linalg.norm(np.array(a.state.object_pose[target][:2]) - guess.state.object_pose[target][:2]) < 0.03
    assert a.away_m > 0
    assert fresh([a, guess, b], [guess]) == [a]


def test_a_success_goes_before_a_failure_then_agreement_and_likelihood_decide() -> None:
    def tried(*, succeeded: bool, tcp_m: float, away_m: float = 0.0) -> Tried:
        return Tried(
            candidate=Candidate(state=drawer(), by="x", away_m=away_m),
            succeeded=succeeded,
            agreement=Agreement(tcp_m=tcp_m, width_m=0.001, late_steps=0),
            reason="",
            motion=motion(np.zeros((2, 3))),
        )

    best = [
        tried(succeeded=True, tcp_m=0.004),
        tried(succeeded=True, tcp_m=0.004, away_m=0.0005),
        tried(succeeded=True, tcp_m=0.005),
        tried(succeeded=False, tcp_m=0.001),
    ]
    assert sorted([best[i] for i in (2, 3, 1, 0)], key=lambda its: its.order) == best
    late = Agreement(tcp_m=0.004, width_m=0.001, late_steps=-3)
    assert late.total_m == pytest.approx(0.0065)
    assert replace(late, late_steps=40).total_m == pytest.approx(0.0075)
