"""How an episode ended, by hand: made-up trajectories of facts for every word and every task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlco.core.episode import StopReason
from rlco.core.scene import Facts, InitialState, Nudge
from rlco.evals.outcome import STAGES, Ending, EpisodeOutcome, EvaluationResult
from rlco.evals.suite import Running, ending, outcome_of, things_of
from rlco.tasks import CloseDrawer, OpenDrawer, Task, task
from rlco.tasks.drawer import DRAWER
from rlco.tasks.objects import BOWL, REST_M
from rlco.tasks.progress import Progress, displacement_m, is_moved

UP = (1.0, 0.0, 0.0, 0.0)
HOME_M = (0.40, 0.0, 0.30)
PUSH, PICK, OPEN, CLOSE = (task(name) for name in ("push-cube", "pick-place", "open-drawer", "close-drawer"))
CUBE = "cube_middle"
CUBES = InitialState(
    name="push-cube/by hand",
    task="push-cube",
    instruction="push the pink cube",
    object_pose={CUBE: (0.50, 0.0, 0.025, *UP), "cube_left": (0.50, 0.15, 0.025, *UP)},
    object_rgb={},
    labels={"target": CUBE, "object": "pink"},
)
LIME = InitialState(
    name="pick-place/by hand",
    task="pick-place",
    instruction="put the lime in the bowl",
    object_pose={
        "lime": (0.50, 0.10, REST_M["lime"], *UP),
        BOWL: (0.50, -0.10, 0.0, *UP),
        "distractor_tin": (0.3, 0.2, 0.035, *UP),
    },
    object_rgb={},
    labels={"target": "lime", "object": "lime"},
)
CLOSED = InitialState(
    name="open-drawer/by hand",
    task="open-drawer",
    instruction="open the drawer",
    object_pose={DRAWER: (0.56, 0.0, 0.0, *UP)},
    object_rgb={},
    joint_value={DRAWER: 0.0},
    labels={"target": DRAWER},
)
OPENED = replace(CLOSED, task="close-drawer", joint_value={DRAWER: 0.10})


def facts(
    state: InitialState,
    *,
    tcp: Sequence[float] = HOME_M,
    at: Mapping[str, Sequence[float]] | None = None,
    opening_m: float | None = None,
    touching: bool = False,
    grasped: bool = False,
) -> Facts:
    """One environment; ``at`` moves things from their starts, ``touching`` and ``grasped`` are of the named one."""
    pose = {name: np.array([value]) for name, value in state.object_pose.items()}
    for name, offset in (at or {}).items():
        pose[name][0, :3] += offset
    joints = {}
    if DRAWER in pose:
        start = state.joint_value[DRAWER]
        opening_m = start if opening_m is None else opening_m
        pose[DRAWER][0, 0] -= opening_m - start
        joints = {DRAWER: np.array([opening_m])}
    named = state.labels["target"]
    return Facts(
        tcp_pose=np.array([[*tcp, *UP]]),
        gripper_width_m=np.zeros(1),
        object_pose=pose,
        joint_value=joints,
        touching={name: np.array([touching and name == named]) for name in pose},
        grasped={name: np.array([grasped and name == named]) for name in pose},
        initial=(state,),
    )


def followed(the_task: Task, trajectory: Sequence[Facts]) -> Running:
    """Return the episode after this trajectory."""
    state = trajectory[0].initial[0]
    episode = Running(state=state, repeat=0, generator=torch.Generator(), things=things_of(the_task, state))
    for moment in trajectory:
        episode.follow(moment, 0, Progress(int(the_task.progress(moment)[0])))
    return episode


def ended(the_task: Task, *trajectory: Facts) -> Ending:
    """Return how an episode with this trajectory ends when its time is up."""
    return ending(followed(the_task, trajectory), StopReason.TIME_LIMIT)


def test_push_cube_is_never_reached_beyond_5_cm_of_the_pushing_point() -> None:
    # the pushing point is 2.5 + 2 cm behind the cube's centre: (0.455, 0, 0.025)
    assert ended(PUSH, facts(CUBES)) is Ending.NEVER_REACHED
    assert ended(PUSH, facts(CUBES, tcp=(0.455, 0.051, 0.025))) is Ending.NEVER_REACHED
    assert ended(PUSH, facts(CUBES, tcp=(0.455, 0.049, 0.025))) is Ending.REACHED


def test_what_was_reached_once_stays_reached() -> None:
    assert ended(PUSH, facts(CUBES, tcp=(0.455, 0.0, 0.025)), facts(CUBES)) is Ending.REACHED


def test_a_cube_that_is_touched_or_knocked_aside_was_reached() -> None:
    assert ended(PUSH, facts(CUBES, touching=True)) is Ending.REACHED
    assert ended(PUSH, facts(CUBES, at={CUBE: (0.0, 0.03, 0.0)})) is Ending.REACHED
    assert ended(PUSH, facts(CUBES, at={CUBE: (0.0, 0.009, 0.0)})) is Ending.NEVER_REACHED
    assert ended(PUSH, facts(CUBES, at={CUBE: (-0.03, 0.0, 0.0)})) is Ending.REACHED  # pulled back


def test_a_cube_pushed_ahead_but_not_far_enough_timed_out() -> None:
    assert ended(PUSH, facts(CUBES, at={CUBE: (0.011, 0.0, 0.0)})) is Ending.TIMED_OUT
    # the hand may have left it
    assert ended(PUSH, facts(CUBES, at={CUBE: (0.10, 0.0, 0.0)}), facts(CUBES, at={CUBE: (0.10, 0.039, 0.0)})) is (
        Ending.TIMED_OUT
    )


def test_a_cube_that_left_its_lane_was_dropped() -> None:
    pushed, lost = facts(CUBES, at={CUBE: (0.10, 0.0, 0.0)}), facts(CUBES, at={CUBE: (0.15, 0.041, 0.0)})
    assert ended(PUSH, pushed, lost) is Ending.DROPPED
    assert ended(PUSH, pushed, lost, pushed) is Ending.TIMED_OUT  # it was brought back


def test_the_wrong_cube_counts_only_while_the_named_one_stands() -> None:
    other = {"cube_left": (0.05, 0.0, 0.0)}
    assert ended(PUSH, facts(CUBES, at=other)) is Ending.WRONG_OBJECT
    assert ended(PUSH, facts(CUBES, tcp=(0.455, 0.0, 0.025)), facts(CUBES, at=other)) is Ending.WRONG_OBJECT
    assert ended(PUSH, facts(CUBES, at=other | {CUBE: (0.05, 0.0, 0.0)})) is Ending.TIMED_OUT


def test_a_lime_is_reached_grasped_lifted_and_dropped_in_this_order() -> None:
    near = facts(LIME, tcp=(0.50, 0.10, 0.06))
    held = facts(LIME, tcp=(0.50, 0.10, 0.02), touching=True, grasped=True)
    low = facts(LIME, at={"lime": (0.0, 0.0, 0.019)}, touching=True, grasped=True)
    high = facts(LIME, at={"lime": (0.0, -0.05, 0.10)}, touching=True, grasped=True)
    beside = facts(LIME, at={"lime": (0.0, -0.08, 0.0)})
    assert ended(PICK, facts(LIME)) is Ending.NEVER_REACHED
    assert ended(PICK, facts(LIME), near) is Ending.REACHED
    assert ended(PICK, near, held) is Ending.GRASPED
    assert ended(PICK, near, held, low, near) is Ending.GRASPED  # 1.9 cm is not off the table
    assert ended(PICK, near, held, high) is Ending.TIMED_OUT
    assert ended(PICK, near, held, high, beside) is Ending.DROPPED
    put_down = facts(LIME, at={"lime": (0.0, -0.08, 0.0)}, touching=True, grasped=True)
    assert ended(PICK, near, held, high, put_down) is Ending.TIMED_OUT  # on the table again, not let go


def test_an_object_in_the_bowl_that_was_no_success_in_time_timed_out() -> None:
    inside = facts(LIME, at={"lime": (0.0, -0.20, 0.02)})
    assert PICK.succeeded(replace(inside, object_speed={"lime": np.zeros(1), BOWL: np.zeros(1)}))[0]
    assert ended(PICK, inside) is Ending.TIMED_OUT


def test_an_object_pushed_over_the_table_was_reached_and_one_thrown_up_is_not_under_way() -> None:
    assert ended(PICK, facts(LIME, at={"lime": (0.0, 0.03, 0.0)})) is Ending.REACHED
    assert ended(PICK, facts(LIME, at={"lime": (0.0, 0.0, 0.05)})) is Ending.NEVER_REACHED  # touched by nothing


def test_the_bowl_is_no_wrong_object_and_the_clutter_is_one() -> None:
    assert ended(PICK, facts(LIME, at={BOWL: (0.05, 0.0, 0.0)})) is Ending.NEVER_REACHED
    assert ended(PICK, facts(LIME, at={"distractor_tin": (0.05, 0.0, 0.0)})) is Ending.WRONG_OBJECT
    lifted = facts(LIME, at={"distractor_tin": (0.05, 0.0, 0.0)}, touching=True, grasped=True)
    assert ended(PICK, lifted) is Ending.GRASPED


def test_a_drawer_is_reached_grasped_pulled_and_let_go() -> None:
    def handle(opening_m: float) -> tuple[float, float, float]:
        x, y, z = OpenDrawer().cabinet.handle_m
        return (0.56 - opening_m + x, y, z)

    near = facts(CLOSED, tcp=handle(0.0))
    held = facts(CLOSED, tcp=handle(0.0), touching=True, grasped=True)
    pulled = facts(CLOSED, tcp=handle(0.06), opening_m=0.06, touching=True, grasped=True)
    assert ended(OPEN, facts(CLOSED)) is Ending.NEVER_REACHED
    assert ended(OPEN, near) is Ending.REACHED
    assert ended(OPEN, held, near) is Ending.GRASPED
    assert ended(OPEN, held, pulled) is Ending.TIMED_OUT
    assert ended(OPEN, held, pulled, facts(CLOSED, opening_m=0.06)) is Ending.DROPPED
    hooked = facts(CLOSED, tcp=handle(0.06), opening_m=0.06)
    assert ended(OPEN, hooked) is Ending.TIMED_OUT  # without a grasp


def test_both_fingers_on_the_cabinet_are_no_grasp_of_the_handle() -> None:
    assert ended(OPEN, facts(CLOSED, tcp=(0.66, 0.0, 0.10), touching=True, grasped=True)) is Ending.NEVER_REACHED


def test_a_drawer_is_pushed_in_partly() -> None:
    x, y, z = CloseDrawer().cabinet.handle_tip_m
    tip = (0.56 + x, y, z)
    assert ended(CLOSE, facts(OPENED)) is Ending.NEVER_REACHED
    assert ended(CLOSE, facts(OPENED, tcp=tip)) is Ending.REACHED
    assert ended(CLOSE, facts(OPENED, opening_m=0.091), facts(OPENED, opening_m=0.12)) is Ending.NEVER_REACHED
    assert ended(CLOSE, facts(OPENED, opening_m=0.08)) is Ending.TIMED_OUT
    assert ended(CLOSE, facts(OPENED, opening_m=0.08), facts(OPENED)) is Ending.DROPPED  # pulled open again


@pytest.mark.parametrize(("the_task", "state"), [(PUSH, CUBES), (PICK, LIME), (OPEN, CLOSED), (CLOSE, OPENED)])
def test_success_and_loss_are_the_worlds_word(the_task: Task, state: InitialState) -> None:
    episode = followed(the_task, [facts(state)])
    assert ending(episode, StopReason.SUCCESS) is Ending.SUCCESS
    assert ending(episode, StopReason.LOST) is Ending.LOST
    assert outcome_of(episode, StopReason.TIME_LIMIT).start_m == state.object_pose[state.labels["target"]][:2]


def test_environments_are_judged_each_by_its_own_target() -> None:
    left = replace(CUBES, labels={**CUBES.labels, "target": "cube_left"})
    pushed = {CUBE: (0.05, 0.0, 0.0)}
    both = Facts.concatenate([facts(CUBES, at=pushed), facts(left, at=pushed)])
    assert PUSH.progress(both).tolist() == [Progress.UNDER_WAY, Progress.AWAY]


def test_facts_without_contacts_are_sorted_by_places_alone() -> None:
    bare = replace(facts(LIME, tcp=(0.50, 0.10, 0.06)), touching={}, grasped={})
    assert PICK.progress(bare).tolist() == [Progress.REACHED]


def test_what_only_the_start_itself_moved_was_not_moved_by_the_robot() -> None:
    start = replace(CUBES, nudge=Nudge(object=CUBE, step=5, offset_m=(0.05, 0.0)))

    def moment(x: float, y: float = 0.0) -> Facts:
        return facts(start, at={CUBE: (x, y, 0.0)})

    assert not is_moved(moment(0.0), 0, CUBE)
    assert not is_moved(moment(0.05, 0.002), 0, CUBE)
    assert is_moved(moment(0.02), 0, CUBE)
    assert is_moved(facts(CUBES, at={CUBE: (0.05, 0.0, 0.0)}), 0, CUBE)
    assert ended(PUSH, moment(0.05)) is Ending.NEVER_REACHED
    assert ended(PUSH, moment(0.07)) is Ending.TIMED_OUT
    assert displacement_m(moment(0.07), 0, CUBE) == pytest.approx([0.02, 0.0])
    assert np.isnan(displacement_m(moment(0.0), 0, "bowl")).all()


def outcome(name: str, how: Ending, repeat: int = 0) -> EpisodeOutcome:
    reasons = {Ending.SUCCESS: StopReason.SUCCESS, Ending.LOST: StopReason.LOST}
    return EpisodeOutcome(
        state=name,
        repeat=repeat,
        stop_reason=reasons.get(how, StopReason.TIME_LIMIT),
        steps=10,
        ending=how,
        start_m=(0.5, 0.1),
        shift_m=None,
        labels={},
    )


def result(*endings: Ending) -> EvaluationResult:
    """Return one episode of each ending, on a state of its own."""
    outcomes = tuple(outcome(f"s{i}", how) for i, how in enumerate(endings))
    return EvaluationResult(policy="x", settings={"domain": "twin", "task": "fake"}, outcomes=outcomes, seconds=1.0)


def test_how_far_each_ending_came_by_hand() -> None:
    known = [e for e in Ending if e not in (Ending.UNSORTED, Ending.LOST)]
    episodes = result(*known, Ending.LOST)
    reached = {stage: {known[int(s[1:])] for s, ok in episodes.reaching(stage).items() if ok[0]} for stage in STAGES}
    assert reached["success"] == {Ending.SUCCESS}
    assert reached["under way"] == {Ending.SUCCESS, Ending.TIMED_OUT, Ending.DROPPED}
    assert reached["grasped"] == reached["under way"] | {Ending.GRASPED}
    assert reached["reached"] == reached["grasped"] | {Ending.REACHED}
    assert len(episodes.reaching("reached")) == len(known)  # the lost one is in no rate


def test_failures_that_were_never_sorted_are_in_no_stage() -> None:
    assert result(Ending.SUCCESS, Ending.LOST).is_sorted
    with pytest.raises(ValueError, match="failures of 'x' in the twin are not sorted: evaluate it again"):
        result(Ending.SUCCESS, Ending.UNSORTED).reaching("reached")


def test_a_file_of_before_failures_were_sorted_still_loads(tmp_path: Path) -> None:
    def old(reached: str, stop_reason: str) -> dict[str, object]:
        return {
            "state": f"push-cube/eval/{reached}",
            "repeat": 0,
            "stop_reason": stop_reason,
            "steps": 60,
            "reached": reached,
            "shift_m": None if reached == "lost" else [0.1, 0.0],
            "labels": {"object": "pink"},
        }

    outcomes = [old("success", "success"), old("moved another object only", "time_limit"), old("lost", "lost")]
    value = {"policy": "a", "settings": {"domain": "standin"}, "outcomes": outcomes, "seconds": 3.0}
    (tmp_path / "result.json").write_text(json.dumps(value))
    loaded = EvaluationResult.load(tmp_path / "result.json")
    assert [o.ending for o in loaded.outcomes] == [Ending.SUCCESS, Ending.UNSORTED, Ending.LOST]
    assert loaded.starts == {}
    assert not loaded.is_sorted
    loaded.save(tmp_path / "again.json")
    assert EvaluationResult.load(tmp_path / "again.json") == loaded
