"""The operator, the recorder and the generator in the real simulator, at small size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rlco.core.episode import StopReason
from rlco.core.progress import Silent
from rlco.data import layout
from rlco.data.reader import Dataset
from rlco.demos.generate import GenerateConfig, GenerateReport, generate_demonstrations, propose_segments
from rlco.demos.layouts import cell
from rlco.demos.operator import EXACT, TELEOP, Operator
from rlco.demos.plan import PlanConfig
from rlco.demos.record import RecordConfig, record_demonstrations, style
from rlco.demos.replay import replay
from rlco.demos.sources import seeds_of
from rlco.rollout.record import record
from rlco.tasks import task
from rlco.tasks.push_cube import REAL_COLOURS
from rlco.worlds.make import make_world

pytestmark = pytest.mark.sim

TASK = task("push-cube")
SIZE = 32
REAL = RecordConfig(task="push-cube", objects=REAL_COLOURS, count=6, seed=1, image_size=SIZE)
SIM = GenerateConfig(task="push-cube", count=5, seed=2, image_size=SIZE)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demos") / "real"
    record_demonstrations(folder, REAL, num_envs=4)
    return folder


@pytest.fixture(scope="module")
def sim(real: Path) -> Path:
    folder = real.parent / "sim"
    generate_demonstrations(folder, Dataset.open(real), SIM, num_envs=4)
    return folder


@pytest.mark.parametrize("operator", [TELEOP, EXACT])
def test_the_operator_succeeds_in_the_twin(operator: object) -> None:
    states = TASK.fixed_states(15, seed=3, prefix="operator")
    with make_world("push-cube", num_envs=5, image_size=SIZE, render="none") as world:
        hand = Operator(TASK, num_envs=5, seed=3, style=operator)  # pyright: ignore[reportArgumentType]
        episodes = list(record(world, hand, states))
    assert sum(e.stop_reason == StopReason.SUCCESS for e in episodes) >= 14
    assert all((e.action[:, 6] == -1).all() for e in episodes)


def test_teleoperation_is_slower_and_less_regular_than_the_exact_operator() -> None:
    states = TASK.fixed_states(6, seed=4, prefix="operator")
    lengths = {}
    for name in ("teleop", "exact"):
        with make_world("push-cube", num_envs=6, image_size=SIZE, render="none") as world:
            hand = Operator(TASK, num_envs=6, seed=4, style=style(name))
            lengths[name] = [len(e) for e in record(world, hand, states)]
    assert np.mean(lengths["teleop"]) > 1.4 * np.mean(lengths["exact"])
    assert np.std(lengths["teleop"]) > np.std(lengths["exact"])


def test_a_recording_has_real_objects_only_and_a_start_for_each_episode(real: Path) -> None:
    dataset = Dataset.open(real, control_hz=5)
    assert len(dataset.episodes) == 6
    for span, state in zip(dataset.episodes, dataset.initial_states, strict=True):
        assert state is not None
        assert state.labels["object"] in REAL_COLOURS
        assert span.task == state.instruction
    assert dataset.frames.std() > 10


def test_generated_demonstrations_succeed_when_their_actions_are_sent_again(sim: Path) -> None:
    dataset = Dataset.open(sim, control_hz=5)
    actions = [dataset.action[span.start : span.stop] for span in dataset.episodes]
    states = [state for state in dataset.initial_states if state is not None]
    with make_world("push-cube", num_envs=5, image_size=SIZE, render="none") as world:
        again = list(replay(world, actions, states))
    assert [(done.number, done.succeeded) for done in again] == [(n, True) for n in range(5)]
    # a demonstration ends with its success: no step of it is idle
    assert [len(done.trace) for done in again] == [len(its) for its in actions]
    assert all(len(done.trace.tcp_pose) == len(done.trace) + 1 for done in again)


def test_a_generated_demonstration_says_where_it_comes_from(real: Path, sim: Path) -> None:
    provenance = json.loads((sim / layout.PROVENANCE_PATH).read_text())["episodes"]
    seeds = len(Dataset.open(real).episodes)
    states = Dataset.open(sim).initial_states
    assert [p["slot"] for p in provenance] == sorted({p["slot"] for p in provenance})
    for p, state in zip(provenance, states, strict=True):
        (stage,) = p["stages"]
        assert 0 <= stage["seed_episode"] < seeds
        assert stage["stage"] == "push"
        assert p["cell_attempts"] >= p["attempt"] + 1
        assert state is not None
        target = state.object_pose[state.labels["target"]]
        np.testing.assert_allclose(stage["object_to"][:3], target[:3], atol=1e-3)
        assert p["cell"] == cell(state)


def assert_the_same(folder: Path, other: Path) -> None:
    mine, theirs = Dataset.open(folder), Dataset.open(other)
    assert np.array_equal(mine.action, theirs.action)
    assert np.array_equal(mine.state, theirs.state)
    assert mine.initial_states == theirs.initial_states
    # not the files' bytes: x264 may encode equal pictures differently in another process
    assert np.abs(mine.frames.astype(int) - theirs.frames).mean() < 2
    for path in (layout.PROVENANCE_PATH, "manifest.json"):
        assert json.loads((folder / path).read_text()) == json.loads((other / path).read_text())


@pytest.mark.parametrize(("num_envs", "num_workers"), [(1, 1), (8, 2)])
def test_generation_does_not_depend_on_the_number_of_environments_and_workers(
    real: Path, sim: Path, tmp_path: Path, num_envs: int, num_workers: int
) -> None:
    report = generate_demonstrations(
        tmp_path / "sim", Dataset.open(real), SIM, num_envs=num_envs, num_workers=num_workers
    )
    assert_the_same(tmp_path / "sim", sim)
    assert report == GenerateReport(**json.loads((sim / "manifest.json").read_text())["outputs"])


def test_an_interrupted_generation_goes_on_to_the_same_result(real: Path, sim: Path, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    class Stopper(Silent):
        def reach(self, done: int, total: int) -> None:
            if done == 2:
                raise StoppedError

    folder = tmp_path / "sim"
    with pytest.raises(StoppedError):
        generate_demonstrations(folder, Dataset.open(real), SIM, num_envs=4, reporter=Stopper())
    assert not folder.exists()
    reached = []

    class Watcher(Silent):
        def reach(self, done: int, total: int) -> None:
            reached.append((done, total))

    generate_demonstrations(folder, Dataset.open(real), SIM, num_envs=3, reporter=Watcher())
    assert reached == [(2, 5), (3, 5), (4, 5), (5, 5)]
    assert_the_same(folder, sim)


def test_the_report_counts_every_attempt_by_layout(sim: Path) -> None:
    report = GenerateReport(**json.loads((sim / "manifest.json").read_text())["outputs"])
    assert report.count == 5
    assert report.attempts == 5 + sum(report.rejected.values())
    for cells in (report.cells, {k: v for k, v in report.labels.items() if k.startswith("place=")}):
        assert sum(its["attempts"] for its in cells.values()) == report.attempts
        assert sum(its["kept"] for its in cells.values()) == 5
    assert report.sources + len(report.replay_failures) + len(report.unused) == 6
    assert report.mean_pruned > 5


def test_segments_corrected_by_hand_are_used(real: Path, sim: Path, tmp_path: Path) -> None:
    copied = tmp_path / "real"
    shutil.copytree(real, copied)
    path = propose_segments(Dataset.open(copied), SIM, num_envs=4)
    proposed = json.loads(path.read_text())
    generate_demonstrations(tmp_path / "same", Dataset.open(copied), SIM, num_envs=4)
    assert np.array_equal(Dataset.open(tmp_path / "same").action, Dataset.open(sim).action)
    # the second demonstration fails in the twin; leave the others out but two, and begin one of these earlier
    proposed["episodes"][2][0]["start"] = 0
    proposed["episodes"] = [its if n < 3 else None for n, its in enumerate(proposed["episodes"])]
    path.write_text(json.dumps(proposed))
    report = generate_demonstrations(tmp_path / "other", Dataset.open(copied), SIM, num_envs=4)
    assert report.sources + ("1" in report.replay_failures) == 3
    assert set(report.unused.values()) == {"left out by hand"}
    with pytest.raises(ValueError, match=r"another configuration \(differs in: segments\)"):
        generate_demonstrations(tmp_path / "same", Dataset.open(copied), SIM, num_envs=4)


@pytest.mark.parametrize("name", ["pick-place", "open-drawer", "close-drawer"])
def test_every_other_task_is_generated_too(name: str, tmp_path: Path) -> None:
    record_demonstrations(
        tmp_path / "real", RecordConfig(task=name, objects=None, count=4, seed=1, image_size=SIZE), num_envs=4
    )
    config = GenerateConfig(task=name, count=4, seed=2, image_size=SIZE)
    report = generate_demonstrations(tmp_path / "sim", Dataset.open(tmp_path / "real"), config, num_envs=4)
    assert report.count == 4
    assert report.success_rate > 0.4
    provenance = json.loads((tmp_path / "sim" / layout.PROVENANCE_PATH).read_text())["episodes"]
    wanted = [stage.name for stage in task(name).stages]
    assert all([stage["stage"] for stage in p["stages"]] == wanted for p in provenance)


def test_seeds_that_do_not_fit_the_twin_are_an_error(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlco.demos.generate._HOPELESS_ATTEMPTS", 8)
    # 1 mm a step: the way to the cube takes longer than the episode
    hopeless = GenerateConfig(
        task="push-cube",
        count=5,
        seed=2,
        image_size=SIZE,
        plan=PlanConfig(bridge_step_m=(0.001, 0.001)),
        attempts_per_layout=1,
    )
    with pytest.raises(ValueError, match=r"Only 0 of 5 demonstrations after \d+ attempts .*time limit"):
        generate_demonstrations(tmp_path / "sim", Dataset.open(real), hopeless, num_envs=8)
    assert not (tmp_path / "sim").exists()


def test_another_seed_gives_other_demonstrations(real: Path, sim: Path, tmp_path: Path) -> None:
    other = GenerateConfig(task="push-cube", count=2, seed=3, image_size=SIZE)
    generate_demonstrations(tmp_path / "sim", Dataset.open(real), other, num_envs=2)
    mine, other_one = Dataset.open(tmp_path / "sim").episode(0).action, Dataset.open(sim).episode(0).action
    assert not np.array_equal(mine, other_one)


def test_clean_labels_are_the_executed_actions_without_their_noise(real: Path, sim: Path, tmp_path: Path) -> None:
    clean = GenerateConfig(task="push-cube", count=5, seed=2, image_size=SIZE, plan=PlanConfig(clean_label=True))
    generate_demonstrations(tmp_path / "clean", Dataset.open(real), clean, num_envs=4)
    executed, labels = Dataset.open(sim), Dataset.open(tmp_path / "clean")
    assert np.array_equal(executed.state, labels.state)
    noise = executed.action - labels.action
    assert noise[:, :3].std() == pytest.approx(clean.plan.noise_m, rel=0.3)
    assert (noise[:, 3:] == 0).all()


def test_a_finished_recording_is_kept(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlco.demos.record.make_world", lambda *_, **__: pytest.fail("recorded again"))
    report = record_demonstrations(real, REAL, num_envs=2)
    assert report.count == 6


def test_a_folder_of_another_configuration_is_not_overwritten(real: Path) -> None:
    other = RecordConfig(task="push-cube", objects=REAL_COLOURS, count=9, seed=1, image_size=SIZE)
    with pytest.raises(ValueError, match=r"another configuration \(differs in: count\)"):
        record_demonstrations(real, other)


def test_a_folder_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and was not made here"):
        record_demonstrations(tmp_path, REAL)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_dataset_without_initial_states_cannot_be_replayed(real: Path, tmp_path: Path) -> None:
    shutil.copytree(real, tmp_path / "real")
    (tmp_path / "real" / layout.INITIAL_STATES_PATH).unlink()
    with pytest.raises(ValueError, match=r"has no initial states .* rlco recover '.*real' NEW_FOLDER --task push-cube"):
        generate_demonstrations(tmp_path / "sim", Dataset.open(tmp_path / "real"), SIM)
    assert not (tmp_path / "sim").exists()


def test_a_demonstration_without_initial_state_is_left_out_and_the_others_keep_their_numbers(
    real: Path, tmp_path: Path
) -> None:
    shutil.copytree(real, tmp_path / "real")
    sidecar = tmp_path / "real" / layout.INITIAL_STATES_PATH
    values = json.loads(sidecar.read_text())
    values["episodes"][1] = None
    sidecar.write_text(json.dumps(values))
    whole, part = (Dataset.open(folder) for folder in (real, tmp_path / "real"))
    with make_world("push-cube", num_envs=4, image_size=SIZE, render="none") as world:
        everything = seeds_of(world, TASK, whole, window=PlanConfig().window)
        rest = seeds_of(world, TASK, part, window=PlanConfig().window)
    assert rest.unused["1"] == "no initial state"
    assert rest.total == everything.total - 1
    assert [seed.number for seed in rest.seeds] == [seed.number for seed in everything.seeds if seed.number != 1]
    assert rest.segments[1] is None
    assert rest.segments[2:] == everything.segments[2:]


def test_bad_names_and_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="Did you mean 'teleop'"):
        style("telop")
    with pytest.raises(LookupError, match="Did you mean 'purple'"):
        record_demonstrations(tmp_path / "x", RecordConfig(task="push-cube", objects=("purpel", "pink", "yellow")))
    with pytest.raises(LookupError, match="Did you mean 'push-cube'"):
        record_demonstrations(tmp_path / "x", RecordConfig(task="push-cub", objects=None))
    with pytest.raises(ValueError, match="count must be 1 or more, got 0"):
        RecordConfig(task="push-cube", objects=None, count=0)
    with pytest.raises(ValueError, match="count must be 1 or more, got -1"):
        GenerateConfig(task="push-cube", count=-1)
