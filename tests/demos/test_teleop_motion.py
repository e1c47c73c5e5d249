"""No tap is lost, no limit is passed, and the arm moves where the hand does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rlco.core.poses import quat_multiply, quat_rotate, quat_to_rotvec, rotvec_to_quat, rpy_to_quat
from rlco.core.scene import MAX_ROTATION_RAD, MAX_TRANSLATION_M
from rlco.demos.teleop.devices import Command, DeviceLostError, Event, Together
from rlco.demos.teleop.hand import Hand, RealClock, polled
from rlco.demos.teleop.mapping import MappingConfig, action
from rlco.demos.teleop.timing import Pacer, Timing
from tests.demos.teleop_fakes import FakeClock, ScriptedDevice

DOWN = np.array([0.0, 0.0, 0.0, np.pi, 0.0, 0.0, 0.08, 1.0], dtype=np.float32)
"""A state whose fingers point down: half a turn about x."""


def hand_of(*script: tuple[float, Sequence[float] | None, Sequence[Event]]) -> tuple[Hand, FakeClock]:
    clock = FakeClock()
    device = ScriptedDevice(script)
    device.clock = clock
    hand = Hand(device, clock)
    clock.on_tick = hand.sample
    return hand, clock


@pytest.mark.parametrize("begin_s", [0.02, 0.04, 0.1, 0.14, 0.18])
def test_a_tap_counts_for_as_long_as_it_lasts_wherever_it_falls_between_two_actions(begin_s: float) -> None:
    hand, clock = hand_of((begin_s, [1.0], []), (begin_s + 0.06, [0.0], []))
    ways = []
    for _ in range(3):
        clock.sleep(0.2)
        ways.append(hand.take().way_s[0])
    assert sum(ways) == pytest.approx(0.06)
    # most of the taps end within the first period, and no latest sample would show them
    assert ways[2] == 0.0


def test_a_press_is_handed_out_once_and_in_order() -> None:
    hand, clock = hand_of((0.02, [0.0], [Event.GRIPPER]), (0.1, [0.0], [Event.SUCCESS]))
    clock.sleep(0.2)
    assert hand.take().events == (Event.GRIPPER, Event.SUCCESS)
    assert hand.take().events == ()


def test_a_lost_device_is_told_where_its_readings_are_taken() -> None:
    hand, clock = hand_of((0.1, None, []))
    clock.sleep(0.2)
    for _ in range(2):
        with pytest.raises(DeviceLostError, match="gone"):
            hand.take()


def test_the_background_thread_reads_while_the_session_waits_and_ends_with_it() -> None:
    class Counter:
        name = "counter"
        reads = 0

        def read(self) -> Command:
            self.reads += 1
            # a tap of two readings, long before the session asks
            return Command(translation=np.array([1.0 if self.reads in (2, 3) else 0.0, 0.0, 0.0]))

        def close(self) -> None:
            pass

    counter, clock = Counter(), RealClock()
    hand = Hand(counter, clock)
    with polled(hand, every_s=0.005):
        while counter.reads < 10:
            clock.sleep(0.005)
        assert hand.take().way_s[0] > 0.005
    after = counter.reads
    clock.sleep(0.05)
    assert counter.reads == after


def test_devices_add_up_within_the_limits() -> None:
    one = ScriptedDevice([(0.0, [0.8, -0.5, 0.0, 0.0, 0.0, 1.0], [Event.START])])
    two = ScriptedDevice([(0.0, [0.8, 0.1, 0.0, 0.0, 0.0, 0.0], [Event.QUIT])])
    both = Together([one, two])
    command = both.read()
    assert command.translation.tolist() == pytest.approx([1.0, -0.4, 0.0])
    assert command.rotation.tolist() == [0.0, 0.0, 1.0]
    assert command.events == (Event.START, Event.QUIT)
    both.close()
    assert one.is_closed
    assert two.is_closed


def test_no_action_passes_the_limits_of_a_control_step() -> None:
    rng = np.random.default_rng(0)
    config = MappingConfig(translation_scale=1.0, rotation_scale=1.0)
    limit = np.array([MAX_TRANSLATION_M] * 3 + [MAX_ROTATION_RAD] * 3 + [1.0], dtype=np.float32)
    largest = np.zeros(7)
    for _ in range(300):
        state = np.concatenate([rng.normal(size=3), rng.normal(size=3), [0.0, 1.0]]).astype(np.float32)
        step = action(rng.normal(size=6) * 3, state=state, gripper=1.0, config=config)
        assert step.dtype == np.float32
        assert (np.abs(step) <= limit * (1 + 1e-6)).all()
        largest = np.maximum(largest, np.abs(step))
    assert largest == pytest.approx(limit, rel=1e-3)


def test_full_deflection_is_the_configured_share_of_the_largest_step() -> None:
    config = MappingConfig(translation_scale=0.4, rotation_scale=0.2)
    step = action(np.array([1.0, -0.5, 0.25, 0, 0, 0]), state=DOWN, gripper=-1.0, config=config)
    assert step.tolist() == pytest.approx([0.02, -0.01, 0.005, 0, 0, 0, -1.0])
    turn = action(np.array([0, 0, 0, 0, 0, 1.0]), state=DOWN, gripper=1.0, config=config)
    # fingers down: left about the vertical is right about the hand's own axis
    assert turn.tolist() == pytest.approx([0, 0, 0, 0, 0, -0.05, 1.0], abs=1e-7)


@pytest.mark.parametrize("axis", range(3))
def test_the_hand_turns_about_the_axis_of_the_base_frame_whatever_its_orientation(axis: int) -> None:
    rng = np.random.default_rng(axis)
    for _ in range(20):
        tool = rotvec_to_quat(rng.normal(size=3))
        state = np.concatenate([np.zeros(3), quat_to_rotvec(tool), [0.0, 1.0]]).astype(np.float32)
        share = np.eye(6)[3 + axis]
        step = action(share, state=state, gripper=1.0, config=MappingConfig(rotation_scale=0.2))
        # the controller's rule: the action turns about the hand's own axes
        after = quat_multiply(tool, rpy_to_quat(step[3:6].astype(np.float64)))
        expected = quat_multiply(rotvec_to_quat(0.05 * np.eye(3)[axis]), tool)
        point = rng.normal(size=3)
        assert quat_rotate(after, point) == pytest.approx(quat_rotate(expected, point), abs=1e-6)


def test_from_the_other_side_forward_and_left_change_their_signs_and_up_does_not() -> None:
    share = np.array([0.5, -1.0, 0.2, 0.3, 0.1, 0.4])
    behind = action(share, state=np.zeros(8, np.float32), gripper=1.0, config=MappingConfig())
    front = action(share, state=np.zeros(8, np.float32), gripper=1.0, config=MappingConfig(seat="front"))
    assert (front / behind)[[0, 1, 2]].tolist() == pytest.approx([-1, -1, 1])
    turns = [quat_to_rotvec(rpy_to_quat(step[3:6].astype(np.float64))) for step in (behind, front)]
    assert turns[1] == pytest.approx(turns[0] * (-1, -1, 1), abs=1e-6)


def test_a_locked_rotation_stays_at_rest() -> None:
    step = action(np.ones(6), state=DOWN, gripper=1.0, config=MappingConfig(rotation_scale=0.0))
    assert not step[3:6].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"translation_scale": 0.0}, r"translation_scale must be in \(0, 1\], got 0.0"),
        ({"rotation_scale": 1.5}, r"rotation_scale must be in \[0, 1\], got 1.5"),
    ],
)
def test_a_speed_beyond_the_limits_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MappingConfig(**settings)


def test_the_achieved_rate_is_by_hand() -> None:
    timing = Timing(period_s=0.2)
    # intervals .2 .2 .3 .21: 4 / .91 s; only .3 is more than a tenth late
    for now in (0.0, 0.2, 0.4, 0.7, 0.91):
        timing.sent(now)
    assert timing.achieved_hz == pytest.approx(4 / 0.91)
    assert timing.worst_s == pytest.approx(0.3)
    assert timing.late == 1


def test_after_a_late_step_the_next_one_is_not_in_a_hurry() -> None:
    clock = FakeClock()
    pacer, woke = Pacer(clock, 0.2), []
    for busy in (0.0, 0.05, 0.5, 0.0, 0.0):
        pacer.wait()
        woke.append(clock.now())
        clock.sleep(busy)
    assert woke == pytest.approx([0.2, 0.4, 0.6, 1.1, 1.3])
