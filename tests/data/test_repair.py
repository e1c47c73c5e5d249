"""A repair keeps what is sound, says what it did, invents nothing, and its result has nothing wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy import ndarray

from rlco.cli import FAILED, OK, main
from rlco.core.episode import Episode
from rlco.data import layout
from rlco.data.encoding import encode_part
from rlco.data.reader import Dataset
from rlco.data.validation.repair import REPORT_PATH, Repair, RepairOptions, repair
from rlco.data.validation.validate import examine, validate
from tests.data.breaking import (
    DATA,
    EPISODES,
    LENGTHS,
    STARTS,
    VIDEO,
    altered,
    as_v21,
    copy,
    edit_column,
    edit_json,
    edit_rows,
    good,
    good_episodes,
    one_file_per_episode,
    shorter_video,
    snapshot,
    truncate,
)
from tests.data.samples import FPS


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return good(tmp_path_factory.mktemp("healthy") / "set")


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    return copy(source, tmp_path / "set")


def repaired(folder: Path, **options: object) -> tuple[Repair, Dataset]:
    """Repair into a new folder; the source is unchanged, and the result has no errors and opens."""
    before, new = snapshot(folder), folder.with_name("new")
    done = repair(examine(folder), new, options=RepairOptions(**options))  # pyright: ignore[reportArgumentType]
    assert snapshot(folder) == before
    found = validate(new)
    assert found.errors == 0, found.lines()
    assert not found.of("stats")
    assert json.loads((new / REPORT_PATH).read_text())["dropped"] == {str(k): v for k, v in done.dropped.items()}
    assert sorted(p.name for p in folder.parent.iterdir() if p.name.startswith(".")) == []
    return done, Dataset.open(new)


def same_episode(dataset: Dataset, number: int, wanted: Episode, *, length: int | None = None) -> None:
    """Numbers are equal, every picture is nearest to its own original, and the scene belongs to it."""
    found, length = dataset.episode(number), length or len(wanted)
    assert np.array_equal(found.action, wanted.action[:length])
    assert np.array_equal(found.state, wanted.state[:length])
    assert found.instruction == wanted.instruction
    assert found.initial_state == wanted.initial_state
    for t, frame in enumerate(found.image.astype(int)):
        assert np.abs(wanted.image.astype(int) - frame).mean(axis=(1, 2, 3)).argmin() == t


def test_a_healthy_dataset_is_copied_without_loss(folder: Path) -> None:
    before = np.array(Dataset.open(folder, cache_folder=folder.parent / "cache").frames)
    done, dataset = repaired(folder)
    assert (done.dropped, done.left, done.whole) == ({}, (), ())
    assert all(e.done == () for e in done.episodes)
    assert np.array_equal(dataset.frames, before), "pictures were encoded again"
    for number, wanted in enumerate(good_episodes()):
        same_episode(dataset, number, wanted)
    stats = {f: json.loads((f / layout.STATS_PATH).read_text()) for f in (folder, folder.with_name("new"))}
    for name in ("action", "observation.state"):
        assert stats[folder][name] == stats[folder.with_name("new")][name]


def test_an_episode_with_nan_is_dropped_and_the_others_stay(folder: Path) -> None:
    def edit(values: ndarray) -> None:
        values[STARTS[1] + 5, 2] = np.nan

    edit_column(folder, "action", edit)
    done, dataset = repaired(folder)
    assert list(done.dropped) == [1]
    assert "NaN" in done.dropped[1]
    assert [(e.source, e.number) for e in done.episodes] == [(0, 0), (2, 1)]
    same_episode(dataset, 0, good_episodes()[0])
    same_episode(dataset, 1, good_episodes()[2])


@pytest.mark.parametrize(
    "name", ["data/chunk-000/file-001.parquet", f"videos/{layout.IMAGE_KEY}/chunk-000/file-001.mp4"]
)
def test_an_episode_whose_file_is_unreadable_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = one_file_per_episode(tmp_path / "set", monkeypatch)
    (folder / name).write_bytes(b"nothing")
    done, dataset = repaired(folder)
    assert list(done.dropped) == [1]
    assert len(dataset.episodes) == 2
    same_episode(dataset, 1, good_episodes()[2])


def test_an_episode_is_cut_to_its_shorter_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = one_file_per_episode(tmp_path / "set", monkeypatch)
    shorter_video(folder, 1, 17)
    done, dataset = repaired(folder)
    assert done.dropped == {}
    assert done.episodes[1].done == (f"cut from {LENGTHS[1]} to 17 frames: its video holds no more",)
    same_episode(dataset, 1, good_episodes()[1], length=17)
    same_episode(dataset, 2, good_episodes()[2])


def test_a_truncated_video_keeps_the_frames_before_its_end(folder: Path) -> None:
    truncate(folder / VIDEO, 0.8)
    _, dataset = repaired(folder)
    same_episode(dataset, 0, good_episodes()[0])
    last = len(dataset.episodes) - 1
    same_episode(dataset, last, good_episodes()[last], length=len(dataset.episodes[last]))


def test_rows_that_are_out_of_order_are_sorted(folder: Path) -> None:
    order = np.arange(sum(LENGTHS))
    order[STARTS[1] : STARTS[2]] = np.random.default_rng(0).permutation(order[STARTS[1] : STARTS[2]])
    edit_rows(folder, lambda rows: rows.take(pa.array(np.concatenate([order[STARTS[1] :], order[: STARTS[1]]]))))
    done, dataset = repaired(folder)
    assert done.episodes[1].done == ("rows sorted by frame_index",)
    for number, wanted in enumerate(good_episodes()):
        same_episode(dataset, number, wanted)


def shift_time(values: ndarray) -> None:
    values += 0.07


def zero(values: ndarray) -> None:
    values[:] = 0


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda f: edit_column(f, "timestamp", shift_time), "timestamp"),
        (lambda f: edit_column(f, "index", zero), "order"),
        (lambda f: edit_column(f, "dataset_from_index", zero, table=EPISODES), "order"),
        (lambda f: edit_json(f, layout.INFO_PATH, lambda info: info.update(total_frames=7, total_tasks=9)), "total"),
        (lambda f: edit_json(f, layout.STATS_PATH, lambda stats: stats["action"].pop("q01")), "stats"),
        (lambda f: (f / layout.STATS_PATH).unlink(), "stats"),
        (lambda f: edit_rows(f, lambda t: t.replace_schema_metadata(None), table=layout.TASKS_PATH), "task-metadata"),
        (lambda f: truncate(f / layout.TASKS_PATH), "total"),
        (
            lambda f: encode_part(f / VIDEO, np.concatenate([e.image for e in good_episodes()]), fps=10),
            "video-rate",
        ),
    ],
    ids=["timestamp", "index", "range", "totals", "quantile", "no stats", "metadata", "no tasks", "video rate"],
)
def test_what_follows_from_the_rest_is_written_again(folder: Path, edit: Callable[[Path], None], code: str) -> None:
    edit(folder)
    done, dataset = repaired(folder)
    assert f"{code}: written again" in done.whole
    assert done.dropped == {}
    for number, wanted in enumerate(good_episodes()):
        same_episode(dataset, number, wanted)


def test_an_episode_that_does_not_begin_with_a_key_frame_is_encoded_again_and_said_so(folder: Path) -> None:
    # one encoding of all: the key frames are the even ones, and episode 1 begins at an odd one after a cut
    episodes = good_episodes()
    images = np.concatenate([episodes[0].image[:11], episodes[1].image, episodes[2].image])
    encode_part(folder / VIDEO, images, fps=FPS)

    def move(values: ndarray) -> None:
        values[1:] -= 1 / FPS

    for name in ("from_timestamp", "to_timestamp"):
        edit_column(folder, f"videos/{layout.IMAGE_KEY}/{name}", move, table=EPISODES)

    def shorter(values: ndarray) -> None:
        values[0] -= 1 / FPS

    edit_column(folder, f"videos/{layout.IMAGE_KEY}/to_timestamp", shorter, table=EPISODES)
    done, dataset = repaired(folder)
    assert done.episodes[0].done == ("cut from 12 to 11 frames: its video holds no more",)
    assert any("encoded again" in text for text in done.episodes[1].done)
    same_episode(dataset, 0, episodes[0], length=11)
    same_episode(dataset, 1, episodes[1])
    same_episode(dataset, 2, episodes[2])


def flip(action: ndarray) -> None:
    action[:, 6] *= -1


def test_a_gripper_sign_that_every_episode_denies_is_turned_round(tmp_path: Path) -> None:
    change = altered("action", flip)
    done, dataset = repaired(good(tmp_path / "set", e0=change, e1=change, e2=change))
    assert done.whole[0] == "sign of the gripper turned round in action"
    for number, wanted in enumerate(good_episodes()):
        same_episode(dataset, number, wanted)


def test_a_gripper_sign_on_which_episodes_disagree_is_left(tmp_path: Path) -> None:
    folder = good(tmp_path / "set", e1=altered("action", flip))
    new = tmp_path / "new"
    done = repair(examine(folder), new, options=RepairOptions())
    assert not any("gripper" in text for text in done.whole)
    assert [f.episode for f in validate(new).of("gripper-sign")] == [1]
    assert np.array_equal(Dataset.open(new).action, Dataset.open(folder).action)


def in_millimetres(episode: Episode) -> Episode:
    state, action = episode.state.copy(), episode.action.copy()
    state[:, :3] *= 1000
    state[:, 6] *= 1000
    action[:, :3] *= 1000
    return replace(episode, state=state, action=action)


def test_units_are_converted_only_when_they_are_given(tmp_path: Path) -> None:
    folder = good(tmp_path / "set", e0=in_millimetres, e1=in_millimetres, e2=in_millimetres)
    plain = repair(examine(folder), tmp_path / "plain", options=RepairOptions())
    assert plain.whole == ()
    assert np.array_equal(Dataset.open(tmp_path / "plain").state, Dataset.open(folder).state)
    done, dataset = repaired(folder, units=("mm",))
    assert done.whole[:3] == (
        "position of observation.state converted from mm",
        "gripper width of observation.state converted from mm",
        "translation of action converted from mm",
    )
    wanted = good_episodes()
    np.testing.assert_allclose(dataset.state, np.concatenate([e.state for e in wanted]), rtol=1e-5)
    np.testing.assert_allclose(dataset.action, np.concatenate([e.action for e in wanted]), rtol=1e-5, atol=1e-8)


def test_units_that_are_not_there_are_said_to_be_missing(folder: Path) -> None:
    done, _ = repaired(folder, units=("deg",))
    assert done.whole == ("nothing that looks like deg was found",)


def resting(episode: Episode) -> Episode:
    """Nothing moves in the first 18 and the last 20 frames."""
    order = np.concatenate([np.zeros(18, dtype=int), np.arange(len(episode)), np.full(20, len(episode) - 1)])
    action = episode.action[order]
    action[:18, :6] = action[-20:, :6] = 0
    return replace(episode, image=episode.image[order], state=episode.state[order], action=action)


def test_pauses_are_cut_only_when_asked(tmp_path: Path) -> None:
    folder = good(tmp_path / "set", e1=resting)
    assert len(repair(examine(folder), tmp_path / "plain", options=RepairOptions()).episodes[1].done) == 0
    done, dataset = repaired(folder, trim_idle=True)
    assert done.episodes[1].done[0].startswith("pauses cut: 17 frames at the start")
    assert done.episodes[0].done == done.episodes[2].done == ()
    assert validate(folder.with_name("new")).findings == ()
    found, wanted = dataset.episode(1), good_episodes()[1]
    assert LENGTHS[1] <= len(found) <= LENGTHS[1] + 2
    # what is left begins where the arm does
    shift = len(found) - LENGTHS[1] - 1 if not np.array_equal(found.state[0], found.state[1]) else 1
    assert np.array_equal(found.state[max(shift, 0) : max(shift, 0) + LENGTHS[1]], wanted.state)


def test_a_true_rate_may_be_given(folder: Path) -> None:
    def halve(values: ndarray) -> None:
        values /= 2

    edit_column(folder, "timestamp", halve)
    done, dataset = repaired(folder, fps=10)
    assert done.whole[0] == "frame rate 10 Hz instead of 5"
    assert dataset.fps == 10
    assert np.array_equal(dataset.action, np.concatenate([e.action for e in good_episodes()]))


def test_a_dataset_of_v21_is_repaired_into_v30(source: Path, tmp_path: Path) -> None:
    folder = as_v21(source, tmp_path / "old")
    truncate(folder / "data/chunk-000/episode_000000.parquet")
    done, dataset = repaired(folder)
    assert list(done.dropped) == [0]
    assert "written as v3.0 instead of v2.1" in done.whole
    wanted = [replace(e, initial_state=None) for e in good_episodes()]
    same_episode(dataset, 0, wanted[1])
    same_episode(dataset, 1, wanted[2])


def test_a_sidecar_that_does_not_fit_is_left_out(folder: Path) -> None:
    edit_json(folder, layout.INITIAL_STATES_PATH, lambda value: value["episodes"].pop())
    done, dataset = repaired(folder)
    assert any("rlco_initial_states.json left out" in text for text in done.whole)
    assert dataset.initial_states == (None, None, None)


def test_other_dimensions_and_further_columns_are_kept(folder: Path) -> None:
    """Six joints, a reward, a text and a second task in one episode."""
    count = sum(LENGTHS)
    joints = np.arange(count * 6, dtype=np.float32).reshape(count, 6)

    def edit(rows: pa.Table) -> pa.Table:
        lists = pa.array(joints.tolist(), pa.list_(pa.float32()))
        rows = rows.set_column(0, "observation.state", lists)
        rows = rows.append_column("next.reward", pa.array(np.linspace(0, 1, count, dtype=np.float32)))
        return rows.append_column("remark", pa.array([f"row {n}" for n in range(count)]))

    edit_rows(folder, edit)

    def info(value: dict) -> None:
        value["features"]["observation.state"].update(shape=[6], names=None)
        value["features"]["next.reward"] = {"dtype": "float32", "shape": [1], "names": None}
        value["features"]["remark"] = {"dtype": "string", "shape": [1], "names": None}

    edit_json(folder, layout.INFO_PATH, info)

    def spoil(values: ndarray) -> None:
        values[STARTS[1] + 1, 0] = np.nan

    edit_column(folder, "action", spoil)
    new = folder.with_name("new")
    done = repair(examine(folder), new, options=RepairOptions())
    found = validate(new)
    assert set(found.counts) == {"skipped"}
    assert list(done.dropped) == [1]
    import pyarrow.parquet as pq

    rows = pq.read_table(new / DATA)
    kept = [*range(LENGTHS[0]), *range(STARTS[2], count)]
    assert rows["remark"].to_pylist() == [f"row {n}" for n in kept]
    assert np.array_equal(np.array(rows["observation.state"].to_pylist()), joints[kept])
    assert rows["index"].to_pylist() == list(range(len(kept)))


@pytest.mark.parametrize("content", ["notes.txt", "meta/info.json"])
def test_a_destination_that_is_not_empty_is_refused_and_kept(folder: Path, tmp_path: Path, content: str) -> None:
    taken = tmp_path / "taken" / content
    taken.parent.mkdir(parents=True)
    taken.write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        repair(examine(folder), tmp_path / "taken", options=RepairOptions())
    assert taken.read_text() == "mine"


def test_when_nothing_can_be_kept_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    (folder / DATA).unlink()
    with pytest.raises(ValueError, match="can be kept: no rows of it can be read"):
        repair(examine(folder), tmp_path / "new", options=RepairOptions())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]


def test_the_command_repairs_and_validates_again(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    def edit(values: ndarray) -> None:
        values[STARTS[1] + 5, 2] = np.nan

    edit_column(folder, "action", edit)
    assert main(["data", "validate", str(folder), "--repair", str(tmp_path / "new")]) == OK
    out = capsys.readouterr().out
    assert "dropped: episode 1: action has NaN" in out
    assert "new: 2 episodes kept, 1 dropped." in out
    assert "new: 2 episodes, 26 frames (LeRobot v3.0): nothing wrong." in out
    edit_column(folder, "action", lambda values: values.fill(np.nan))
    assert main(["data", "validate", str(folder), "--repair", str(tmp_path / "none")]) == FAILED
    assert "Nothing of" in capsys.readouterr().err
    assert main(["data", "validate", str(tmp_path / "new"), "--repair", str(tmp_path / "b"), "--json"]) == OK
    found = json.loads(capsys.readouterr().out)
    assert found["repair"]["dropped"] == {}
    assert found["repaired"]["errors"] == 0
