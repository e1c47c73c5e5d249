"""Asked to stop: at once, at the end of a step, or when a step takes too long."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from rlco.core.stopping import StoppedError, between_steps, heeding_signals

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def stopped_by(work: Callable[[], None]) -> signal.Signals:
    """Return the signal that ``work`` ends by."""
    with pytest.raises(StoppedError) as stopped, heeding_signals():
        work()
    return stopped.value.number


@BOTH
def test_where_there_are_no_steps_it_stops_at_once(number: signal.Signals) -> None:
    def work() -> None:
        signal.raise_signal(number)
        pytest.fail("went on")

    before = signal.getsignal(number)
    assert stopped_by(work) == number
    assert signal.getsignal(number) == before


@BOTH
def test_a_step_is_finished_and_then_it_stops(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    done = []

    def work() -> None:
        with between_steps() as stop:
            for step in range(3):
                if step == 1:
                    signal.raise_signal(number)
                done.append(step)
                if stop.is_up():
                    break

    assert stopped_by(work) == number
    assert done == [0, 1]
    assert f"{number.name}: stopping after this step; once more stops at once" in capfd.readouterr().err


def test_a_second_signal_stops_in_the_middle_of_a_step() -> None:
    reached = []

    def work() -> None:
        with between_steps():
            signal.raise_signal(signal.SIGTERM)
            reached.append("after the first")
            signal.raise_signal(signal.SIGTERM)
            reached.append("after the second")

    stopped_by(work)
    assert reached == ["after the first"]


def test_a_step_that_outlasts_the_grace_is_left_in_its_middle() -> None:
    def work() -> None:
        with between_steps(grace_s=0.1):
            signal.raise_signal(signal.SIGTERM)
            time.sleep(5)

    began = time.monotonic()
    stopped_by(work)
    assert time.monotonic() - began < 2


def test_what_is_saved_after_a_step_takes_its_time() -> None:
    reached = []

    def work() -> None:
        with between_steps(grace_s=0.1) as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop.is_up()
            time.sleep(0.3)
            reached.append("saved")

    stopped_by(work)
    assert reached == ["saved"]
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0.0


def test_an_error_in_a_step_is_not_replaced_by_the_stop() -> None:
    def work() -> None:
        with between_steps(grace_s=60.0):
            signal.raise_signal(signal.SIGTERM)
            raise ValueError("mine")

    with heeding_signals(), pytest.raises(ValueError, match="mine"):
        work()
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0.0


def test_asked_after_the_last_look_it_stops_before_other_work_begins() -> None:
    def work() -> None:
        with between_steps() as stop:
            assert not stop.is_up()
            signal.raise_signal(signal.SIGTERM)
        pytest.fail("other work began")

    assert stopped_by(work) == signal.SIGTERM
