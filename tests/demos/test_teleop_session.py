"""A session by a scripted device and clock: what is kept, what is said, and that no control step is dropped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rlco.core.episode import StopReason
from rlco.demos.teleop.devices import DeviceLostError, Event
from rlco.demos.teleop.session import Session
from tests.demos.teleop_fakes import FakeWorld, Memory, ScriptedDevice, Witness, rig_of, start

GO, OK, NO, QUIT, GRIP = Event.START, Event.SUCCESS, Event.DISCARD, Event.QUIT, Event.GRIPPER
Script = Sequence[tuple[float, Sequence[float] | None, Sequence[Event]]]


def session_of(
    script: Script, world: FakeWorld, *, wanted: int = 1, require_success: bool = False
) -> tuple[Session, Memory, Witness]:
    rig, view = rig_of(ScriptedDevice(script), world, require_success=require_success)
    memory = Memory()
    return Session(rig=rig, sink=memory, starts=start, wanted=wanted), memory, view


def test_every_control_step_is_in_the_episode_with_what_was_seen_before_it() -> None:
    world = FakeWorld()
    session, memory, _ = session_of([(0.1, [0], [GO]), (0.5, [1.0, 0, 0], []), (2.5, [0], [OK])], world)
    session.run()
    episode = memory.episodes[0]
    # moved from .5 to 2.5 s; the first action is sent at .6 s, the last before the key at 2.5 s is read at 2.6 s
    assert len(episode) == world.total == 10
    assert np.array_equal(episode.action, np.stack(world.sent))
    assert episode.image[:, 0, 0, 0].tolist() == list(range(10))
    assert episode.state[:, 0].tolist() == list(range(10))
    assert episode.action[:, 0].tolist() == pytest.approx([0.025 - 0.005] + [0.05] * 9, abs=0.006)
    assert (episode.fps, episode.stop_reason, episode.instruction) == (5, StopReason.SUCCESS, "do 0")
    assert session.summary().dropped == 0
    assert session.summary().steps == 10


def test_idle_steps_before_the_first_motion_are_not_recorded_and_later_ones_are() -> None:
    world = FakeWorld()
    script = [(0.1, [0], [GO]), (2.02, [1.0], []), (2.2, [0], []), (3.2, [1.0], []), (3.5, [0], [OK])]
    session, memory, _ = session_of(script, world)
    session.run()
    moved = memory.episodes[0].action[:, 0] != 0
    assert moved[0]
    assert moved.tolist() == [True] * 1 + [False] * 5 + [True] * 1
    assert world.observed > 5, "the picture must stay live while nothing moves"


def test_closing_the_gripper_is_a_motion_and_its_command_stays() -> None:
    world = FakeWorld()
    script = [(0.1, [0], [GO]), (1.0, [0], [GRIP]), (1.5, [0], [GRIP, GRIP]), (2.0, [0], [GRIP]), (2.4, [0], [OK])]
    session, memory, _ = session_of(script, world)
    session.run()
    # the fake world's gripper starts closed
    gripper = memory.episodes[0].action[:, 6]
    assert gripper[0] == 1.0
    assert (np.diff(gripper) != 0).sum() == 1
    assert gripper[-1] == -1.0


def test_what_is_pressed_before_the_start_neither_moves_nor_counts() -> None:
    world = FakeWorld()
    script = [(0.1, [1.0], [OK, NO, GRIP]), (0.9, [0], [GO]), (1.3, [1.0], []), (2.0, [0], [OK])]
    session, memory, _ = session_of(script, world)
    session.run()
    assert memory.count == 1
    assert (memory.episodes[0].action[:, 6] == -1.0).all()
    assert session.discarded == {}


def test_discarded_attempts_are_counted_and_their_start_is_tried_again() -> None:
    world = FakeWorld()
    episode = [(0.1, [0], [GO]), (0.3, [1.0], []), (1.3, [0], [OK])]
    discarded = [(0.1, [0], [GO]), (0.3, [1.0], []), (1.3, [0], [NO])]
    script = _one_after_another([discarded, discarded, episode, episode])
    session, memory, view = session_of(script, world, wanted=2)
    session.run()
    assert world.started == ["0.0", "0.1", "0.2", "1.0"]
    assert [e.initial_state.name for e in memory.episodes if e.initial_state] == ["0.2", "1.0"]
    assert session.discarded == {"discarded": 2}
    assert [p["discarded_before"] for p in memory.provenance] == [{"discarded": 2}, {}]
    assert sum("not kept (discarded)" in text for text in view.said) == 2


def test_a_success_after_one_step_is_no_demonstration() -> None:
    world = FakeWorld()
    script = [(0.1, [0], [GO]), (0.42, [1.0], []), (0.62, [0], [OK]), *_after(1.0, _full), *_after(1.2, [])]
    session, memory, view = session_of(script, world)
    session.run()
    assert session.discarded == {"too short": 1}
    assert memory.count == 1
    assert any("a demonstration needs 2" in text for text in view.said)


def test_the_persons_word_counts_and_the_tasks_opinion_is_written_down() -> None:
    world = FakeWorld(length=4, solves=True)
    early = [(0.1, [0], [GO]), (0.3, [1.0], []), (0.9, [0], [OK])]
    full = [(0.1, [0], [GO]), (0.3, [1.0], []), (2.9, [0], [OK])]
    session, memory, view = session_of(_one_after_another([early, full]), world, wanted=2)
    session.run()
    assert [p["task_confirms"] for p in memory.provenance] == [False, True]
    assert session.summary().unconfirmed == 1
    assert any("the task's own check says no" in text for text in view.said)


def test_with_require_success_only_what_the_task_confirms_is_kept() -> None:
    world = FakeWorld(length=4, solves=True)
    early = [(0.1, [0], [GO]), (0.3, [1.0], []), (0.9, [0], [OK])]
    full = [(0.1, [0], [GO]), (0.3, [1.0], []), (2.9, [0], [OK])]
    session, memory, _ = session_of(_one_after_another([early, full]), world, require_success=True)
    session.run()
    assert [p["task_confirms"] for p in memory.provenance] == [True]
    assert session.discarded == {"not confirmed by the task": 1}


@pytest.mark.parametrize("solves", [True, False])
def test_when_the_world_ends_the_episode_no_step_is_made_up_and_the_person_decides(solves: bool) -> None:  # noqa: FBT001
    world = FakeWorld(length=4, solves=solves)
    # the hand goes on moving long after the end
    session, memory, view = session_of([(0.1, [0], [GO]), (0.3, [1.0], []), (4.0, [1.0], [OK])], world)
    session.run()
    assert len(memory.episodes[0]) == 4 == world.total
    assert memory.provenance[0]["task_confirms"] is solves
    assert any(status.phase == "success or discard?" for _, status in view.shown)


def test_an_episode_that_the_world_lost_is_not_kept() -> None:
    world = FakeWorld()
    world.loses_at = 3
    session, memory, _ = session_of([(0.1, [0], [GO]), (0.3, [1.0], []), (3.0, [0], [QUIT])], world)
    session.run()
    assert memory.count == 0
    assert session.discarded == {"lost": 1}


def test_a_device_that_goes_away_loses_the_running_episode_only_and_says_so() -> None:
    world = FakeWorld()
    episode = [(0.1, [0], [GO]), (0.3, [1.0], []), (1.3, [0], [OK])]
    gone = [(0.1, [0], [GO]), (0.3, [1.0], []), (1.3, None, [])]
    session, memory, view = session_of(_one_after_another([episode, gone]), world, wanted=2)
    with pytest.raises(DeviceLostError):
        session.run()
    assert memory.count == 1
    assert session.discarded == {"device lost": 1}
    assert re.fullmatch(r"not kept \(device lost\): \d steps", view.said[-1])


def test_an_interrupt_counts_the_running_episode_and_keeps_the_others() -> None:
    class Interrupted(FakeWorld):
        def step(self, actions: np.ndarray) -> tuple[Any, ...]:
            if self.total == 8:
                raise KeyboardInterrupt
            return super().step(actions)

    episode = [(0.1, [0], [GO]), (0.3, [1.0], []), (1.3, [0], [OK])]
    session, memory, _ = session_of(_one_after_another([episode, episode]), Interrupted(), wanted=2)
    with pytest.raises(KeyboardInterrupt):
        session.run()
    assert memory.count == 1
    assert session.discarded == {"interrupted": 1}


def test_quitting_ends_the_session_at_any_moment() -> None:
    for script in ([(0.1, [0], [QUIT])], [(0.1, [0], [GO]), (0.3, [1.0], []), (1.0, [0], [QUIT])]):
        session, memory, _ = session_of(script, FakeWorld())
        session.run()
        assert memory.count == 0
    assert session.discarded == {"quit": 1}


def test_the_rate_that_is_shown_and_stored_is_the_one_that_was_achieved() -> None:
    # the third step takes .3 s: the next one is .1 s late
    world = FakeWorld(step_s=[0.0, 0.0, 0.3])
    session, memory, view = session_of([(0.1, [0], [GO]), (0.3, [1.0], []), (2.0, [0], [OK])], world)
    session.run()
    found = memory.provenance[0]
    steps = len(memory.episodes[0])
    seconds = (steps - 1) * 0.2 + 0.1
    assert found["achieved_hz"] == pytest.approx((steps - 1) / seconds)
    assert found["worst_step_s"] == pytest.approx(0.3)
    assert found["late_steps"] == 1
    assert (found["operator"], found["device"], found["executed_steps"]) == ("person", "scripted", steps)
    last = view.shown[-1][1]
    assert last.late == 1
    assert f"{found['achieved_hz']:.2f} Hz (worst step 0.30 s), late 1" in last.line()
    summary = session.summary()
    assert (summary.late_steps, summary.dropped) == (1, 0)
    assert summary.achieved_hz == pytest.approx(found["achieved_hz"])


def test_a_blocking_world_keeps_its_rate_and_loses_no_tap() -> None:
    # a robot's step lasts the control period: the hand is read meanwhile
    world = FakeWorld(step_s=[0.2] * 30)
    script = [
        (0.1, [0], [GO]),
        (0.3, [1.0], []),
        (0.41, [0], []),
        (1.02, [0, 1.0], []),
        (1.08, [0], []),
        (2.5, [0], [OK]),
    ]
    session, memory, _ = session_of(script, world)
    session.run()
    assert memory.provenance[0]["achieved_hz"] == pytest.approx(5.0)
    assert memory.provenance[0]["late_steps"] == 0
    assert memory.episodes[0].action[:, 1].sum() == pytest.approx(0.05 * 0.06 / 0.2)


def test_the_status_line_tells_what_the_person_needs() -> None:
    session, _, view = session_of([(0.1, [0], [GO]), (0.3, [1.0], [GRIP]), (1.5, [0], [OK])], FakeWorld(length=4))
    session.run()
    assert "press b to begin" in view.shown[0][1].line()
    assert view.shown[0][1].line().startswith("[1/1]")
    assert view.shown[-1][1].line() == (
        "[1/1] success or discard? | step 4 5.00 Hz (worst step 0.20 s), late 0 | gripper open | task solved: yes"
    )
    assert view.said[-1] == "kept: 4 steps, 5.00 Hz, 0 late"


def test_the_summary_of_several_sessions_weighs_every_interval_the_same() -> None:
    from rlco.demos.teleop.session import Kept, Summary

    one = {"task_confirms": True, "executed_steps": 11, "achieved_hz": 5.0, "worst_step_s": 0.2, "late_steps": 0}
    two = {"task_confirms": False, "executed_steps": 5, "achieved_hz": 4.0, "worst_step_s": 0.5, "late_steps": 2}
    summary = Summary.of([Kept(frames=11, provenance=one), Kept(frames=4, provenance=two)], discarded={"quit": 1})
    # 10 intervals in 2 s and 4 in 1 s; one frame of the second is missing
    assert summary.achieved_hz == pytest.approx(14 / 3)
    assert (summary.steps, summary.dropped, summary.late_steps, summary.unconfirmed) == (15, 1, 2, 1)
    assert summary.worst_step_s == 0.5
    assert "discarded 1 (1 quit)" in summary.line()
    assert "dropped 1" in summary.line()


_full: Script = [(0.1, [0], [GO]), (0.3, [1.0], []), (1.3, [0], [OK])]


def _after(seconds: float, script: Script) -> Script:
    return [(at_s + seconds, velocity, pressed) for at_s, velocity, pressed in script]


def _one_after_another(scripts: Sequence[Script]) -> Script:
    """Return one script in which each begins 0.6 s after the end of the last one."""
    result: list[Any] = []
    for script in scripts:
        result += _after(result[-1][0] + 0.6 if result else 0.0, script)
    return result
