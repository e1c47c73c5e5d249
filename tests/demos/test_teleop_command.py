"""The whole of ``rlco teleop``: in the real stand-in, by a scripted device, and by keys on a real terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlco.cli import main
from rlco.data.layout import PROVENANCE_PATH
from rlco.data.reader import Dataset
from rlco.demos.teleop import record as teleop_record
from rlco.demos.teleop.devices import Command, DeviceLostError, Event
from rlco.demos.teleop.hand import RealClock
from rlco.demos.teleop.mapping import MappingConfig
from rlco.demos.teleop.record import TeleopConfig, finished, teleoperate
from rlco.tasks import task
from rlco.worlds.world import World
from tests.demos.teleop_fakes import ScriptedDevice, Witness

CONFIG = TeleopConfig(
    task="push-cube", count=2, image_size=32, max_steps=200, mapping=MappingConfig(translation_scale=1.0)
)


class FastClock(RealClock):
    """Ten times as fast as the machine's: twenty seconds of a session take two."""

    def now(self) -> float:
        return super().now() * 10

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / 10)


class Pilot(Witness):
    """A person who watches and moves: begins, drives forth and back, turns the gripper, ends; one ending an attempt.

    It goes by what it sees, not by the time, so a slow machine changes nothing. The ending ``None`` unplugs the device.
    """

    name = "pilot"

    def __init__(self, *endings: Event | None) -> None:
        super().__init__()
        self.endings = list(endings)
        self.pressed: set[Event | None] = set()

    def read(self) -> Command:
        if not self.shown:
            return Command()
        status = self.shown[-1][1]
        if status.phase == "press b to begin":
            self.pressed &= {Event.START}
            return self.press(Event.START)
        if Event.START in self.pressed:
            self.pressed = set()
        if status.steps >= 8:
            ending = self.endings[0] if self.pressed <= {Event.GRIPPER} else Event.GRIPPER
            if ending is None:
                raise DeviceLostError("The pilot's device is unplugged.")
            if ending != Event.GRIPPER:
                self.endings.pop(0)
            return self.press(ending)
        if status.steps >= 4:
            return replace(self.press(Event.GRIPPER), translation=np.array([-0.5, 0.5, 0.0]))
        return Command(translation=np.array([0.5, -0.5, 0.2]))

    def press(self, event: Event) -> Command:
        """Press once an attempt."""
        is_new = event not in self.pressed
        self.pressed.add(event)
        return Command(events=(event,) if is_new else ())


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return what really goes into the real world: the picture before, and the action."""
    calls: list[tuple[np.ndarray, np.ndarray]] = []
    step, last = World.step, {}

    def watched(self: World, actions: np.ndarray) -> Any:  # noqa: ANN401
        calls.append((last["state"], actions[0].copy()))
        result = step(self, actions)
        last["state"] = result[0]["state"][0].copy()
        return result

    def reset(self: World, **settings: Any) -> Any:  # noqa: ANN401
        observation, info = original_reset(self, **settings)
        last["state"] = observation["state"][0].copy()
        return observation, info

    def observe(self: World) -> Any:  # noqa: ANN401
        observation = original_observe(self)
        last["state"] = observation["state"][0].copy()
        return observation

    original_reset, original_observe = World.reset, World.observe
    monkeypatch.setattr(World, "step", watched)
    monkeypatch.setattr(World, "reset", reset)
    monkeypatch.setattr(World, "observe", observe)
    return calls


@pytest.mark.sim
def test_a_session_in_the_real_world_is_a_dataset_of_exactly_what_was_sent(tmp_path: Path, sent: list[Any]) -> None:
    pilot = Pilot(Event.SUCCESS, Event.SUCCESS)
    summary = teleoperate(tmp_path / "out", CONFIG, pilot, pilot, clock=FastClock())
    dataset = Dataset.open(tmp_path / "out", control_hz=5)
    assert len(dataset.episodes) == summary.kept == 2
    assert len(dataset) == len(sent) == summary.steps
    assert summary.dropped == 0
    assert np.array_equal(dataset.action, np.stack([action for _, action in sent]))
    assert np.array_equal(dataset.state, np.stack([state for state, _ in sent]))
    assert dataset.frames.shape == (len(sent), 32, 32, 3)
    assert np.asarray(dataset.frames).std() > 10
    assert [s.name for s in dataset.initial_states if s] == [
        s.name for s in task("push-cube").fixed_states(2, seed=0, prefix="teleop")
    ]
    # the arm went where the hand did: forward at first
    first = dataset.episode(0)
    assert first.action[0, 0] > 0
    assert first.state[4, 0] > first.state[0, 0] + 0.005
    episodes = json.loads((tmp_path / "out" / PROVENANCE_PATH).read_text())["episodes"]
    assert [one["executed_steps"] for one in episodes] == [len(span) for span in dataset.episodes]
    assert all(one["operator"] == "person" and one["achieved_hz"] > 1 for one in episodes)
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.sim
def test_an_interrupted_session_keeps_what_is_finished_and_the_next_one_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    pilot = Pilot(Event.SUCCESS, None)  # unplugged while the second episode runs
    with pytest.raises(DeviceLostError):
        teleoperate(folder, CONFIG, pilot, pilot, clock=FastClock())
    assert not folder.exists()
    assert any("kept 1" in text and "1 device lost" in text for text in pilot.said)
    assert finished(folder, CONFIG) is None
    pilot = Pilot(Event.SUCCESS)
    summary = teleoperate(folder, CONFIG, pilot, pilot, clock=FastClock())
    assert summary.kept == 1
    assert "kept 2" in pilot.said[-1]
    dataset = Dataset.open(folder)
    assert len(dataset.episodes) == 2
    assert len({s.name for s in dataset.initial_states if s}) == 2
    report = finished(folder, CONFIG)
    assert report is not None
    assert report.kept == 2
    # a third time: nothing to do, and nothing is touched
    device = ScriptedDevice([])
    assert teleoperate(folder, CONFIG, device, Witness()) == report


@pytest.mark.sim
def test_a_session_that_keeps_nothing_leaves_nothing(tmp_path: Path) -> None:
    pilot = Pilot(Event.DISCARD, Event.QUIT)
    summary = teleoperate(tmp_path / "out", CONFIG, pilot, pilot, clock=FastClock())
    assert (summary.kept, summary.discarded) == (0, {"discarded": 1, "quit": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_balanced_list_or_another_start_at_every_try() -> None:
    fixed = teleop_record.starting_points(CONFIG)
    assert fixed(1, 0) == fixed(1, 5) != fixed(0, 0)
    random = teleop_record.starting_points(TeleopConfig(task="push-cube", starts="random"))
    assert len({random(number, tries).name for number in range(3) for tries in range(3)}) == 9
    assert random(1, 1) == random(1, 1)


@pytest.mark.parametrize(("change", "part"), [({"domain": "robot"}, "franka"), ({"image_size": 2}, "image_size")])
def test_a_world_that_does_not_exist_leaves_nothing(tmp_path: Path, change: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        teleoperate(tmp_path / "out", replace(CONFIG, **change), ScriptedDevice([]), Witness())
    assert list(tmp_path.iterdir()) == []


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="count must be 1 or more, got 0"):
        TeleopConfig(task="push-cube", count=0)


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ("OUT --view none", 1, "not a terminal"),
        ("OUT --task push-cub", 1, "No task named 'push-cub'"),
        ("OUT --device mouse", 2, "--device"),
        ("OUT --count 0", 1, "count must be 1 or more"),
        ("OUT --translation-scale 2", 2, "translation_scale must be in (0, 1]"),
        ("OUT --device spacemouse", 1, "pip install rlco[teleop]"),
        ("taken", 1, "is not empty and was not made here"),
        ("/proc/out", 1, "/proc"),
    ],
)
def test_a_mistake_is_one_line_before_a_world_starts(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: str,
    code: int,
    part: str,
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a world was started")

    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(teleop_record, "make_world", never)
    monkeypatch.setitem(sys.modules, "pyspacemouse", None)
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert main(["teleop", *words.split()]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("rlco: ")
    assert said.err.count("\n") == 1
    assert part in said.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["taken"]


class Person:
    """Types on the terminal of a real ``rlco teleop``."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        command = [sys.executable, "-m", "rlco.cli", "teleop", str(folder), "--image-size", "32", *words]
        self.process = subprocess.Popen(
            command, stdin=self.slave, stdout=subprocess.PIPE, stderr=self.slave, start_new_session=True
        )
        self.seen = ""

    def await_text(self, text: str, *, timeout_s: float = 60.0) -> None:
        """Wait until the terminal shows ``text``; forget what came before its end."""
        deadline = time.monotonic() + timeout_s
        while text not in self.seen:
            assert time.monotonic() < deadline, f"'{text}' did not come: {self.seen}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536).decode()
        self.seen = self.seen.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def demonstrate(self) -> None:
        """Record a few steps, and say that they are a success."""
        self.await_text("press b to begin")
        self.type("b")
        self.await_text("move to record")
        self.type("w")
        self.await_text("step 3")
        self.type("\r")

    def leave(self) -> tuple[int, bytes]:
        """Return exit code and stdout; the terminal must be as it was."""
        out, _ = self.process.communicate(timeout=60)
        after = termios.tcgetattr(self.slave)
        os.close(self.slave)
        os.close(self.master)
        assert after == self.before
        return self.process.returncode, out


@pytest.mark.sim
def test_a_person_at_a_terminal_records_is_terminated_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    words = ("--count", "2", "--view", "none")
    person = Person(folder, *words)
    person.demonstrate()
    person.await_text("kept: ")
    person.await_text("press b to begin")
    person.process.send_signal(signal.SIGTERM)
    person.await_text("goes on from what is on disk")
    assert person.leave()[0] == 1
    assert not folder.exists()

    person = Person(folder, *words)
    person.await_text("2/2: push the")
    person.demonstrate()
    person.await_text("is complete")
    code, out = person.leave()
    assert code == 0
    assert json.loads(out)["kept"] == 1
    dataset = Dataset.open(folder, control_hz=5)
    assert len(dataset.episodes) == 2
    assert all(dataset.episode(i).action[0, 0] > 0 for i in range(2))
    achieved = [e["achieved_hz"] for e in json.loads((folder / PROVENANCE_PATH).read_text())["episodes"]]
    assert all(hz > 0 for hz in achieved)


@pytest.mark.sim
def test_no_privileged_fact_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a robot's world knows no facts
    def never(self: World) -> None:
        raise AssertionError("facts were asked for")

    monkeypatch.setattr(World, "facts", never)
    pilot = Pilot(Event.SUCCESS)
    assert teleoperate(tmp_path / "out", replace(CONFIG, count=1), pilot, pilot, clock=FastClock()).kept == 1
