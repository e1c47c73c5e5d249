"""Poses are recovered from the motion alone, verified by replay, and the recording is not touched."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlco.cli import main
from rlco.core.progress import Silent
from rlco.core.scene import InitialState
from rlco.data import layout
from rlco.data.reader import Dataset
from rlco.demos.record import RecordConfig, record_demonstrations
from rlco.demos.recover import SearchConfig, pose_errors, recover_dataset, recover_initial_states
from rlco.demos.recover.candidates import Spread
from rlco.demos.recover.recorded import recorded_motion
from rlco.demos.recover.search import Demonstration, search
from rlco.demos.replay import replay
from rlco.tasks import TASKS
from rlco.tasks.motion import Guess
from rlco.worlds.make import make_world

LITTLE = SearchConfig(budget=14, guesses=3, refine=1)
Recorded = Callable[[str], Path]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Return the folder of two demonstrations of a task in the stand-in."""
    root = tmp_path_factory.mktemp("recorded")

    def folder(task: str) -> Path:
        if not (root / task).exists():
            objects = {"push-cube": ("purple", "yellow", "pink"), "pick-place": ("block", "plum")}.get(task)
            config = RecordConfig(task=task, objects=objects, count=2, image_size=16, seed=3)
            record_demonstrations(root / task, config, num_envs=4)
        return root / task

    return folder


def without_sidecar(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns(".cache", Path(layout.INITIAL_STATES_PATH).name))
    return to


def digest(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".cache" not in path.parts]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("task", sorted(TASKS))
def test_what_is_recovered_succeeds_in_the_twin_and_is_near_the_truth(
    task: str, recorded: Recorded, tmp_path: Path
) -> None:
    real = without_sidecar(recorded(task), tmp_path / "real")
    before = digest(real)
    report = recover_dataset(Dataset.open(real), tmp_path / "found", task, config=LITTLE, num_envs=8)
    assert digest(real) == before
    assert report.succeeded == 2, report.failed
    # the copy is a dataset like the recording, with initial states from which the actions alone succeed
    copy = Dataset.open(tmp_path / "found")
    assert copy.fingerprint == Dataset.open(real).fingerprint
    assert copy.initial_states == tuple(its.state for its in report.demonstrations)
    states = [state for state in copy.initial_states if state is not None]
    actions = [copy.action[span.start : span.stop] for span in copy.episodes]
    with make_world(task, num_envs=2, render="none") as world:
        assert all(done.succeeded for done in replay(world, actions, states))
    # a cube's place along the push does not show in the motion
    allowed_m = 0.05 if task == "push-cube" else 0.02
    errors = pose_errors(report, Dataset.open(recorded(task)).initial_states)
    assert len(errors) == (4 if task == "pick-place" else 2)
    assert max(error.position_m for error in errors) < allowed_m
    assert [state.instruction for state in states] == [span.task for span in copy.episodes]


def test_the_recorders_sidecar_is_not_read_and_the_number_of_environments_changes_nothing(
    recorded: Recorded, tmp_path: Path
) -> None:
    folder = tmp_path / "lying"
    shutil.copytree(recorded("open-drawer"), folder)
    sidecar = folder / layout.INITIAL_STATES_PATH
    value = json.loads(sidecar.read_text())
    for state in value["episodes"]:
        state["object_pose"]["drawer"][0] += 0.1
    sidecar.write_text(json.dumps(value))
    honest = Dataset.open(without_sidecar(recorded("open-drawer"), tmp_path / "honest"))
    few = recover_initial_states(Dataset.open(folder), "open-drawer", config=LITTLE, num_envs=1)
    assert few == recover_initial_states(honest, "open-drawer", config=LITTLE, num_envs=5)


def drawer_demonstration(folder: Path, shift_m: float) -> tuple[Demonstration, InitialState]:
    """Return a demonstration whose only guess is beside the truth by ``shift_m``, and the truth."""
    dataset = Dataset.open(folder)
    truth = dataset.initial_states[0]
    assert truth is not None
    span, pose = dataset.episodes[0], list(truth.object_pose["drawer"])
    pose[1] += shift_m
    guess = replace(truth, object_pose={"drawer": tuple(pose)})
    demonstration = Demonstration(
        number=0,
        motion=recorded_motion(dataset, 0),
        action=dataset.action[span.start : span.stop].astype(np.float64),
        instruction=span.task,
        put=lambda state: state,
        guesses=(Guess(state=guess, by="a bad guess"),),
    )
    return demonstration, truth


def test_the_search_finds_what_a_wrong_guess_misses_and_stops_at_its_budget(recorded: Recorded) -> None:
    task = TASKS["open-drawer"]
    demonstration, truth = drawer_demonstration(recorded("open-drawer"), 0.045)
    # from the motion of its own gripper the twin would guess right: here it is to search
    demonstration = replace(
        demonstration, motion=replace(demonstration.motion, opens=np.zeros_like(demonstration.motion.opens))
    )
    config = SearchConfig(budget=30, batch=8, spread=Spread(position_m=0.008, yaw_rad=0.02, opening_m=0.0))
    with make_world(task, num_envs=8, render="none") as world:
        search(world, task, [demonstration], config, reporter=Silent())
        assert not demonstration.tried[0].succeeded
        assert demonstration.best.succeeded
        assert demonstration.best.candidate.by == "search"
        found = np.array(demonstration.best.candidate.state.object_pose["drawer"])
        assert abs(found[1] - truth.object_pose["drawer"][1]) < 0.045
        # the best of the successes is chosen, not the first
        successes = [its for its in demonstration.tried if its.succeeded]
        assert demonstration.best.order == min(its.order for its in successes)

        hopeless, _ = drawer_demonstration(recorded("open-drawer"), 0.2)
        hopeless = replace(hopeless, motion=replace(hopeless.motion, opens=np.zeros_like(hopeless.motion.opens)))
        search(world, task, [hopeless], SearchConfig(budget=8, batch=4), reporter=Silent())
        # the guess, a batch of four, and what is left of the budget
        assert len(hopeless.tried) == 8
        assert not hopeless.solved
        assert "drawer" in hopeless.best.reason


def test_an_instruction_that_names_nothing_known_is_the_reason_and_the_rest_is_recovered(
    recorded: Recorded, tmp_path: Path
) -> None:
    dataset = Dataset.open(without_sidecar(recorded("push-cube"), tmp_path / "real"))
    first = replace(dataset.tables.episodes[0], task="push the turquoise cube")
    tables = replace(dataset.tables, episodes=(first, *dataset.tables.episodes[1:]))
    report = recover_initial_states(replace(dataset, tables=tables), "push-cube", config=LITTLE, num_envs=4)
    assert report.failed == {"0": "the instruction names no known object"}
    assert (report.demonstrations[0].tried, report.succeeded, report.success_rate) == (0, 1, 0.5)


def test_a_finished_recovery_is_kept_and_another_one_is_refused(recorded: Recorded, tmp_path: Path) -> None:
    dataset, out = Dataset.open(recorded("close-drawer")), tmp_path / "found"
    with pytest.raises(ValueError, match="never changed"):
        recover_dataset(dataset, dataset.folder, "close-drawer", config=LITTLE)
    first = recover_dataset(dataset, out, "close-drawer", config=LITTLE, num_envs=2)
    written = digest(out)
    assert recover_dataset(dataset, out, "close-drawer", config=LITTLE, num_envs=3) == first
    assert digest(out) == written
    with pytest.raises(ValueError, match="differs in: search"):
        recover_dataset(dataset, out, "close-drawer", config=replace(LITTLE, budget=5))


def test_the_command_recovers_and_says_in_one_line_what_is_wrong(
    recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real, words = str(recorded("close-drawer")), ["--task", "close-drawer", "--search.budget", "2", "--num-envs", "2"]
    assert main(["recover", real, str(tmp_path / "found"), *words, "--compare", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["recovered"], len(told["demonstrations"]), told["error"]["things"]) == (2, 2, 2)
    assert main(["recover", real, str(tmp_path / "found"), "--task", "close-drawers"]) == 1
    assert "Did you mean 'close-drawer'" in capsys.readouterr().err
    bare = without_sidecar(Path(real), tmp_path / "bare")
    assert main(["recover", str(bare), str(tmp_path / "other"), *words, "--compare"]) == 1
    assert "no initial states to compare with" in capsys.readouterr().err
