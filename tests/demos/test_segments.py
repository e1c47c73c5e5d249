"""Stages are found where the gripper, the contacts and the objects say, and a person's correction is checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy import ndarray

from rlco.core.poses import IDENTITY_POSE
from rlco.demos.outcome import why_failed
from rlco.demos.replay import Replayed, Trace
from rlco.demos.segments import SEGMENTS_PATH, Segment, WindowConfig, find_segments, read_segments, write_segments
from rlco.demos.sources import cut, seed_from
from rlco.tasks import task

PUSH, PICK = task("push-cube"), task("pick-place")
WINDOW = WindowConfig(near_m=0.05, above_m=0.10, retreat_steps=1)
NARROW = replace(WINDOW, near_m=0.04)


def line(*points: tuple[float, float, float], steps: int = 4) -> list[tuple[float, ...]]:
    """Way-points joined by ``steps`` equal steps each."""
    found: list[tuple[float, ...]] = [points[0]]
    for a, b in pairwise(points):
        found += [tuple(p) for p in np.linspace(a, b, steps + 1)[1:]]
    return found


def poses(points: list[tuple[float, ...]]) -> ndarray:
    return np.concatenate([np.array(points), np.tile(IDENTITY_POSE[3:], (len(points), 1))], axis=1)


def picking(**changes: object) -> Replayed:
    """Down on an apple at x = 0.5 (steps 0-3), close (4), up, over to the bowl at y = -0.15, down, open (17), up.

    Moments: 4 at the apple, 6 grasped, 16 over the bowl's floor, 18 free.
    """
    way = line((0.5, 0.0, 0.2), (0.5, 0.0, 0.02))
    way += [way[-1]] * 2
    way += line((0.5, 0.0, 0.02), (0.5, 0.0, 0.15), (0.5, -0.15, 0.15), steps=3)[1:]
    way += line((0.5, -0.15, 0.15), (0.5, -0.15, 0.06))[1:]
    way += [way[-1]] * 2
    way += line((0.5, -0.15, 0.06), (0.5, -0.15, 0.18))[1:]
    tcp = np.array(way)
    held = np.zeros(len(tcp), dtype=bool)
    held[6:18] = True
    apple = np.where(held[:, None], tcp, tcp[4])
    apple[18:] = tcp[17]
    action = np.zeros((len(tcp) - 1, 7))
    action[:, :3] = np.diff(tcp, axis=0)
    action[:, 6] = 1.0
    action[4:17, 6] = -1.0
    none = np.zeros(len(tcp), dtype=bool)
    trace = Trace(
        action=action,
        tcp_pose=poses(way),
        gripper_width_m=np.where(held, 0.05, 0.08),
        object_pose={"apple": poses([tuple(p) for p in apple]), "bowl": poses([(0.5, -0.15, 0.0)] * len(tcp))},
        touching={"apple": held.copy(), "bowl": none},
        grasped={"apple": held, "bowl": none.copy()},
        ik_failed=np.zeros(len(action), dtype=bool),
    )
    state = PICK.fixed_states(1, seed=0, prefix="test", objects=["apple"])[0]
    return Replayed(
        number=3, initial=state, trace=replace(trace, **changes), succeeded=True, lost=False, timed_out=False
    )


def test_a_grasp_ends_where_it_is_first_seen_and_a_release_after_the_command_that_opens() -> None:
    segments = find_segments(PICK, picking(), NARROW)
    assert not isinstance(segments, str)
    grasp, place = segments
    # ends are exclusive: actions 0 to 5 lead to the grasp seen at moment 6; 17 opens, and one step of retreat
    assert (grasp.stage, grasp.end) == ("grasp", 6)
    assert (place.stage, place.end) == ("place", 19)
    # the way down from at most 10 cm above: 2 cm + 10 cm lies between moments 1 (15.5 cm) and 2 (11 cm)
    assert grasp.start == 2
    # sideways 5 cm a step: moment 11 is too far, 12 is above the bowl
    assert place.start == 12


def test_the_grasp_in_which_the_object_is_carried_farthest_counts() -> None:
    made = picking()
    early = made.trace.grasped["apple"].copy()
    early[2] = True
    segments = find_segments(PICK, picking(grasped={**made.trace.grasped, "apple": early}), WINDOW)
    assert not isinstance(segments, str)
    # a gap of three moments ends a grasp
    assert segments[0].end == 6


def test_a_grasp_that_flickers_goes_on() -> None:
    made = picking()
    held = made.trace.grasped["apple"].copy()
    held[9:11] = False
    segments = find_segments(PICK, picking(grasped={**made.trace.grasped, "apple": held}), WINDOW)
    assert not isinstance(segments, str)
    assert segments[0].end == 6


def test_a_demonstration_without_a_stage_says_which() -> None:
    made = picking()
    never = {**made.trace.grasped, "apple": np.zeros_like(made.trace.grasped["apple"])}
    assert find_segments(PICK, picking(grasped=never), WINDOW) == "never grasped the apple"
    closed = made.trace.action.copy()
    closed[4:, 6] = -1.0
    assert find_segments(PICK, picking(action=closed), WINDOW) == "never released the apple"


@pytest.mark.parametrize(
    ("way", "start"),
    [
        # 4 cm a step along x towards a touch at the last moment; near is 5 cm
        ([0.30, 0.34, 0.38, 0.42, 0.46], 3),
        # an earlier visit that touched nothing is free space
        ([0.45, 0.30, 0.38, 0.42, 0.46], 3),
        # near from the start
        ([0.44, 0.44, 0.45, 0.45, 0.46], 0),
    ],
)
def test_a_push_begins_with_the_last_approach_before_the_first_touch(way: list[float], start: int) -> None:
    segments = find_segments(PUSH, pushing(way), WINDOW)
    assert segments == (Segment(stage="push", start=start, end=7),)


def test_a_push_that_touches_nothing_has_no_stage() -> None:
    replayed = pushing([0.30, 0.34, 0.38, 0.42, 0.46])
    still = {name: np.zeros_like(t) for name, t in replayed.trace.touching.items()}
    fixed = {name: np.tile(p[0], (len(p), 1)) for name, p in replayed.trace.object_pose.items()}
    replayed = replace(replayed, trace=replace(replayed.trace, touching=still, object_pose=fixed))
    assert find_segments(PUSH, replayed, WINDOW) == "never touched the cube_left"
    assert why_failed(PUSH, replace(replayed, succeeded=False)) == "never touched the cube_left"


def pushing(way: list[float]) -> Replayed:
    """The hand moves along x; at the last of ``way`` it touches the cube and pushes it by 10 cm in three steps."""
    x = np.array([*way, way[-1] + 0.03, way[-1] + 0.06, way[-1] + 0.10])
    touched = np.arange(len(x)) >= len(way) - 1
    cube = np.maximum(x, way[-1]) + 0.03
    state = PUSH.fixed_states(1, seed=0, prefix="test")[0]
    others = [name for name in state.object_pose if name != "cube_left"]
    action = np.zeros((len(x) - 1, 7))
    action[:, 0], action[:, 6] = np.diff(x), -1.0
    none = np.zeros(len(x), dtype=bool)
    trace = Trace(
        action=action,
        tcp_pose=poses([(v, 0.15, 0.02) for v in x]),
        gripper_width_m=np.zeros(len(x)),
        object_pose={
            "cube_left": poses([(v, 0.15, 0.025) for v in cube]),
            **{name: poses([(0.5, -0.1, 0.025)] * len(x)) for name in others},
        },
        touching={"cube_left": touched, **dict.fromkeys(others, none)},
        grasped=dict.fromkeys(state.object_pose, none),
        ik_failed=np.zeros(len(action), dtype=bool),
    )
    return Replayed(number=0, initial=state, trace=trace, succeeded=True, lost=False, timed_out=False)


def test_a_source_is_the_stage_without_pauses_and_its_gripper_is_that_of_its_own_steps() -> None:
    replayed = picking()
    seed = seed_from(PICK, replayed, [Segment(stage="grasp", start=2, end=6), Segment(stage="place", start=14, end=19)])
    grasp, place = seed.stages
    # step 5 waits for the fingers: a pause. Step 4 is one too, but it closes the gripper
    np.testing.assert_allclose(grasp.targets[:, 2], [0.065, 0.02, 0.02], atol=1e-9)
    assert grasp.gripper.tolist() == [1.0, 1.0, -1.0]
    # in the second stage as in the first: a gripper command belongs to the target of its own step
    np.testing.assert_allclose(place.targets[:, 2], [0.0825, 0.06, 0.06, 0.09], atol=1e-9)
    assert place.gripper.tolist() == [-1.0, -1.0, 1.0, 1.0]
    np.testing.assert_allclose(grasp.start[2], 0.11)
    np.testing.assert_allclose(place.object_pose[:3], [0.5, -0.15, 0.0])
    assert seed.pruned == len(replayed.trace) - 7


def test_an_end_beyond_the_replay_is_cut_to_it() -> None:
    replayed = picking()
    source = cut(
        replayed.trace, Segment(stage="place", start=14, end=999), object_pose=replayed.trace.object_pose["bowl"][0]
    )
    assert len(source.targets) == len(source.gripper) == 7


def test_why_a_replay_failed() -> None:
    made = picking()
    trace = made.trace

    def failed(**changes: object) -> str:
        return why_failed(PICK, replace(picking(**changes), succeeded=False))

    assert why_failed(PICK, made) == ""
    assert why_failed(PICK, replace(made, succeeded=False, lost=True)) == "lost"
    assert failed(grasped={"apple": np.zeros_like(trace.grasped["apple"])}) == "never grasped the apple"
    assert failed() == "left the apple 0 cm from the bowl"
    closed = trace.action.copy()
    closed[4:, 6] = -1.0
    assert failed(action=closed) == "dropped the apple"
    to_the_end = trace.grasped["apple"].copy()
    to_the_end[6:] = True
    assert failed(grasped={"apple": to_the_end}) == "did not release the apple"
    late = replace(picking(), succeeded=False, timed_out=True)
    assert why_failed(PICK, late) == "left the apple 0 cm from the bowl (time limit)"


SEGMENTS = [(Segment(stage="grasp", start=2, end=6), Segment(stage="place", start=14, end=19)), None]


def test_segments_come_back_as_they_were_written_and_are_not_overwritten(tmp_path: Path) -> None:
    assert read_segments(tmp_path, PICK, lengths=[30, 30]) is None
    write_segments(tmp_path, PICK, SEGMENTS)
    assert read_segments(tmp_path, PICK, lengths=[30, 30]) == SEGMENTS
    with pytest.raises(ValueError, match="may have been corrected"):
        write_segments(tmp_path, PICK, SEGMENTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["episodes"][0][0].update(end=15), "episode 0: stage 'place' is steps 14 to 19, .* 15 and 30"),
        (lambda v: v["episodes"][0][1].update(end=31), "episode 0: stage 'place' is steps 14 to 31, .* 6 and 30"),
        (lambda v: v["episodes"][0][0].update(start=6), "episode 0: stage 'grasp' is steps 6 to 6"),
        (lambda v: v["episodes"][0].reverse(), r"episode 0: the stages are \['place', 'grasp'\], the task has"),
        (lambda v: v["episodes"][0].pop(), "episode 0: the stages are"),
        (lambda v: v["episodes"][0][0].pop("end"), "episode 0: a segment is {stage, start, end}"),
        (lambda v: v["episodes"].pop(), "has 1 episodes, the dataset 2"),
        (lambda v: v.update(task="push-cube"), "of the task 'push-cube', not 'pick-place'"),
        (lambda v: v.pop("episodes"), "is no file of segments"),
    ],
)
def test_a_wrong_correction_is_refused_naming_the_episode(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = write_segments(tmp_path, PICK, SEGMENTS)
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    assert path == tmp_path / SEGMENTS_PATH
    with pytest.raises(ValueError, match=message):
        read_segments(tmp_path, PICK, lengths=[30, 30])
