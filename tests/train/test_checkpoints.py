"""Training state that is damaged, too large for the disk, kept, or saved because somebody asked to stop."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import threading
from pathlib import Path

import pytest
import torch

from rlco.core.files import FullDiskError
from rlco.core.stopping import StoppedError, heeding_signals
from rlco.train.checkpoints import load_training_state, save_training_state
from rlco.train.log import MetricsLog, read_metrics
from rlco.train.nan_guard import NonFiniteLossError
from rlco.train.rl import run_rl
from rlco.train.sft import SFTConfig, run_sft
from tests.disk import LIMIT, small_disk
from tests.train.samples import mixture, tiny, write_pair
from tests.train.stage_two import config, stage

__all__ = ["small_disk"]


def steps(folder: Path) -> list[str]:
    """Return the names of what lies among the checkpoints."""
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def timeless(folder: Path) -> list[dict]:
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in read_metrics(folder)]


def test_a_state_carries_the_checksum_of_its_file(tmp_path: Path) -> None:
    save_training_state(tmp_path, 3, {"a": torch.arange(1000), "b": "text"})
    record = json.loads((tmp_path / "checkpoints" / "last" / "checkpoint.json").read_text())
    state = (tmp_path / "checkpoints" / "000003" / "state.pt").read_bytes()
    assert record == {"step": 3, "sha256": hashlib.sha256(state).hexdigest(), "score": None}
    loaded = load_training_state(tmp_path)
    assert loaded is not None
    assert (loaded["step"], loaded["b"]) == (3, "text")
    assert torch.equal(loaded["a"], torch.arange(1000))


def test_a_run_goes_on_from_the_state_before_a_damaged_one_and_ends_as_if_nothing_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight, resumed = stage(config()), stage(config())
    run_rl(straight, folder=tmp_path / "straight", inputs={})

    def stop(step: int, _: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    folder = tmp_path / "resumed"
    with pytest.raises(KeyboardInterrupt):
        run_rl(stage(config()), folder=folder, inputs={}, progress=stop)
    flip(folder / "checkpoints" / "000003" / "state.pt")
    begun = []
    run_rl(resumed, folder=folder, inputs={}, progress=lambda step, _: begun.append(step))
    assert begun == [3, 4]  # and not 4 alone
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "000003' is damaged (its checksum is another): set aside as '000003.damaged'. Step 000002 is used" in said
    assert "000003.damaged" in steps(folder)
    assert timeless(folder) == timeless(tmp_path / "straight")
    for a, b in zip(straight.policy.parameters(), resumed.policy.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("damage", ["bit", "short", "gone", "record"])
def test_where_no_state_is_whole_the_run_ends_and_nothing_is_touched(tmp_path: Path, damage: str) -> None:
    for step in (1, 2):
        save_training_state(tmp_path, step, {"a": torch.arange(100)})
        path = tmp_path / "checkpoints" / f"{step:06d}" / "state.pt"
        match damage:
            case "bit":
                flip(path)
            case "short":
                path.write_bytes(path.read_bytes()[:-10])
            case "gone":
                path.unlink()
            case "record":
                (path.parent / "checkpoint.json").write_text("{")
    before = steps(tmp_path)
    for _ in range(2):  # a second try does not take the folder for a new one
        with pytest.raises(OSError, match=r"No checkpoint is whole: '.*000002' .*; '.*000001' .*delete '"):
            load_training_state(tmp_path)
    assert steps(tmp_path) == before


def test_a_state_of_an_earlier_version_is_read_and_a_broken_one_of_it_is_noticed(tmp_path: Path) -> None:
    for step in (1, 2):
        save_training_state(tmp_path, step, {})
        (tmp_path / "checkpoints" / f"{step:06d}" / "checkpoint.json").unlink()
    assert load_training_state(tmp_path) == {"step": 2}
    path = tmp_path / "checkpoints" / "000002" / "state.pt"
    path.write_bytes(path.read_bytes()[:-30])
    assert load_training_state(tmp_path) == {"step": 1}


def test_the_newest_stay_and_so_does_the_best(tmp_path: Path) -> None:
    scores = {1: None, 2: 0.4, 999_999: 0.9, 1_000_000: 0.1, 1_000_001: 0.9, 1_000_002: 0.3, 1_000_003: None}
    for step, score in scores.items():
        save_training_state(tmp_path, step, {}, keep=2, score=score)
    assert steps(tmp_path) == ["1000001", "1000002", "1000003", "best", "last"]
    assert (tmp_path / "checkpoints" / "best").readlink().name == "1000001"
    assert (tmp_path / "checkpoints" / "last").readlink().name == "1000003"
    save_training_state(tmp_path, 1_000_004, {}, keep=1)
    assert steps(tmp_path) == ["1000001", "1000004", "best", "last"]


def test_the_best_state_of_stage_two_is_scored_by_the_iterations_since_the_last_one(tmp_path: Path) -> None:
    run_rl(stage(config(save_every=2)), folder=tmp_path, inputs={}, keep=1)
    success = {line["step"]: line.get("rl/success") for line in read_metrics(tmp_path)}
    wanted = {}
    for step in (2, 4):
        known = [value for value in (success[step - 1], success[step]) if value is not None]
        wanted[step] = sum(known) / len(known) if known else None
    for path in (tmp_path / "checkpoints").glob("0*"):
        record = json.loads((path / "checkpoint.json").read_text())
        assert record["score"] == wanted[record["step"]]


@pytest.mark.usefixtures("small_disk")
def test_a_state_that_does_not_fit_leaves_the_one_before_and_no_litter(tmp_path: Path) -> None:
    save_training_state(tmp_path, 1, {"a": torch.zeros(10)})
    with pytest.raises(FullDiskError, match="is full"):
        save_training_state(tmp_path, 2, {"a": [torch.zeros(2 * LIMIT) for _ in range(5)]})
    assert steps(tmp_path) == ["000001", "last"]
    assert load_training_state(tmp_path) is not None


@pytest.mark.usefixtures("small_disk")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
def test_metrics_that_do_not_fit_are_told_once_and_half_a_line_is_no_line(tmp_path: Path) -> None:

    def write() -> None:
        with MetricsLog(tmp_path) as log:
            for step in range(1, 10_000):
                log.write(step, {"a" * 1000: 1.0})

    with pytest.raises(FullDiskError, match="is full"):
        write()
    # its complaint belongs to this test, not to the next one
    for thread in (t for t in threading.enumerate() if type(t).__module__.startswith("tensorboard")):
        thread.join(10)
    lines = read_metrics(tmp_path)
    assert 0 < len(lines) <= LIMIT // 1000
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))


@pytest.mark.parametrize("kind", ["sft", "rl"])
def test_a_run_that_is_asked_to_stop_saves_its_step_and_goes_on_exactly(tmp_path: Path, kind: str) -> None:
    """Nothing else would have been saved: ``save_every`` is longer than the run."""
    pair = write_pair(tmp_path)

    def run(name: str, *, stop_at: int | None = None) -> torch.nn.Module:
        def ask(step: int, _: int) -> None:
            if step == stop_at:
                signal.raise_signal(signal.SIGTERM)  # seen in the next step

        places = {"folder": tmp_path / name, "inputs": {}, "progress": ask}
        if kind == "rl":
            two = stage(config(save_every=9))
            run_rl(two, **places)
            return two.policy
        policy = tiny()
        run_sft(policy, mixture(pair), SFTConfig(steps=4, batch_size=4, save_every=9, log_every=1), **places)
        return policy

    straight = run("straight")
    with heeding_signals(), pytest.raises(StoppedError):
        run("stopped", stop_at=1)
    assert steps(tmp_path / "stopped")[0] == "000002"
    resumed = run("stopped")
    assert timeless(tmp_path / "stopped") == timeless(tmp_path / "straight")
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    two = stage(config())
    update = two._update

    def spoil(experience: object) -> dict[str, float]:
        figures = update(experience)  # pyright: ignore[reportArgumentType]
        if two.iteration == 1:
            with torch.no_grad():
                two.actor[0].view(-1)[0] = torch.inf
        return figures

    two._update = spoil  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(NonFiniteLossError, match=r"After step 1: Weights are not finite: network\."):
        run_rl(two, folder=tmp_path, inputs={})
    assert steps(tmp_path) == ["000001", "last"]
    assert [line["step"] for line in read_metrics(tmp_path)] == [1]


def test_a_dataset_that_is_removed_while_it_is_trained_on_changes_nothing(tmp_path: Path) -> None:
    """Its numbers are in memory, its pictures in a mapped file: what is missing is told when it is opened again."""
    few = SFTConfig(steps=3, batch_size=4, log_every=1)
    straight, policy = tiny(), tiny()
    run_sft(straight, mixture(write_pair(tmp_path / "a")), few, folder=tmp_path / "straight", inputs={})

    def remove(step: int, _: int) -> None:
        if step == 1:
            shutil.rmtree(tmp_path / "b")

    run_sft(policy, mixture(write_pair(tmp_path / "b")), few, folder=tmp_path / "run", inputs={}, progress=remove)
    assert timeless(tmp_path / "run") == timeless(tmp_path / "straight")
