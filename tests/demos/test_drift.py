"""The drift of a replay is zero where the recording is the twin's own, and is told for every episode."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlco.cli.recovery import replay_check
from rlco.data import layout
from rlco.data.reader import Dataset
from rlco.demos.drift import Poses, drift, drift_summary
from rlco.demos.record import RecordConfig, record_demonstrations
from rlco.evals.drift_plot import median_by_step, write_drift_plot

TASK = "close-drawer"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of three demonstrations in each world."""
    root = tmp_path_factory.mktemp("drift")
    for domain in ("twin", "standin"):
        config = RecordConfig(task=TASK, domain=domain, objects=None, count=3, image_size=16)
        record_demonstrations(root / domain, config, num_envs=3)
    return {domain: root / domain for domain in ("twin", "standin")}


def test_the_twins_own_recording_is_followed_exactly_and_the_stand_ins_is_not(recorded: dict[str, Path]) -> None:
    dataset = Dataset.open(recorded["twin"])
    own = drift(dataset, TASK, num_envs=2)
    assert [its.number for its in own] == [0, 1, 2]
    for its, span in zip(own, dataset.episodes, strict=True):
        assert len(its.position_m) == len(its.angle_rad) == span.stop - span.start
        # what is left is the rounding of the recording to float32
        assert its.position_m.max() < 1e-6
        assert its.angle_rad.max() < 1e-3
        assert (its.succeeded, its.reason, its.poses) == (True, "", Poses.SIDECAR)
    others = drift(Dataset.open(recorded["standin"]), TASK)
    # its arm is slower: it lags behind the twin's wherever it moves
    assert all(its.position_m[0] < 1e-6 and 0.002 < its.position_m.max() < 0.1 for its in others)


def test_without_a_sidecar_the_poses_are_guessed_and_without_a_guess_success_is_unknown(
    recorded: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(recorded["twin"], tmp_path / "bare")
    (tmp_path / "bare" / layout.INITIAL_STATES_PATH).unlink()
    bare = Dataset.open(tmp_path / "bare")
    (guessed,) = drift(bare, TASK, [1])
    assert (guessed.number, guessed.poses) == (1, Poses.GUESSED)
    assert guessed.succeeded is not None
    # a hand that stays high pushes nothing: only its own motion is left to compare
    high = bare.state.copy()
    high[:, 2] = np.maximum(high[:, 2], 0.12)
    (blind,) = drift(replace(bare, tables=replace(bare.tables, state=high)), TASK, [0])
    assert (blind.poses, blind.succeeded, blind.reason) == (Poses.ANY, None, "")
    figures = drift_summary([guessed, blind])
    assert (figures["episodes"], figures["of"], figures["poses"]) == (2, 1, {"guessed": 1, "any": 1})


def test_bad_input_is_refused_before_anything_is_replayed(recorded: dict[str, Path]) -> None:
    dataset = Dataset.open(recorded["twin"])
    with pytest.raises(ValueError, match="has 3 episodes, there is no episode 3"):
        drift(dataset, TASK, [0, 3])
    with pytest.raises(LookupError, match="Did you mean 'close-drawer'"):
        drift(dataset, "close-drawers")
    with pytest.raises(ValueError, match="is not an initial state of 'open-drawer'"):
        drift(dataset, "open-drawer")


def test_the_check_writes_figures_and_a_picture(recorded: dict[str, Path], tmp_path: Path) -> None:
    figures = replay_check(recorded["standin"], TASK, tmp_path / "plots" / "drift.png", num_envs=3)
    assert (figures["episodes"], figures["of"]) == (3, 3)
    assert 0 < figures["position_m"]["median"] <= figures["position_m"]["p95"] < 0.1
    assert (tmp_path / "plots" / "drift.png").read_bytes().startswith(b"\x89PNG")


def test_the_median_goes_as_far_as_half_of_the_episodes_and_nothing_is_not_drawn(tmp_path: Path) -> None:
    curves = [np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0]), np.array([8.0, 6.0, 5.0])]
    # step 0: 1 3 8; step 1: 2 4 6; step 2: 3 5; beyond it only one of three goes on
    assert median_by_step(curves).tolist() == [3.0, 4.0, 4.0]
    with pytest.raises(ValueError, match="no episodes"):
        write_drift_plot(tmp_path / "x.png", [])
    assert drift_summary([]) == {"episodes": 0}
