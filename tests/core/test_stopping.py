"""Asked to stop: at once, at the end of a step, or when a step takes too long."""

from __future__ import annotations

import signal
import time

import pytest

from rlco.core.stopping import StoppedError, between_steps, heeding_signals

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@BOTH
def test_where_there_are_no_steps_it_stops_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(StoppedError) as stopped, heeding_signals():
        signal.raise_signal(number)
        pytest.fail("went on")
    assert stopped.value.number == number
    assert signal.getsignal(number) == before


@BOTH
def test_a_step_is_finished_and_then_it_stops(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    done = []
    with pytest.raises(StoppedError) as stopped, heeding_signals(), between_steps() as stop:
        for step in range(3):
            if step == 1:
                signal.raise_signal(number)
            done.append(step)
            if stop.is_up():
                break
    assert done == [0, 1]
    assert stopped.value.number == number
    assert f"{number.name}: stopping after this step; once more stops at once" in capfd.readouterr().err


def test_a_second_signal_stops_in_the_middle_of_a_step() -> None:
    with pytest.raises(StoppedError), heeding_signals(), between_steps() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked == signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("went on")


def test_a_step_that_outlasts_the_grace_is_left_and_what_is_saved_after_a_step_is_not() -> None:
    with heeding_signals():
        began = time.monotonic()
        with pytest.raises(StoppedError), between_steps(grace_s=0.1):
            signal.raise_signal(signal.SIGTERM)
            time.sleep(5)
        assert time.monotonic() - began < 2
        saved = False
        with pytest.raises(StoppedError), between_steps(grace_s=0.1) as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop.is_up()
            time.sleep(0.3)
            saved = True
        assert saved
        time.sleep(0.2)  # no alarm is left over


def test_an_error_in_a_step_is_not_replaced_by_the_stop() -> None:
    with heeding_signals(), pytest.raises(ValueError, match="mine"), between_steps():
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("mine")
    # and a loop that was asked only after its last step stops the program all the same
    with pytest.raises(StoppedError), heeding_signals():
        with between_steps():
            signal.raise_signal(signal.SIGTERM)
        pytest.fail("the next work began")
