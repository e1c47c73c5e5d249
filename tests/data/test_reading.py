"""Foreign datasets, v2.1 and v3.0, are read as they are told to be, or refused in one line that says the way out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy import ndarray

from rlco.core.poses import quat_multiply, quat_rotate, quat_to_rotvec, rotvec_to_quat, rpy_to_quat
from rlco.data import layout
from rlco.data.canonical import integrate
from rlco.data.reader import Dataset
from rlco.data.reading import Reading, StateReading
from rlco.data.tables import read_tables
from tests.data.foreign import Foreign, Recorded, edit_info, frame_numbers, grey, write_v21, write_v30

FPS = 10
START = np.array([0.4, 0.05, 0.2, *rpy_to_quat(np.array([0.1, -0.2, 0.3]))])
LENGTHS = (8, 5)
TOOL = (np.pi, 0.0, 0.0)
FOREIGN = Reading(
    rename=("image=image",),
    state=StateReading(rotation_form="rpy", gripper_form="unit-open"),
    rotation="rpy",
    control_hz=FPS,
)


def motion(length: int, *, seed: int) -> tuple[ndarray, ndarray]:
    """Our deltas (T, 6), and the T + 1 poses they command."""
    delta = np.random.default_rng(seed).uniform(-0.02, 0.02, size=(length, 6))
    return delta, integrate(START, delta[:, :3], rpy_to_quat(delta[:, 3:]))


def rpy(pose: ndarray) -> ndarray:
    """Roll, pitch, yaw, by the matrix."""
    x, y, z = (quat_rotate(pose[:, 3:], np.broadcast_to(axis, (len(pose), 3))) for axis in np.eye(3))
    pitch = np.arcsin(-x[:, 2])
    return np.stack([np.arctan2(y[:, 2], z[:, 2]), pitch, np.arctan2(x[:, 1], x[:, 0])], axis=1)


def openpi(*, names: tuple[str, str] = ("state", "actions"), cameras: tuple[str, ...] = ("image", "wrist_image")):  # noqa: ANN201
    """State 7 (xyz, rpy, gripper 0..1), actions 7 (our deltas), the gripper closes halfway."""
    episodes = []
    for number, length in enumerate(LENGTHS):
        delta, pose = motion(length, seed=number)
        gripper = np.where(np.arange(length) < length // 2, 1.0, -1.0)[:, None]
        state = np.concatenate([pose[:-1, :3], rpy(pose[:-1]), (gripper + 1) / 2], axis=1)
        action = np.concatenate([delta, gripper], axis=1)
        vectors = {n: v.astype(np.float32) for n, v in zip(names, (state, action), strict=True)}
        pictures = {camera: grey(length, first=sum(LENGTHS[:number]) * (1 - i)) for i, camera in enumerate(cameras)}
        episodes.append(Recorded(vectors=vectors, pictures=pictures, task=f"push cube {number}"))
    return Foreign(episodes=episodes, fps=FPS)


def deltas() -> ndarray:
    return np.concatenate([motion(length, seed=number)[0] for number, length in enumerate(LENGTHS)])


@pytest.mark.parametrize("kind", ["v2.1", "v2.0", "v2.1 images", "v3.0", "v3.0 images"])
def test_every_format_gives_the_same_numbers_tasks_and_pictures(tmp_path: Path, kind: str) -> None:
    foreign = replace(openpi(), as_images="images" in kind)
    folder = tmp_path / "set"
    write_v30(folder, foreign) if "v3.0" in kind else write_v21(folder, foreign, version=kind.split()[0])
    dataset = Dataset.open(folder, reading=FOREIGN)
    np.testing.assert_allclose(dataset.action[:, :6], deltas(), atol=1e-6)
    pose = [motion(length, seed=number)[1][:-1] for number, length in enumerate(LENGTHS)]
    wanted = np.concatenate([np.concatenate([p[:, :3], quat_to_rotvec(p[:, 3:])], axis=1) for p in pose])
    np.testing.assert_allclose(dataset.state[:, :6], wanted, atol=1e-6)
    assert [span.task for span in dataset.episodes] == ["push cube 0", "push cube 1"]
    assert frame_numbers(dataset.frames) == list(range(sum(LENGTHS)))
    assert frame_numbers(dataset.episode(1).image) == [8, 9, 10, 11, 12]
    assert [frame_numbers(e.image) for e in dataset.stream()] == [list(range(8)), list(range(8, 13))]


def test_gripper_width_and_command_follow_the_conventions(tmp_path: Path) -> None:
    write_v21(tmp_path / "set", openpi())
    dataset = Dataset.open(tmp_path / "set", reading=FOREIGN)
    assert dataset.action[:8, 6].tolist() == [1, 1, 1, 1, -1, -1, -1, -1]
    np.testing.assert_allclose(dataset.state[:8, 6], [0.08] * 4 + [0] * 4)
    # the command of the step before; at first what the width says
    assert dataset.state[:8, 7].tolist() == [1, 1, 1, 1, 1, -1, -1, -1]


def test_the_other_camera_is_chosen_by_rename(tmp_path: Path) -> None:
    write_v30(tmp_path / "set", openpi())
    other = replace(FOREIGN, rename=("wrist_image=observation.images.front",))
    # this camera counts anew in each episode, and its video starts with frames of nobody
    assert frame_numbers(Dataset.open(tmp_path / "set", reading=other).frames) == [*range(8), *range(5)]


def test_features_renamed_to_one_are_joined(tmp_path: Path) -> None:
    foreign = openpi(cameras=("image",))
    for episode in foreign.episodes:
        whole = episode.vectors.pop("state")
        # a scalar column is a vector of one
        episode.vectors |= {"pose": whole[:, :6], "gripper": whole[:, 6:]}
    write_v21(tmp_path / "set", foreign)
    joined = replace(FOREIGN, rename=("pose=state", "gripper=observation.state"))
    write_v21(tmp_path / "plain", openpi(cameras=("image",)))
    wanted = Dataset.open(tmp_path / "plain", reading=FOREIGN).state
    assert np.array_equal(Dataset.open(tmp_path / "set", reading=joined).state, wanted)


def absolute(reading: Reading) -> Foreign:
    """``openpi`` with commanded poses of a tool that points down, in millimetres and degrees."""
    foreign = openpi(cameras=("image",))
    for number, episode in enumerate(foreign.episodes):
        _, pose = motion(LENGTHS[number], seed=number)
        back = quat_multiply(pose[:, 3:], np.tile(rpy_to_quat(-np.array(TOOL)), (len(pose), 1)))
        theirs = np.concatenate([pose[:, :3] * 1e3, back], axis=1)
        grip = (episode.vectors["actions"][:, 6:] + 1) / 2 * 80
        rotation = np.rad2deg(rpy(theirs)) if reading.rotation == "rpy" else back[:, [1, 2, 3, 0]]
        state = np.concatenate([theirs[:-1, :3], np.rad2deg(rpy(theirs[:-1])), grip], axis=1)
        episode.vectors = {"state": state, "actions": np.concatenate([theirs[1:, :3], rotation[1:], grip], axis=1)}
    return foreign


@pytest.mark.parametrize("rotation", ["rpy", "quat-xyzw"])
def test_absolute_actions_of_another_tool_and_unit_become_our_deltas(tmp_path: Path, rotation: str) -> None:
    reading = replace(
        FOREIGN,
        rename=(),
        actions="absolute",
        rotation=rotation,
        gripper="width",
        length_unit="mm",
        angle_unit="deg",
        tool_rotation=TOOL,
        state=StateReading(rotation_form="rpy", gripper_form="width"),
    )
    write_v21(tmp_path / "set", absolute(reading))
    dataset = Dataset.open(tmp_path / "set", reading=reading)
    np.testing.assert_allclose(dataset.action[:, :6], deltas(), atol=1e-6)
    assert dataset.action[:8, 6].tolist() == [1, 1, 1, 1, -1, -1, -1, -1]
    for number, span in enumerate(dataset.episodes):
        rows, (_, pose) = slice(span.start, span.stop), motion(LENGTHS[number], seed=number)
        np.testing.assert_allclose(dataset.state[rows, :3], pose[:-1, :3], atol=1e-6)
        np.testing.assert_allclose(dataset.state[rows, 3:6], quat_to_rotvec(pose[:-1, 3:]), atol=1e-6)
        # absolute -> delta -> integrated is the same path
        action = dataset.action[rows].astype(np.float64)
        found = integrate(pose[0], action[:, :3], rpy_to_quat(action[:, 3:6]))
        np.testing.assert_allclose(found[:, :3], pose[:, :3], atol=1e-6)


@pytest.mark.parametrize("frame", ["base", "effector"])
def test_deltas_in_any_frame_command_the_same_path(tmp_path: Path, frame: str) -> None:
    foreign = openpi(cameras=("image",))
    for number, episode in enumerate(foreign.episodes):
        delta, pose = motion(LENGTHS[number], seed=number)
        turn, before = rpy_to_quat(delta[:, 3:]), pose[:-1, 3:]
        inverse = before * np.array([1, -1, -1, -1])
        moved = delta[:, :3] if frame == "base" else quat_rotate(inverse, delta[:, :3])
        turned = turn if frame == "effector" else quat_multiply(quat_multiply(before, turn), inverse)
        # normalised: 1 means 0.05 m, 0.5 rad
        numbers = [moved / 0.05, quat_to_rotvec(turned) / 0.5, -episode.vectors["actions"][:, 6:]]
        episode.vectors["actions"] = np.concatenate(numbers, axis=1)
    write_v21(tmp_path / "set", foreign)
    reading = replace(
        FOREIGN,
        rename=(),
        rotation="rotvec",
        translation_frame=frame,
        rotation_frame=frame,
        action_scale=(0.05, 0.5),
        gripper="signed-close",
    )
    dataset = Dataset.open(tmp_path / "set", reading=reading)
    np.testing.assert_allclose(dataset.action[:, :6], deltas(), atol=1e-6)
    assert dataset.action[:8, 6].tolist() == [1, 1, 1, 1, -1, -1, -1, -1]


@pytest.mark.parametrize("hz", [5, 4, 20])
def test_another_rate_keeps_the_motion_the_pictures_and_the_changes(tmp_path: Path, hz: int) -> None:
    write_v30(tmp_path / "set", openpi())
    dataset = Dataset.open(tmp_path / "set", reading=replace(FOREIGN, control_hz=hz), control_hz=hz)
    assert dataset.fps == hz
    ratio = FPS / hz
    # 4 Hz: 0, 2.5, 5, 7.5; 20 Hz: 0, 0.5, 1, ...; of two equally near ones the earlier
    nearest = [[int(np.ceil(j * ratio - 0.5)) for j in range(int(np.ceil(n / ratio)))] for n in LENGTHS]
    assert frame_numbers(dataset.frames) == [*nearest[0], *(8 + k for k in nearest[1])]
    assert frame_numbers(dataset.episode(1).image) == [8 + k for k in nearest[1]]
    for number, span in enumerate(dataset.episodes):
        action = dataset.action[span.start : span.stop].astype(np.float64)
        delta, pose = motion(LENGTHS[number], seed=number)
        np.testing.assert_allclose(action[:, :3].sum(axis=0), delta[:, :3].sum(axis=0), atol=1e-6)
        end = integrate(pose[0], action[:, :3], rpy_to_quat(action[:, 3:6]))[-1]
        np.testing.assert_allclose(quat_to_rotvec(end[3:]), quat_to_rotvec(pose[-1, 3:]), atol=1e-6)
        assert (np.diff(action[:, 6]) != 0).sum() == 1
    report = dataset.tables.report
    assert report is not None
    assert (report.frames, report.steps, report.source_hz, report.inserted) == (13, len(dataset), 10.0, 0)


def test_a_motion_beyond_the_controller_is_refused_or_split(tmp_path: Path) -> None:
    foreign = openpi(cameras=("image",))
    foreign.episodes[1].vectors["actions"][2, :3] = (0.12, 0.0, -0.2)
    write_v21(tmp_path / "set", foreign)
    refused(tmp_path / "set", FOREIGN, r"1 of 13 steps .*in episode 1, moves 0.2 m.*--too-fast insert")
    dataset = Dataset.open(tmp_path / "set", reading=replace(FOREIGN, too_fast="insert"))
    report = dataset.tables.report
    assert report is not None
    # 0.2 m are four steps of 0.05 m
    assert (report.too_fast, report.inserted, report.steps, len(dataset)) == (1, 3, 16, 16)
    np.testing.assert_allclose(dataset.action[10:14, :3], [[0.03, 0, -0.05]] * 4, atol=1e-6)
    assert frame_numbers(dataset.frames)[8:] == [8, 9, 10, 10, 10, 11, 11, 12]


def test_pictures_are_cut_or_padded_to_a_square(tmp_path: Path) -> None:
    foreign = replace(openpi(cameras=("image",)), as_images=True)
    for episode in foreign.episodes:
        wide = np.full((len(episode), 16, 32, 3), 200, np.uint8)
        wide[:, :, :8], wide[:, :, 24:] = 50, 50
        episode.pictures = {"image": wide}
    write_v21(tmp_path / "set", foreign)
    assert Dataset.open(tmp_path / "set", reading=FOREIGN).frames.shape == (13, 16, 32, 3)
    cut = Dataset.open(tmp_path / "set", reading=replace(FOREIGN, image_size=8)).frames
    assert cut.shape == (13, 8, 8, 3)
    assert (cut == 200).all()
    padded = Dataset.open(tmp_path / "set", reading=replace(FOREIGN, image_size=8, fit="pad")).frames
    assert (padded[:, :2] == 0).all()
    assert (padded[:, 6:] == 0).all()
    assert (padded[:, 2:6, 2:6] == 200).all()
    assert (padded[:, 2:6, :2] == 50).all()


def ours_but_old() -> Foreign:
    """Our form in v2.1, under the short names."""
    foreign = openpi(cameras=("image",))
    for number, episode in enumerate(foreign.episodes):
        _, pose = motion(LENGTHS[number], seed=number)
        numbers = [pose[:-1, :3], quat_to_rotvec(pose[:-1, 3:]), np.full((LENGTHS[number], 2), 0.04)]
        episode.vectors["state"] = np.concatenate(numbers, axis=1)
    return replace(foreign, fps=10.0)


def test_a_v21_dataset_in_our_form_needs_no_reading(tmp_path: Path) -> None:
    foreign = ours_but_old()
    write_v21(tmp_path / "set", foreign)
    dataset = Dataset.open(tmp_path / "set", control_hz=10)
    assert dataset.fps == 10
    np.testing.assert_allclose(dataset.action, np.concatenate([e.vectors["actions"] for e in foreign.episodes]))
    assert frame_numbers(dataset.frames) == list(range(13))
    # the default reading says the same
    again = Dataset.open(tmp_path / "set", reading=Reading(control_hz=10, state=StateReading(command=7)))
    np.testing.assert_allclose(again.action, dataset.action, atol=1e-6)
    np.testing.assert_allclose(again.state, dataset.state, atol=1e-6)
    assert again.fingerprint != dataset.fingerprint


def test_the_task_comes_from_the_rows_if_the_episodes_do_not_say(tmp_path: Path) -> None:
    folder = write_v30(tmp_path / "set", openpi())
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["tasks"]), path)
    assert [s.task for s in read_tables(folder, FOREIGN).episodes] == ["push cube 0", "push cube 1"]


def refused(folder: Path, reading: Reading | None, match: str) -> None:
    with pytest.raises((ValueError, LookupError), match=match) as caught:
        Dataset.open(folder, reading=reading)
    assert "\n" not in str(caught.value)
    assert "set" in str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_v21(tmp_path / "set", openpi())


def test_several_cameras_are_listed_with_the_way_to_choose(folder: Path) -> None:
    wanted = r"it has: image, wrist_image\. Choose one with rename: image=observation\.images\.front"
    refused(folder, None, wanted)
    refused(folder, replace(FOREIGN, rename=()), wanted)


def test_what_is_not_ours_is_told_with_the_command_that_converts_it(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", openpi(cameras=("image",)))
    refused(folder, None, r"state has \[7\] dimensions, expected \[8\]. Found: LeRobot v2.1, 10 Hz, cameras: image; ")
    refused(folder, None, r"rlco data convert .*set NEW_FOLDER")


def test_numbers_that_only_look_like_ours_are_refused(tmp_path: Path) -> None:
    foreign = ours_but_old()
    foreign.episodes[0].vectors["actions"][0, 0] = 0.4
    refused(write_v21(tmp_path / "set", foreign), None, r"numbers up to \[0.4, .*rlco data convert")


def test_a_rate_that_is_not_whole_needs_a_reading(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", replace(ours_but_old(), fps=12.5))
    refused(folder, None, "has 12.5 Hz, expected a whole number.*rlco data convert")
    assert Dataset.open(folder, reading=Reading()).fps == 5


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rotation": "quat-xyzw"}, "episode 0: an action has 7 numbers, but position, rotation as quat-xyzw.* are 8"),
        ({"gripper": "unit-open"}, "episode 0: action, gripper, frame 4.*'unit-open'"),
        ({"state": StateReading()}, "episode 0: state, gripper, frame 0.*'width'"),
        ({"state": StateReading(rotation_form="6d")}, "a state has 7 numbers, but the reading needs 10"),
        ({"state": StateReading(rotation=2, rotation_form="quat-wxyz")}, "state, frame 0: .*not a unit quaternion"),
        ({"rename": ("imag=image",)}, "No feature named 'imag'. Did you mean 'image'"),
        ({"rename": ("state=image",)}, "rename must give one camera, got state; it has: image, wrist_image"),
    ],
)
def test_a_reading_that_does_not_fit_says_where(folder: Path, changes: dict, match: str) -> None:
    refused(folder, replace(FOREIGN, **changes), match)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rename": ("image",)}, "THEIRS=OURS"),
        ({"rename": ("image=camera",)}, "No feature of ours named 'camera'"),
        ({"control_hz": 0}, "Reading.control_hz must be above 0, got 0"),
        ({"image_size": 97}, "Reading.image_size must be even"),
        ({"actions": "absolute", "action_scale": (0.05, 0.5)}, "for delta actions only"),
    ],
)
def test_a_reading_refuses_what_it_cannot_mean(changes: dict, match: str) -> None:
    with pytest.raises((ValueError, LookupError), match=match):
        Reading(**changes)


def test_missing_or_several_tasks_ask_for_an_instruction(folder: Path) -> None:
    path = folder / "meta/episodes.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["tasks"] = ["one", "two"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused(folder, FOREIGN, "episode 1 has 2 tasks, expected one task. Give it with rlco data convert --instruction")
    dataset = Dataset.open(folder, reading=replace(FOREIGN, instruction="push"))
    assert {span.task for span in dataset.episodes} == {"push"}


def test_broken_files_are_named(folder: Path) -> None:
    lines = folder / "meta/episodes.jsonl"
    text = lines.read_text()
    lines.write_text(text.replace('"length": 5', '"length": 6'))
    refused(folder, FOREIGN, "episode_000001.parquet' holds 5 frames, meta/episodes.jsonl says 6")
    lines.write_text(text + "{")
    refused(folder, FOREIGN, "episodes.jsonl', line 3")
    lines.write_text(text)
    (folder / "videos/chunk-000/image/episode_000001.mp4").unlink()
    refused(folder, FOREIGN, "image/episode_000001.mp4' is missing")
    (folder / "data/chunk-000/episode_000000.parquet").write_bytes(b"PAR1")
    refused(folder, FOREIGN, "episode_000000.parquet' is truncated")


def test_a_rate_that_the_timestamps_deny_is_refused(folder: Path) -> None:
    edit_info(folder, fps=20)
    refused(folder, FOREIGN, "not the 20 Hz of info.json")


def test_a_picture_that_is_none_names_its_row(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", replace(openpi(cameras=("image",)), as_images=True))
    path = folder / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    column = table["image"].to_pylist()
    column[3]["bytes"] = b"no picture"
    pq.write_table(table.set_column(table.column_names.index("image"), "image", [column]), path)
    with pytest.raises(ValueError, match=r"episode_000001.parquet', row 3: image is no picture"):
        _ = Dataset.open(folder, reading=FOREIGN).frames


def test_the_frame_cache_of_a_reading_is_its_own(folder: Path) -> None:
    both = [Dataset.open(folder, reading=replace(FOREIGN, control_hz=hz)) for hz in (10, 5)]
    assert [len(d.frames) for d in both] == [13, 7]
    assert len(list((folder / ".cache").iterdir())) == 2


def test_a_rotation_vector_is_not_taken_for_roll_pitch_yaw() -> None:
    # the forms differ in second order: a mistake would pass every test with small turns
    vector = np.array([[0.5, -0.4, 0.9]])
    assert np.abs(rotvec_to_quat(vector) - rpy_to_quat(vector)).max() > 0.05
    assert layout.STATE_NAMES[3:6] == ("rx", "ry", "rz")


def test_episodes_may_lie_in_the_video_in_another_order(tmp_path: Path) -> None:
    folder = write_v30(tmp_path / "set", openpi())
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    table, name = pq.read_table(path), "videos/image/from_timestamp"
    pq.write_table(table.set_column(table.column_names.index(name), name, [[5 / FPS, 0.0]]), path)
    assert frame_numbers(Dataset.open(folder, reading=FOREIGN).frames) == [*range(5, 13), *range(5)]
