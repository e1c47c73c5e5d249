"""Worker processes that die, hang or are told apart; nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rlco.tasks import task
from rlco.worlds import pool
from rlco.worlds.make import make_world

pytestmark = pytest.mark.sim
STATES = task("push-cube").fixed_states(4, seed=0, prefix="test")


@pytest.mark.parametrize("autoreset", [False, True])
def test_a_killed_worker_is_replaced_and_its_episodes_are_lost(*, autoreset: bool) -> None:
    with make_world("push-cube", num_envs=4, num_workers=2, image_size=32, autoreset=autoreset) as world:
        world.reset(initial_states=STATES)
        pids = world.worker_process_ids
        os.kill(pids[1], signal.SIGKILL)
        start = time.monotonic()
        _, rewards, terminated, truncated, info = world.step_chunk(np.zeros((4, 3, 7)))
        assert time.monotonic() - start < 10
        assert info["lost"].tolist() == [False, False, True, True]
        assert truncated.tolist() == [[False] * 3] * 2 + [[True, False, False]] * 2
        assert info["valid"].tolist() == [[True] * 3] * 2 + [[False] * 3] * 2
        assert not rewards.any()
        assert not terminated.any()
        assert [state.name for state in info["initial_states"]] == [state.name for state in STATES]
        assert world.worker_process_ids[0] == pids[0]
        assert world.worker_process_ids[1] != pids[1]
        if not autoreset:
            *_, info = world.step_chunk(np.zeros((4, 1, 7)))
            assert info["valid"][:, 0].tolist() == [True, True, False, False]  # over until it is reset
            world.reset(mask=info["done"])
        *_, info = world.step_chunk(np.zeros((4, 1, 7)))
        assert info["valid"].all()
        assert not info["lost"].any()


def test_a_worker_that_dies_between_steps_loses_its_episodes_too() -> None:
    with make_world("push-cube", num_envs=2, num_workers=2, image_size=32) as world:
        world.reset(initial_states=STATES[:2])
        os.kill(world.worker_process_ids[0], signal.SIGKILL)
        assert world.facts().tcp_pose.shape == (2, 7)
        *_, truncated, info = world.step(np.zeros((2, 7)))
        assert info["lost"].tolist() == [True, False]
        assert truncated.tolist() == [True, False]


def test_a_state_is_restored_in_full_although_a_worker_died_before() -> None:
    with make_world("push-cube", num_envs=2, num_workers=2, image_size=32) as world:
        world.reset(initial_states=STATES[:2])
        world.step(np.zeros((2, 7)))
        state = world.state()
        wanted = world.step(np.full((2, 7), 0.01))
        os.kill(world.worker_process_ids[0], signal.SIGKILL)
        world.restore(state)
        assert world.workers_lost == 1
        found = world.step(np.full((2, 7), 0.01))
        assert not found[4]["lost"].any()
        assert found[4]["valid"].all()
        assert np.array_equal(found[0]["image"], wanted[0]["image"])
        assert np.array_equal(found[0]["state"], wanted[0]["state"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_asks_a_whole_group_of_processes_to_stop_leaves_the_workers_to_their_trainer(
    number: signal.Signals,
) -> None:
    with make_world("push-cube", num_envs=2, num_workers=2, image_size=32) as world:
        world.reset(initial_states=STATES[:2])
        pids = world.worker_process_ids
        for pid in pids:
            os.kill(pid, number)
        time.sleep(0.2)
        *_, info = world.step(np.zeros((2, 7)))
        assert not info["lost"].any()
        assert world.worker_process_ids == pids
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_a_worker_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pool.SILENCE_S <= 10
    monkeypatch.setattr(pool, "SILENCE_S", 1.0)
    with make_world("push-cube", num_envs=2, num_workers=2, image_size=32) as world:
        world.reset(initial_states=STATES[:2])
        os.kill(world.worker_process_ids[1], signal.SIGSTOP)
        start = time.monotonic()
        *_, info = world.step(np.zeros((2, 7)))
        assert info["lost"].tolist() == [False, True]
        assert time.monotonic() - start < 10


def test_a_long_chunk_is_not_taken_for_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "SILENCE_S", 0.05)
    monkeypatch.setattr(pool, "_POLL_S", 0.01)
    with make_world("push-cube", num_envs=8, num_workers=1, image_size=32) as world:
        world.reset()
        start = time.monotonic()
        *_, info = world.step_chunk(np.zeros((8, 32, 7)))
        assert time.monotonic() - start > 0.1
        assert info["valid"].all()


def test_a_script_without_a_main_guard_leaves_no_process_and_no_warning(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np, rlco\n"
        "world = rlco.make_world('push-cube', num_envs=2, num_workers=2, image_size=32)\n"
        "world.reset(); world.step(np.zeros((2, 7)))\n"
        "print(*world.worker_process_ids)\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": path},
        check=True,
    )
    assert done.stderr == ""
    for pid in map(int, done.stdout.split()):
        assert not Path(f"/proc/{pid}").exists()


def test_workers_end_when_the_training_process_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, rlco\n"
        "world = rlco.make_world('push-cube', num_envs=1, image_size=32)\n"
        "print(*world.worker_process_ids, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": path},
    )
    worker = Path(f"/proc/{done.stdout.strip()}/status")
    deadline = time.monotonic() + 5
    while worker.exists() and "zombie" not in worker.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not worker.exists() or "zombie" in worker.read_text()
