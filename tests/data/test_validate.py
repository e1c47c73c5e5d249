"""Each way of breaking a healthy dataset is found, with the right episode and frame, and never by a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy import ndarray

from rlco.data import layout
from rlco.data.journal import JOURNAL
from rlco.data.validation.findings import Severity
from rlco.data.validation.validate import validate
from tests.data.breaking import (
    DATA,
    EPISODES,
    LENGTHS,
    STARTS,
    VIDEO,
    as_v21,
    copy,
    edit_column,
    edit_json,
    edit_rows,
    good,
    has,
    one_file_per_episode,
    only,
    places,
    shorter_video,
    snapshot,
    truncate,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return good(tmp_path_factory.mktemp("healthy") / "set")


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    return copy(source, tmp_path / "set")


def test_a_healthy_dataset_has_nothing_wrong(source: Path) -> None:
    found = validate(source)
    assert found.findings == ()
    assert (found.version, found.episodes, found.frames) == ("v3.0", 3, sum(LENGTHS))


def test_a_healthy_dataset_of_v21_has_nothing_wrong(source: Path, tmp_path: Path) -> None:
    found = validate(as_v21(source, tmp_path / "old"))
    assert found.findings == ()
    assert (found.version, found.episodes, found.frames) == ("v2.1", 3, sum(LENGTHS))


def test_validation_changes_nothing(folder: Path) -> None:
    before = snapshot(folder)
    validate(folder)
    assert snapshot(folder) == before


@pytest.mark.parametrize("damage", [truncate, Path.unlink], ids=["truncated", "missing"])
def test_a_broken_data_file_costs_its_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    folder = one_file_per_episode(tmp_path / "set", monkeypatch)
    damage(folder / "data/chunk-000/file-001.parquet")
    found = validate(folder)
    assert places(found.of("rows")) == [(1, None)]
    if damage is truncate:
        assert [f.file for f in found.of("table")] == ["data/chunk-000/file-001.parquet"]


def test_all_data_files_missing_are_found(folder: Path) -> None:
    (folder / DATA).unlink()
    found = validate(folder)
    assert places(found.of("rows")) == [(0, None), (1, None), (2, None)]
    assert found.of("table")


@pytest.mark.parametrize("name", [EPISODES, layout.TASKS_PATH])
def test_a_truncated_table_of_meta_is_found(folder: Path, name: str) -> None:
    truncate(folder / name)
    assert [f.file for f in validate(folder).of("table")] == [name]


@pytest.mark.parametrize("damage", [truncate, Path.unlink], ids=["truncated", "missing"])
def test_a_broken_video_names_its_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    folder = one_file_per_episode(tmp_path / "set", monkeypatch)
    path = folder / f"videos/{layout.IMAGE_KEY}/chunk-000/file-002.mp4"
    damage(path)
    found = validate(folder)
    codes = [f for f in found.findings if f.code in ("video", "video-short")]
    assert {f.episode for f in codes} == {2}
    assert {f.file for f in codes} == {str(path.relative_to(folder))}


def test_a_video_of_zeros_is_found(folder: Path) -> None:
    size = (folder / VIDEO).stat().st_size
    (folder / VIDEO).write_bytes(bytes(size))
    assert places(only(validate(folder), "video")) == [(0, None), (1, None), (2, None)]


@pytest.mark.parametrize("decode", [True, False])
def test_a_video_that_is_shorter_than_its_table_says_where_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, decode: bool
) -> None:
    folder = one_file_per_episode(tmp_path / "set", monkeypatch)
    shorter_video(folder, 1, 17)
    found = only(validate(folder, decode=decode), "video-short")
    assert places(found) == [(1, 17)]
    assert found[0].stop == LENGTHS[1]


def test_a_video_of_another_rate_is_found(folder: Path) -> None:
    from rlco.data.encoding import encode_part
    from tests.data.breaking import good_episodes

    encode_part(folder / VIDEO, np.concatenate([e.image for e in good_episodes()]), fps=10)
    assert [f.file for f in only(validate(folder), "video-rate")] == [VIDEO]


@pytest.mark.parametrize("text", ["{", "[]", '{"fps": 5}', "null", "\x00\xff"])
def test_an_info_that_says_nothing_is_found(folder: Path, text: str) -> None:
    (folder / layout.INFO_PATH).write_text(text, encoding="latin-1")
    found = validate(folder)
    assert found.of("info")
    assert found.errors


def test_a_folder_without_info_is_found(tmp_path: Path) -> None:
    assert only(validate(tmp_path), "info")


def test_an_unknown_version_is_found(folder: Path) -> None:
    edit_json(folder, layout.INFO_PATH, lambda info: info.update(codebase_version="v1.6"))
    assert only(validate(folder), "version")


def test_the_folder_of_an_unfinished_write_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text("{}\n")
    assert only(validate(tmp_path), "unfinished")


@pytest.mark.parametrize("name", ["total_episodes", "total_frames", "total_tasks"])
def test_a_total_that_is_wrong_is_found(folder: Path, name: str) -> None:
    edit_json(folder, layout.INFO_PATH, lambda info: info.update({name: info[name] + 1}))
    assert name in only(validate(folder), "total")[0].message


def test_a_length_that_the_rows_deny_is_found(folder: Path) -> None:
    def edit(values: ndarray) -> None:
        values[1] -= 3

    edit_column(folder, "length", edit, table=EPISODES)
    has(validate(folder), "length", episode=1)


def test_missing_rows_are_found_with_their_episode(folder: Path) -> None:
    edit_rows(folder, lambda rows: pa.concat_tables([rows.slice(0, STARTS[1] + 15), rows.slice(STARTS[2])]))
    found = validate(folder)
    assert places(found.of("length"))[0] == (1, None)
    assert {f.episode for f in found.of("length")} == {1}


def test_rows_of_an_episode_that_is_not_listed_are_found(folder: Path) -> None:
    edit_rows(folder, lambda rows: rows.slice(0, 2), table=EPISODES)
    has(validate(folder), "length", episode=2)


def test_rows_out_of_order_are_found_at_the_first_one(folder: Path) -> None:
    order = np.arange(sum(LENGTHS))
    order[[STARTS[1] + 4, STARTS[1] + 5]] = order[[STARTS[1] + 5, STARTS[1] + 4]]
    edit_rows(folder, lambda rows: rows.take(pa.array(order)))
    found = validate(folder)
    assert set(places(found.of("order"))) == {(1, 4)}


def test_episodes_out_of_order_are_found(folder: Path) -> None:
    parts = [(STARTS[1], LENGTHS[1]), (STARTS[0], LENGTHS[0]), (STARTS[2], LENGTHS[2])]
    edit_rows(folder, lambda rows: pa.concat_tables([rows.slice(start, length) for start, length in parts]))
    has(validate(folder), "order", episode=0)


def test_a_wrong_index_is_found(folder: Path) -> None:
    def edit(values: ndarray) -> None:
        values[STARTS[2] + 3] = 999

    edit_column(folder, "index", edit)
    assert places(only(validate(folder), "order")) == [(2, 3)]


def test_a_wrong_frame_range_of_an_episode_is_found(folder: Path) -> None:
    def edit(values: ndarray) -> None:
        values[1] += 1

    edit_column(folder, "dataset_from_index", edit, table=EPISODES)
    assert places(only(validate(folder), "order")) == [(1, None)]


def test_a_late_time_stamp_is_found(folder: Path) -> None:
    def edit(values: ndarray) -> None:
        values[STARTS[1] + 7] += 0.05

    edit_column(folder, "timestamp", edit)
    assert places(only(validate(folder), "timestamp")) == [(1, 7)]


def test_a_rate_that_all_time_stamps_deny_is_found(folder: Path) -> None:
    def edit(values: ndarray) -> None:
        values /= 2

    edit_column(folder, "timestamp", edit)
    assert "stamped at 10 Hz" in only(validate(folder), "rate")[0].message


@pytest.mark.parametrize("fps", [0, -5, "five", None, True])
def test_a_rate_that_is_none_is_found(folder: Path, fps: object) -> None:
    edit_json(folder, layout.INFO_PATH, lambda info: info.update(fps=fps))
    assert validate(folder).of("fps")


def test_an_implausible_rate_is_a_warning(folder: Path) -> None:
    edit_json(folder, layout.INFO_PATH, lambda info: info.update(fps=5000))
    assert validate(folder).of("fps-unusual")[0].severity == Severity.WARNING


@pytest.mark.parametrize("metadata", [None, {"pandas": json.dumps({"index_columns": []})}, {"pandas": "{"}])
def test_tasks_without_pandas_metadata_are_found(folder: Path, metadata: dict[str, str] | None) -> None:
    edit_rows(folder, lambda rows: rows.replace_schema_metadata(metadata), table=layout.TASKS_PATH)
    assert only(validate(folder), "task-metadata")[0].file == layout.TASKS_PATH


def test_a_task_that_does_not_exist_is_found(folder: Path) -> None:
    def edit(values: ndarray) -> None:
        values[STARTS[2] + 6] = 77

    edit_column(folder, "task_index", edit)
    assert places(only(validate(folder), "task")) == [(2, 6)]


def test_a_task_that_the_list_of_episodes_denies_is_found(folder: Path) -> None:
    def edit(values: ndarray) -> None:
        values[STARTS[1] : STARTS[2]] = 0

    edit_column(folder, "task_index", edit)
    assert places(only(validate(folder), "task")) == [(1, None)]


@pytest.mark.parametrize(
    "edit",
    [
        lambda stats: stats["action"].pop("q99"),
        lambda stats: stats["action"]["mean"].__setitem__(1, 3.0),
        lambda stats: stats.pop("observation.state"),
        lambda stats: stats["action"].update(max=["a"]),
    ],
    ids=["no quantile", "stale", "no feature", "no number"],
)
def test_statistics_that_do_not_fit_are_found(folder: Path, edit: Callable[[Any], None]) -> None:
    edit_json(folder, layout.STATS_PATH, edit)
    found = validate(folder)
    assert only(found, "stats")


def test_missing_statistics_are_found(folder: Path) -> None:
    (folder / layout.STATS_PATH).unlink()
    assert only(validate(folder), "stats")


def test_a_sidecar_of_another_dataset_is_found(folder: Path) -> None:
    edit_json(folder, layout.INITIAL_STATES_PATH, lambda value: value["episodes"].pop())
    assert "2 rows for 3 episodes" in only(validate(folder), "sidecar")[0].message


def test_a_missing_column_is_found(folder: Path) -> None:
    edit_rows(folder, lambda rows: rows.drop_columns(["action"]))
    found = validate(folder)
    assert {f.episode for f in found.of("column")} == {0, 1, 2}


def test_broken_datasets_of_v21_are_found_with_their_episode(source: Path, tmp_path: Path) -> None:
    folder = as_v21(source, tmp_path / "old")
    truncate(folder / "data/chunk-000/episode_000000.parquet")
    (folder / f"videos/chunk-000/{layout.IMAGE_KEY}/episode_000001.mp4").unlink()

    def edit(values: ndarray) -> None:
        values[3, 0] = np.nan

    edit_column(folder, "action", edit, table="data/chunk-000/episode_000002.parquet")
    found = validate(folder)
    assert places(found.of("rows")) == [(0, None)]
    assert places(found.of("video")) == [(1, None)]
    assert places(found.of("not-finite")) == [(2, 3)]


def test_a_line_of_v21_that_is_no_json_is_found(source: Path, tmp_path: Path) -> None:
    folder = as_v21(source, tmp_path / "old")
    text = (folder / "meta/episodes.jsonl").read_text()
    (folder / "meta/episodes.jsonl").write_text(text + '{"episode_index": ')
    assert "line 4" in only(validate(folder), "table")[0].message


def test_no_damage_to_any_file_ends_in_a_traceback(source: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for layout_name, whole in (("v3", source), ("v21", as_v21(source, tmp_path / "old"))):
        names = [str(p.relative_to(whole)) for p in sorted(whole.rglob("*")) if p.is_file()]
        for round_, name in enumerate(names * 2):
            broken = copy(whole, tmp_path / f"{layout_name}-{round_}")
            data = bytearray((broken / name).read_bytes())
            for position in rng.integers(0, len(data), 1 + len(data) // 50):
                data[position] = rng.integers(0, 256)
            (broken / name).write_bytes(data[: rng.integers(0, len(data) + 1)] if round_ % 2 else data)
            found = validate(broken)
            assert found.of("check-failed") == (), found.lines()
            json.dumps(found.to_json(), allow_nan=False)


def odd_values() -> list[object]:
    return [None, True, -1, "text", [], {}, [[]], {"dtype": 3}, 1e300]


@pytest.mark.parametrize("value", odd_values(), ids=repr)
def test_no_value_in_info_ends_in_a_traceback(source: Path, tmp_path: Path, value: object) -> None:
    info = json.loads((source / layout.INFO_PATH).read_text())
    folder = copy(source, tmp_path / "set")
    for key in info:
        (folder / layout.INFO_PATH).write_text(json.dumps(info | {key: value}))
        assert validate(folder, decode=False).of("check-failed") == (), key
    for name, feature in info["features"].items():
        for changed in (value, *({**feature, key: value} for key in feature)):
            (folder / layout.INFO_PATH).write_text(json.dumps(info | {"features": info["features"] | {name: changed}}))
            assert validate(folder, decode=False).of("check-failed") == (), (name, changed)


def test_a_text_that_is_no_utf8_is_found(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / layout.TASKS_PATH), folder / layout.TASKS_PATH, compression="NONE")
    data = (folder / layout.TASKS_PATH).read_bytes()
    assert b"push cube 1" in data
    (folder / layout.TASKS_PATH).write_bytes(data.replace(b"push cube 1", b"push c\xffbe 1"))
    found = validate(folder)
    assert [f.file for f in found.of("table")] == [layout.TASKS_PATH]
    assert found.of("check-failed") == ()
