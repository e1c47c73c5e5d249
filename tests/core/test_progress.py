"""Progress: rate, time left, and silence where nobody listens."""

from __future__ import annotations

import pytest

from rlco.core import progress as module
from rlco.core.progress import Pace, clock, progress, speed


class FakeClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def fake_clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(module.time, "monotonic", fake.monotonic)
    return fake


def test_a_fast_rate_is_per_second_and_a_slow_one_is_seconds_each() -> None:
    assert speed(new=20, left=30, seconds=10.0, unit="step") == "2 step/s, 0:15 left"
    assert speed(new=2, left=1, seconds=10.0, unit="episode") == "5 s/episode, 0:05 left"
    assert speed(new=4, left=0, seconds=2.0, unit="step") == "2 step/s, took 0:02"
    assert speed(new=0, left=9, seconds=2.0, unit="step") == "starting"


def test_hours_show_only_when_there_are_any() -> None:
    assert clock(65.4) == "1:05"
    assert clock(7384.0) == "2:03:04"


def test_work_of_an_earlier_run_does_not_count_as_speed(fake_clock: FakeClock) -> None:
    pace = Pace(total=100, unit="step")
    pace.reach(81, 100)
    fake_clock.now += 5.0
    pace.reach(90, 100)
    assert pace.figures == "2 step/s, 0:05 left"  # 10 new steps in 5 s


def test_the_next_part_of_the_work_has_a_pace_of_its_own(fake_clock: FakeClock) -> None:
    pace = Pace(total=10, unit="step")
    pace.reach(10, 10)  # all found from an earlier run
    pace.reach(51, 100)  # and so are half of the next part
    fake_clock.now += 5.0
    pace.reach(60, 100)
    assert pace.figures == "2 step/s, 0:20 left"


def test_a_file_gets_a_line_now_and_then_and_one_at_the_end(
    fake_clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("evaluate", total=100, unit="episode") as bar:
        for _ in range(50):
            fake_clock.now += 1.0
            bar.advance(2, note="success 0.50")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "evaluate: 40/100 episode, 2 episode/s, 0:30 left, success 0.50",
        "evaluate: 80/100 episode, 2 episode/s, 0:10 left, success 0.50",
        "evaluate: 100/100 episode, 2 episode/s, took 0:50, success 0.50",
    ]


def test_short_work_says_nothing_to_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("short", total=2) as bar:
        bar.advance()
        bar.reach(2, 2)
    assert capsys.readouterr().err == ""


def test_quiet_work_says_nothing(fake_clock: FakeClock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("quiet", total=2, quiet=True) as bar:
        fake_clock.now += 100.0
        bar.advance()
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("sft", total=4) as bar:
        bar.advance(3, note="loss 0.5")
        bar.reach(4, 4)
    shown = capsys.readouterr().err
    assert "4/4" in shown
    assert "loss 0.5" in shown
