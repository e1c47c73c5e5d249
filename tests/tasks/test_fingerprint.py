"""A task that changed is another one: what was made of it before is not reused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rlco.demos.record import RecordConfig, record_demonstrations
from rlco.tasks import TASKS, CloseDrawer, PushCube, Task, task_fingerprint
from rlco.tasks.drawer import Cabinet

OTHERS = {
    "a number": ("push-cube", PushCube(max_steps=61)),
    "a size of what stands there": ("close-drawer", CloseDrawer(cabinet=Cabinet(width_m=0.06, height_m=0.09))),
    "a region": ("close-drawer", CloseDrawer(region=replace(CloseDrawer().region, yaw_rad=0.1))),
}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    task_fingerprint.cache_clear()
    yield
    task_fingerprint.cache_clear()


def test_every_task_has_its_own_and_keeps_it() -> None:
    found = {name: task_fingerprint(name) for name in TASKS}
    assert len(set(found.values())) == len(TASKS)
    task_fingerprint.cache_clear()
    assert {name: task_fingerprint(name) for name in TASKS} == found


@pytest.mark.parametrize("change", OTHERS)
def test_what_changes_a_task_changes_its_fingerprint(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    name, other = OTHERS[change]
    before = task_fingerprint(name)
    become(monkeypatch, name, other)
    assert task_fingerprint(name) != before


@pytest.mark.sim
def test_demonstrations_of_a_task_that_has_changed_are_not_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RecordConfig(task="push-cube", objects=None, count=1, image_size=32)
    made = record_demonstrations(tmp_path / "real", config, num_envs=2)
    assert record_demonstrations(tmp_path / "real", config, num_envs=2) == made
    become(monkeypatch, "push-cube", PushCube(max_steps=61))
    with pytest.raises(ValueError, match="real"):
        record_demonstrations(tmp_path / "real", config, num_envs=2)


def become(monkeypatch: pytest.MonkeyPatch, name: str, other: Task) -> None:
    monkeypatch.setitem(TASKS, name, other)
    task_fingerprint.cache_clear()
