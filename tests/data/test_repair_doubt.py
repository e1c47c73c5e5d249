"""Where nothing says what belongs together, a repair drops or refuses; it never guesses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy import ndarray

from rlco.core.episode import Episode
from rlco.core.files import exclusive
from rlco.data import layout
from rlco.data.encoding import encode_part
from rlco.data.reader import Dataset
from rlco.data.validation.repair import Repair, RepairOptions, repair
from rlco.data.validation.validate import examine, validate
from tests.data.breaking import (
    DATA,
    EPISODES,
    LENGTHS,
    STARTS,
    VIDEO,
    copy,
    edit_column,
    edit_json,
    edit_rows,
    good,
    good_episodes,
    has,
    only,
    places,
)
from tests.data.foreign import Foreign, Recorded, grey, write_v30
from tests.data.samples import FPS


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return good(tmp_path_factory.mktemp("healthy") / "set")


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    return copy(source, tmp_path / "set")


def repaired(folder: Path, **options: object) -> tuple[Repair, Dataset]:
    """Repair into a new folder, whose validation finds no error."""
    new = folder.with_name("new")
    done = repair(examine(folder), new, options=RepairOptions(**options))  # pyright: ignore[reportArgumentType]
    found = validate(new)
    assert found.errors == 0, found.lines()
    return done, Dataset.open(new)


def same_pictures(dataset: Dataset, number: int, wanted: Episode) -> None:
    for t, frame in enumerate(dataset.episode(number).image.astype(int)):
        assert np.abs(wanted.image.astype(int) - frame).mean(axis=(1, 2, 3)).argmin() == t


@pytest.mark.parametrize("kept", [[0, 1, 2, 3, *range(5, 20)], [0, 1, 2, 3, 3, *range(4, 20)]], ids=["gap", "repeat"])
def test_rows_that_lack_or_repeat_a_frame_are_not_paired_with_other_pictures(folder: Path, kept: list[int]) -> None:
    order = [*range(STARTS[1]), *(STARTS[1] + n for n in kept), *range(STARTS[2], sum(LENGTHS))]
    edit_rows(folder, lambda rows: rows.take(pa.array(order)))
    done, dataset = repaired(folder)
    assert done.dropped == {1: "its frame_index has gaps or repeats: nothing says which picture belongs to which row"}
    same_pictures(dataset, 0, good_episodes()[0])
    same_pictures(dataset, 1, good_episodes()[2])


def test_rows_that_are_as_many_as_the_pictures_are_numbered_again(folder: Path) -> None:
    def edit(values: ndarray) -> None:
        values[STARTS[1] : STARTS[2]] += 3

    edit_column(folder, "frame_index", edit)
    done, dataset = repaired(folder)
    assert done.episodes[1].done == ("frame_index numbered again in the order of the rows",)
    same_pictures(dataset, 1, good_episodes()[1])


@pytest.mark.parametrize("said", [10, 2])
def test_a_wrong_rate_in_info_does_not_shift_the_pictures(folder: Path, said: int) -> None:
    edit_json(folder, layout.INFO_PATH, lambda info: info.update(fps=said))
    done, dataset = repaired(folder, fps=FPS)
    assert done.dropped == {}
    assert [e.done for e in done.episodes] == [(), (), ()]
    assert dataset.fps == FPS
    for number, wanted in enumerate(good_episodes()):
        same_pictures(dataset, number, wanted)


@pytest.mark.parametrize("wrong", [slice(1, 2), slice(None)])
def test_wrong_lengths_do_not_shift_the_pictures(folder: Path, wrong: slice) -> None:
    """All of them halved agree on a rate, too: but not that of the videos."""

    def edit(values: ndarray) -> None:
        values[wrong] //= 2

    edit_column(folder, "length", edit, table=EPISODES)
    _, dataset = repaired(folder)
    for number, wanted in enumerate(good_episodes()):
        same_pictures(dataset, number, wanted)


def in_millimetres(episode: Episode) -> Episode:
    state, action = episode.state.copy(), episode.action.copy()
    state[:, [0, 1, 2, 6]] *= 1000
    action[:, :3] *= 1000
    return replace(episode, state=state, action=action)


def at_rest(episode: Episode) -> Episode:
    """Commands no motion."""
    action = episode.action.copy()
    action[:, :6] = 0
    return replace(in_millimetres(episode), action=action)


def one_outlier(episode: Episode) -> Episode:
    state = episode.state.copy()
    state[3, 0] = 600
    return replace(episode, state=state)


@pytest.mark.parametrize("change", [in_millimetres, one_outlier])
def test_units_are_not_converted_if_episodes_disagree(tmp_path: Path, change: Callable[[Episode], Episode]) -> None:
    folder = good(tmp_path / "set", e1=change)
    with pytest.raises(ValueError, match=r"Only episodes \[1\] of 3 have position .* in mm: nothing says") as caught:
        repair(examine(folder), tmp_path / "new", options=RepairOptions(units=("mm",)))
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]


def test_an_episode_without_motion_does_not_keep_units_from_being_converted(tmp_path: Path) -> None:
    folder = good(tmp_path / "set", e0=in_millimetres, e1=at_rest, e2=in_millimetres)
    done, dataset = repaired(folder, units=("mm",))
    assert "translation of action converted from mm" in done.whole
    np.testing.assert_allclose(dataset.state, np.concatenate([e.state for e in good_episodes()]), rtol=1e-5)


def emptied(rows: pa.Table) -> pa.Table:
    values = rows["action"].to_pylist()
    values[STARTS[1] + 4] = None
    return rows.set_column(rows.column_names.index("action"), "action", pa.array(values, pa.list_(pa.float32())))


def ragged(rows: pa.Table) -> pa.Table:
    """The total is that of a healthy column."""
    values = rows["action"].to_pylist()
    at = STARTS[1] + 4
    values[at], values[at + 1] = values[at] + values[at + 1][:1], values[at + 1][1:]
    return rows.set_column(rows.column_names.index("action"), "action", pa.array(values, pa.list_(pa.float32())))


def shortened(rows: pa.Table) -> pa.Table:
    values = [v[:6] if n == 1 else v for v, n in zip(*(rows[k].to_pylist() for k in ("action", "episode_index")))]  # noqa: B905
    return rows.set_column(rows.column_names.index("action"), "action", pa.array(values, pa.list_(pa.float32())))


@pytest.mark.parametrize("edit", [emptied, ragged, shortened])
def test_rows_without_the_shape_of_info_are_found_and_dropped(
    folder: Path, edit: Callable[[pa.Table], pa.Table]
) -> None:
    edit_rows(folder, edit)
    message = "action has empty rows or not the shape of info.json"
    found = validate(folder)
    assert [(f.episode, f.message) for f in found.of("column")] == [(1, message)]
    done, dataset = repaired(folder)
    assert done.dropped == {1: message}
    same_pictures(dataset, 1, good_episodes()[2])
    if edit is not shortened:
        with pytest.raises(ValueError, match=r"The column action .*not one size"):
            Dataset.open(folder)


def test_an_empty_text_is_found(folder: Path) -> None:
    texts = ["a"] * sum(LENGTHS)
    edit_rows(folder, lambda rows: rows.append_column("remark", pa.array([*texts[:-1], None])))
    feature = {"dtype": "string", "shape": [1], "names": None}
    edit_json(folder, layout.INFO_PATH, lambda info: info["features"].update(remark=feature))
    assert places(only(validate(folder), "column")) == [(2, None)]


def test_pictures_that_two_episodes_claim_are_found_and_belong_to_nobody(folder: Path) -> None:
    # what a merge of two datasets leaves if it does not move the second one's times
    for name in ("from_timestamp", "to_timestamp"):

        def edit(values: ndarray, name: str = name) -> None:
            values[2] = 0 if name == "from_timestamp" else LENGTHS[2] / FPS

        edit_column(folder, f"videos/{layout.IMAGE_KEY}/{name}", edit, table=EPISODES)
    encode_part(folder / VIDEO, np.concatenate([e.image for e in good_episodes()[:2]]), fps=FPS)
    found = validate(folder)
    assert sorted(f.episode or 0 for f in found.of("video-overlap")) == [0, 1, 2]
    new = folder.with_name("new")
    with pytest.raises(ValueError, match=r"Nothing of .* can be kept: .*claims pictures of it"):
        repair(examine(folder), new, options=RepairOptions())
    assert not new.exists()


def test_pictures_that_no_other_episode_claims_are_kept(folder: Path) -> None:
    for name in ("from_timestamp", "to_timestamp"):

        def edit(values: ndarray) -> None:
            values[1] -= 2 / FPS

        edit_column(folder, f"videos/{layout.IMAGE_KEY}/{name}", edit, table=EPISODES)
    has(validate(folder), "video-overlap", episode=0, frame=LENGTHS[0] - 2)
    done, dataset = repaired(folder)
    assert sorted(done.dropped) == [0, 1]
    same_pictures(dataset, 0, good_episodes()[2])


def test_a_destination_that_another_process_writes_is_refused_and_left_alone(folder: Path, tmp_path: Path) -> None:
    scratch = tmp_path / ".new.parts"
    with exclusive(scratch):
        (scratch / "theirs").write_text("half an episode")
        with pytest.raises(ValueError, match="Another process is at work"):
            repair(examine(folder), tmp_path / "new", options=RepairOptions())
        assert (scratch / "theirs").exists()
    repair(examine(folder), tmp_path / "new", options=RepairOptions())
    assert not scratch.exists()


def test_pictures_in_the_tables_are_read_only_for_a_repair(tmp_path: Path) -> None:
    length = 6
    vectors = {"observation.state": np.ones((length, 3)), "action": np.ones((length, 3))}
    recorded = [Recorded(vectors=vectors, pictures={"image": grey(length)}) for _ in range(2)]
    folder = write_v30(tmp_path / "set", Foreign(episodes=recorded, fps=FPS, as_images=True))
    examined = examine(folder, pictures=False)
    assert examined.validation.of("column") == ()
    assert all(e.rows is not None and "image" not in e.rows.column_names for e in examined.survey.episodes)
    with pytest.raises(ValueError, match="were not read"):
        repair(examined, tmp_path / "new", options=RepairOptions())
    done = repair(examine(folder), tmp_path / "new", options=RepairOptions())
    assert (len(done.episodes), done.dropped) == (2, {})
    column = pq.read_table(tmp_path / "new" / DATA)["image"]
    assert column.to_pylist() == pq.read_table(folder / DATA)["image"].to_pylist()
    edit_rows(folder, lambda rows: rows.drop_columns(["image"]))
    assert {f.message for f in validate(folder).of("column")} == {"its rows lack the column image"}
