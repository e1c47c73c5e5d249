"""The SpaceMouse, with a module of pyspacemouse 2.1's shape in place of the library: no hardware is tested."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from enum import StrEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rlco.demos.teleop.devices import Device, DeviceLostError, Event
from rlco.demos.teleop.spacemouse import SpaceMouse, SpaceMouseConfig, without_rest


class AxisConvention(StrEnum):
    """As in the library."""

    LEGACY = "legacy"
    ROS = "ros"


@dataclass
class SpaceMouseState:
    """As in the library: one object, changed in place by every report; ``t`` is -1 before the first."""

    t: float = -1.0
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    buttons: list[int] = field(default_factory=lambda: [0, 0])


class FakeMouse:
    """Reads one waiting report at a time, as the library does; ``HIDException`` is a plain ``Exception`` there."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.info = SimpleNamespace(button_names=names)
        self.state, self.reports = SpaceMouseState(buttons=[0] * len(names)), []
        self.is_closed, self.is_unplugged = False, False

    def read(self) -> SpaceMouseState:
        if self.is_unplugged:
            raise Exception("Failed to read from HID device: -1")
        if self.reports:
            for name, value in self.reports.pop(0).items():
                setattr(self.state, name, value)
            self.state.t = max(self.state.t, 0.0) + 0.001
        return self.state

    def close(self) -> None:
        self.is_closed = True


class Library(ModuleType):
    """Opens ``mouse``, or raises ``failure``."""

    AxisConvention = AxisConvention

    def __init__(self) -> None:
        super().__init__("pyspacemouse")
        self.mouse = FakeMouse(("LEFT", "RIGHT"))
        self.asked: list[AxisConvention | None] = []
        self.failure: Exception | None = None

    def open(self, *, axis_convention: AxisConvention | None = None) -> FakeMouse:
        if self.failure is not None:
            raise self.failure
        print("SpaceMouseCompact found")
        self.asked.append(axis_convention)
        return self.mouse


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library()
    monkeypatch.setitem(sys.modules, "pyspacemouse", library)
    return library


def test_the_axes_are_those_of_the_base_frame_with_their_signs(library: Library) -> None:
    mouse = SpaceMouse(SpaceMouseConfig(dead_zone=0.0))
    assert isinstance(mouse, Device)
    assert library.asked == [AxisConvention.ROS], "x away from the person, y to the left, z up"
    library.mouse.reports = [{"x": 0.1, "y": 0.2, "z": 0.3}, {"roll": -0.4, "pitch": -0.5, "yaw": -0.6}]
    command = mouse.read()
    assert command.translation.tolist() == [0.1, 0.2, 0.3]
    assert command.rotation.tolist() == [-0.4, -0.5, -0.6]
    # no report: the cap is still where it was
    assert mouse.read().translation.tolist() == [0.1, 0.2, 0.3]


def test_an_axis_of_another_model_can_be_turned_round(library: Library) -> None:
    mouse = SpaceMouse(SpaceMouseConfig(dead_zone=0.0, signs=(1, -1, 1, 1, 1, -1)))
    library.mouse.reports = [{"x": 0.5, "y": 0.5, "yaw": 0.5}]
    command = mouse.read()
    assert command.translation.tolist() == [0.5, -0.5, 0.0]
    assert command.rotation.tolist() == [0.0, 0.0, -0.5]


def test_a_resting_hand_does_not_move_the_arm_and_speed_begins_at_zero() -> None:
    found = without_rest(np.array([0.0, 0.1, -0.1, 0.12, 0.56, -0.56, 1.0, -1.4]), dead_zone=0.12)
    assert found == pytest.approx([0, 0, 0, 0, 0.5, -0.5, 1.0, -1.0])


def test_a_button_counts_once_even_if_it_is_released_between_two_readings(library: Library) -> None:
    mouse = SpaceMouse()
    library.mouse.reports = [{"buttons": [1, 0]}, {"buttons": [0, 0]}]
    assert mouse.read().events == (Event.GRIPPER,)
    assert mouse.read().events == ()
    library.mouse.reports = [{"buttons": [0, 1]}]
    assert mouse.read().events == (Event.SUCCESS,)
    library.mouse.reports = [{"buttons": [0, 1], "x": 0.9}]
    assert mouse.read().events == (), "held"


def test_every_waiting_report_is_read_at_once(library: Library) -> None:
    mouse = SpaceMouse(SpaceMouseConfig(dead_zone=0.0))
    library.mouse.reports = [{"x": i / 20} for i in range(1, 11)]
    assert mouse.read().translation[0] == 0.5
    assert library.mouse.reports == []


def test_the_buttons_are_found_by_name_where_a_model_has_many(library: Library) -> None:
    library.mouse = FakeMouse(("MENU", "FIT", "LEFT", "RIGHT"))
    mouse = SpaceMouse()
    library.mouse.reports = [{"buttons": [1, 1, 0, 0]}, {"buttons": [1, 1, 1, 0]}, {"buttons": [1, 1, 1, 1]}]
    assert mouse.read().events == (Event.GRIPPER, Event.SUCCESS)


def test_an_unplugged_device_is_one_clear_error(library: Library) -> None:
    mouse = SpaceMouse()
    library.mouse.is_unplugged = True
    with pytest.raises(DeviceLostError, match=r"does not answer any more \(unplugged\?\): Failed to read"):
        mouse.read()
    mouse.close()
    mouse.close()
    assert library.mouse.is_closed


def test_what_the_library_prints_stays_off_standard_output(
    library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    SpaceMouse()
    said = capsys.readouterr()
    assert said.out == ""
    assert "found" in said.err


def test_no_device_is_one_line(library: Library) -> None:
    library.failure = RuntimeError("No connected or supported devices found.")
    with pytest.raises(ValueError, match=r"No SpaceMouse can be used: No connected .* found\. Is it plugged in"):
        SpaceMouse()


def test_without_the_library_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspacemouse", None)
    with pytest.raises(ValueError, match=r"pip install rlco\[teleop\]"):
        SpaceMouse()


@pytest.mark.parametrize("settings", [{"dead_zone": 1.0}, {"signs": (1, 1, 1, 1, 1, 0)}])
def test_a_wrong_setting_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        SpaceMouseConfig(**settings)
