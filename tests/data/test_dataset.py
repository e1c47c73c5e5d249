"""A written dataset survives a read back, and a broken one is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy import ndarray

from rlco.cli import FAILED, main
from rlco.core.episode import Episode, StopReason
from rlco.core.scene import InitialState
from rlco.data import layout
from rlco.data.reader import Dataset
from rlco.data.writer import write_dataset

FPS = 5


def picture(t: int, *, size: int = 96) -> ndarray:
    """A gradient with hard-edged coloured squares that move."""
    y, x = np.mgrid[0:size, 0:size]
    image = np.stack([x * 2, y * 2, np.full_like(x, 120)], axis=-1).astype(np.uint8)
    left = 10 + 2 * t % 50
    image[20:45, left : left + 20] = (200, 40, 160)
    image[50:75, left : left + 18] = (240, 220, 30)
    return image


def episode(seed: int, *, length: int = 7, instruction: str = "push the pink cube", fps: int = FPS) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        image=np.stack([picture(seed + t) for t in range(length)]),
        state=rng.normal(size=(length, 8)).astype(np.float32),
        action=rng.normal(size=(length, 7)).astype(np.float32),
        instruction=instruction,
        fps=fps,
        stop_reason=StopReason.SUCCESS,
        initial_state=InitialState(
            name=f"s{seed}",
            task="push-cube",
            instruction=instruction,
            object_pose={"cube": (0.5, 0.1, 0.025, 1.0, 0.0, 0.0, 0.0)},
            object_rgb={"cube": (1.0, 0.0, 0.0)},
        ),
    )


@pytest.fixture
def episodes() -> list[Episode]:
    return [episode(0, length=5), episode(1, length=9, instruction="push the purple cube"), episode(2, length=6)]


@pytest.fixture
def folder(tmp_path: Path, episodes: list[Episode]) -> Path:
    write_dataset(tmp_path / "set", episodes, fps=FPS, robot_type="standin", sidecar=True)
    return tmp_path / "set"


def test_numbers_and_tasks_come_back_exactly(folder: Path, episodes: list[Episode]) -> None:
    dataset = Dataset.open(folder, control_hz=FPS)
    assert np.array_equal(dataset.action, np.concatenate([e.action for e in episodes]))
    assert np.array_equal(dataset.state, np.concatenate([e.state for e in episodes]))
    assert [span.task for span in dataset.episodes] == [e.instruction for e in episodes]
    assert [len(span) for span in dataset.episodes] == [5, 9, 6]
    assert list(dataset.initial_states) == [e.initial_state for e in episodes]


def test_frames_come_back_within_codec_error_and_in_order(folder: Path, episodes: list[Episode]) -> None:
    frames = Dataset.open(folder).frames
    error = np.abs(frames.astype(int) - np.concatenate([e.image for e in episodes]).astype(int))
    assert error.mean() < 3
    assert np.percentile(error, 99) < 20
    # each frame is nearest to its own original, so none is shifted by one
    originals = episodes[1].image.astype(int)
    for t, frame in enumerate(Dataset.open(folder).episode(1).image.astype(int)):
        assert np.abs(originals - frame).mean(axis=(1, 2, 3)).argmin() == t


def test_frames_are_decoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = np.array(Dataset.open(folder).frames)
    monkeypatch.setattr("rlco.data.frames.decode", lambda _: pytest.fail("decoded again"))
    assert np.array_equal(Dataset.open(folder).frames, first)


def test_info_has_the_thirteen_keys_and_no_column_for_pictures(folder: Path) -> None:
    info = json.loads((folder / layout.INFO_PATH).read_text())
    wanted = {"codebase_version", "fps", "features", "total_episodes", "total_frames", "total_tasks", "chunks_size"}
    wanted |= {"data_files_size_in_mb", "video_files_size_in_mb", "data_path", "video_path", "robot_type", "splits"}
    assert set(info) == wanted
    table = pq.read_table(folder / "data/chunk-000/file-000.parquet")
    assert [n for n in info["features"] if n != layout.IMAGE_KEY] == table.column_names
    assert str(table.schema.field("action").type).startswith("fixed_size_list<")
    assert str(table.schema.field("timestamp").type) == "float"
    assert pq.ParquetFile(folder / "data/chunk-000/file-000.parquet").num_row_groups == 3


def test_the_task_is_the_pandas_index_of_the_tasks_table(folder: Path) -> None:
    metadata = json.loads(pq.read_schema(folder / layout.TASKS_PATH).metadata[b"pandas"])
    assert metadata["index_columns"] == ["task"]


def test_quantiles_are_exact_over_the_whole_set(folder: Path, episodes: list[Episode]) -> None:
    stats = json.loads((folder / layout.STATS_PATH).read_text())
    action = np.concatenate([e.action for e in episodes]).astype(np.float64)
    np.testing.assert_allclose(stats["action"]["q01"], np.quantile(action, 0.01, axis=0), rtol=1e-12)
    np.testing.assert_allclose(stats["action"]["q99"], np.quantile(action, 0.99, axis=0), rtol=1e-12)
    assert stats["action"]["count"] == [20]
    assert np.shape(stats[layout.IMAGE_KEY]["q99"]) == (3, 1, 1)


def test_image_figures_equal_those_of_the_pixels(tmp_path: Path) -> None:
    one = episode(3, length=4)
    write_dataset(tmp_path / "set", [one], fps=FPS, robot_type="twin")
    found = json.loads((tmp_path / "set" / layout.STATS_PATH).read_text())[layout.IMAGE_KEY]
    pixels = one.image.reshape(-1, 3) / 255.0
    np.testing.assert_allclose(np.ravel(found["mean"]), pixels.mean(0), atol=1e-9)
    np.testing.assert_allclose(np.ravel(found["std"]), pixels.std(0), atol=1e-9)
    for name, q in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
        exact = np.quantile(pixels, q, axis=0, method="inverted_cdf")
        np.testing.assert_allclose(np.ravel(found[name]), exact, atol=1e-9)


def test_a_new_video_file_starts_at_the_size_limit(
    tmp_path: Path, episodes: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "VIDEO_FILE_MB", 0)
    write_dataset(tmp_path / "set", episodes, fps=FPS, robot_type="twin")
    dataset = Dataset.open(tmp_path / "set")
    assert len({span.video_path for span in dataset.episodes}) == 3
    error = np.abs(dataset.frames.astype(int) - np.concatenate([e.image for e in episodes]).astype(int))
    assert error.mean() < 3


def test_the_fingerprint_names_the_content(tmp_path: Path, folder: Path, episodes: list[Episode]) -> None:
    write_dataset(tmp_path / "same", episodes, fps=FPS, robot_type="standin")
    write_dataset(tmp_path / "other", episodes[:2], fps=FPS, robot_type="standin")
    name = Dataset.open(folder).fingerprint
    assert Dataset.open(tmp_path / "same").fingerprint == name
    assert Dataset.open(tmp_path / "other").fingerprint != name


def test_a_crash_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def broken():  # noqa: ANN202
        yield episode(0)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_dataset(tmp_path / "set", broken(), fps=FPS, robot_type="twin")
    assert not (tmp_path / "set").exists()


def test_a_crash_while_replacing_keeps_the_old_dataset(folder: Path) -> None:
    before = Dataset.open(folder).fingerprint
    with pytest.raises(ValueError, match="Episode 0: action"):
        write_dataset(folder, [bad_action()], fps=FPS, robot_type="twin")
    assert Dataset.open(folder).fingerprint == before


def bad_action() -> Episode:
    bad = episode(0)
    # past the type check that runs under test only
    object.__setattr__(bad, "action", bad.action[:, :6])
    return bad


def test_nan_actions_name_the_episode_and_frame_when_writing(tmp_path: Path) -> None:
    bad = episode(1)
    bad.action[3, 2] = np.nan
    with pytest.raises(ValueError, match="Episode 1, frame 3: action is not finite"):
        write_dataset(tmp_path / "set", [episode(0), bad], fps=FPS, robot_type="twin")


def test_an_episode_of_another_rate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="recorded at 10 Hz"):
        write_dataset(tmp_path / "set", [episode(0, fps=10)], fps=FPS, robot_type="twin")


def test_no_episodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        write_dataset(tmp_path / "set", [], fps=FPS, robot_type="twin")


def _edit_info(folder: Path, **changes: object) -> None:
    path = folder / layout.INFO_PATH
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _edit_column(folder: Path, name: str, values: object) -> None:
    path = folder / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    position = table.column_names.index(name)
    pq.write_table(table.set_column(position, name, [values]), path)


def _truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def _refused(folder: Path, match: str, *, control_hz: int | None = None) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        Dataset.open(folder, control_hz=control_hz)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path / "none", "the folder does not exist")
    _refused(tmp_path, "no meta/info.json")


def test_an_empty_dataset_is_refused(folder: Path) -> None:
    _edit_info(folder, total_episodes=0, total_frames=0)
    _refused(folder, "is empty: it holds 0 episodes")


def test_another_version_is_refused(folder: Path) -> None:
    _edit_info(folder, codebase_version="v1.6")
    _refused(folder, "LeRobot v1.6 dataset; this version reads v3.0, v2.1, v2.0")


def test_broken_json_is_refused(folder: Path) -> None:
    (folder / layout.INFO_PATH).write_text("{")
    _refused(folder, "Cannot read '.*info.json'")


@pytest.mark.parametrize("path", ["data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"])
def test_a_truncated_table_is_refused(folder: Path, path: str) -> None:
    _truncate(folder / path)
    _refused(folder, "file-000.parquet' is truncated")


def test_a_truncated_video_is_refused_before_decoding(folder: Path) -> None:
    _truncate(folder / f"videos/{layout.IMAGE_KEY}/chunk-000/file-000.mp4")
    _refused(folder, r"file-000.mp4' holds \d+ frames, its episodes need 20")


def test_a_missing_video_is_refused(folder: Path) -> None:
    (folder / f"videos/{layout.IMAGE_KEY}/chunk-000/file-000.mp4").unlink()
    _refused(folder, "file-000.mp4' is missing")


def test_another_control_rate_is_refused(folder: Path) -> None:
    _refused(folder, "recorded at 5 Hz, the control rate is 10 Hz", control_hz=10)


def test_a_frame_rate_that_the_timestamps_deny_is_refused(folder: Path) -> None:
    _edit_info(folder, fps=10)
    _refused(folder, "not the 10 Hz of info.json")


def test_a_wrong_action_dimension_is_refused(folder: Path) -> None:
    info = json.loads((folder / layout.INFO_PATH).read_text())
    info["features"]["action"]["shape"] = [6]
    _edit_info(folder, features=info["features"])
    _refused(folder, r"action has \[6\] dimensions, expected \[7\]")


def test_a_wrong_state_dimension_in_the_table_is_refused(folder: Path) -> None:
    _edit_column(folder, "observation.state", [[0.0] * 9] * 20)
    _refused(folder, "observation.state has 9 dimensions a frame, expected 8")


def test_nan_actions_name_the_episode_and_frame_when_reading(folder: Path) -> None:
    values = np.zeros((20, 7))
    values[5 + 4, 1] = np.nan
    _edit_column(folder, "action", values.tolist())
    _refused(folder, "Episode 1, frame 4: action is not finite")


def test_missing_rows_are_refused(folder: Path) -> None:
    path = folder / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).slice(0, 12), path)
    _refused(folder, "holds 12 frames, info.json says 20")


def test_a_cache_folder_may_be_given(folder: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(folder, cache_folder=tmp_path / "cache")
    assert len(dataset.frames) == 20
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".u8"]
    assert not (folder / ".cache").exists()


def _no_list(folder: Path) -> None:
    (folder / layout.INFO_PATH).write_text("[]")


def _no_dtype(folder: Path) -> None:
    info = json.loads((folder / layout.INFO_PATH).read_text())
    del info["features"][layout.IMAGE_KEY]["dtype"]
    _edit_info(folder, features=info["features"])


def _no_shape(folder: Path) -> None:
    info = json.loads((folder / layout.INFO_PATH).read_text())
    info["features"][layout.IMAGE_KEY]["shape"] = 3
    _edit_info(folder, features=info["features"])


def _no_time(folder: Path) -> None:
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    table, name = pq.read_table(path), f"videos/{layout.IMAGE_KEY}/from_timestamp"
    nulls = pa.nulls(table.num_rows, pa.float64())
    pq.write_table(table.set_column(table.column_names.index(name), name, nulls), path)


def _no_states(folder: Path) -> None:
    (folder / layout.INITIAL_STATES_PATH).write_text("[]")


@pytest.mark.parametrize("damage", [_no_list, _no_dtype, _no_shape, _no_time, _no_states])
def test_broken_metadata_is_told_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    damage(folder)
    _refused(folder, "rlco data validate says where")
    for command in (["info", str(folder)], ["convert", str(folder), str(tmp_path / "new")]):
        if damage is _no_states and command[0] == "convert":
            # the numbers are noise: those are refused first
            continue
        code = main(["data", *command])
        said = capsys.readouterr()
        assert code == FAILED or damage is _no_states
        assert (said.out + said.err).count("rlco data validate says where") == 1
    assert not (tmp_path / "new").exists()


def test_joints_in_our_number_are_not_opened_as_poses(folder: Path) -> None:
    info = json.loads((folder / layout.INFO_PATH).read_text())
    names = [f"joint_{n}" for n in range(8)]
    info["features"]["observation.state"]["names"] = names
    _edit_info(folder, features=info["features"])
    _refused(folder, r"the numbers of observation.state are \['joint_0', .*, ours are \['x', .*rlco data convert")
    info["features"]["observation.state"]["names"] = None
    _edit_info(folder, features=info["features"])
    Dataset.open(folder)
    info["features"]["observation.state"]["names"] = {"motors": list(layout.STATE_NAMES)}
    _edit_info(folder, features=info["features"])
    Dataset.open(folder)
