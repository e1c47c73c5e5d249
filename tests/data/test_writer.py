"""A write that is stopped at any moment goes on to the dataset that an unbroken one gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from rlco.core.files import exclusive
from rlco.data import layout, store
from rlco.data.background import OrderedWork
from rlco.data.encoding import encode_part, part_length
from rlco.data.journal import JOURNAL
from rlco.data.reader import Dataset
from rlco.data.writer import DatasetWriter, partial_folder, write_dataset
from tests.data.samples import FPS, INPUTS, healthy, pictures, varied, write_slowly

COUNT = 12


def writer(folder: Path, **changes: Any) -> DatasetWriter:  # noqa: ANN401
    settings = {"fps": FPS, "robot_type": "twin", "inputs": INPUTS, "sidecar": True} | changes
    return DatasetWriter(folder, **settings)


def contents(folder: Path) -> dict[str, object]:
    """Everything that a reader sees: all JSON, all tables, all decoded pictures."""
    found: dict[str, object] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == ".parquet":
            found[name] = pq.read_table(path).to_pylist()
        elif path.suffix == ".mp4":
            with av.open(str(path)) as container:
                found[name] = [(f.pts, f.to_ndarray(format="rgb24").tobytes()) for f in container.decode(video=0)]
        else:
            found[name] = json.loads(path.read_text())
    return found


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("unbroken") / "set"
    write_slowly(folder, count=COUNT, pause_s=0)
    return contents(folder)


def journal(folder: Path) -> Path:
    return partial_folder(folder) / JOURNAL


def write_some(folder: Path, count: int) -> None:
    """Write ``count`` episodes and leave without finishing."""
    with writer(folder) as partial:
        for number in range(partial.count, count):
            partial.add(varied(number), provenance={"source": number % 2}, extra={"attempt": 2 * number + 1})


def stopped_after(folder: Path, last: int) -> None:
    """Write until episode ``last``, then stop as Ctrl-C does."""
    with writer(folder) as partial:
        for number in range(partial.count, last + 1):
            partial.add(varied(number), provenance={"source": number % 2}, extra={"attempt": 2 * number + 1})
        raise KeyboardInterrupt


def add_and_flush(partial: DatasetWriter, count: int) -> None:
    for number in range(count):
        partial.add(varied(number))
        partial.flush()


def test_a_killed_write_goes_on_to_the_same_dataset(tmp_path: Path, unbroken: dict[str, object]) -> None:
    folder, known = tmp_path / "set", 0
    for kills, seen in enumerate((2, 1, 4)):
        command = [sys.executable, "-m", "tests.data.samples", str(folder), str(COUNT), "0.02", str(seen + 1)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(seen):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()
        assert process.returncode == -signal.SIGKILL
        assert not folder.exists(), "an unfinished dataset appeared"
        with writer(folder) as partial:
            finished = partial.finished
        assert [f.number for f in finished] == list(range(len(finished)))
        assert len(finished) >= known, f"kill {kills} lost finished episodes"
        assert [f.extra for f in finished] == [{"attempt": 2 * f.number + 1} for f in finished]
        known = len(finished)
    assert 0 < known < COUNT
    write_slowly(folder, count=COUNT, pause_s=0)
    assert contents(folder) == unbroken
    assert not partial_folder(folder).exists()


def test_an_exception_loses_no_added_episode(tmp_path: Path, unbroken: dict[str, object]) -> None:
    folder = tmp_path / "set"
    for stop in (1, 5, 9):
        with pytest.raises(KeyboardInterrupt):
            stopped_after(folder, stop)
        with writer(folder) as partial:
            assert [f.number for f in partial.finished] == list(range(stop + 1))
            assert [f.initial_state for f in partial.finished] == [varied(n).initial_state for n in range(stop + 1)]
            assert [f.length for f in partial.finished] == [len(varied(n)) for n in range(stop + 1)]
    write_slowly(folder, count=COUNT, pause_s=0)
    assert contents(folder) == unbroken


def test_the_dataset_is_read_back_and_has_its_sidecars(tmp_path: Path) -> None:
    write_slowly(tmp_path / "set", count=COUNT, pause_s=0)
    dataset = Dataset.open(tmp_path / "set", control_hz=FPS)
    wanted = [varied(n) for n in range(COUNT)]
    assert np.array_equal(dataset.action, np.concatenate([e.action for e in wanted]))
    assert list(dataset.initial_states) == [e.initial_state for e in wanted]
    # each picture is nearest to its own source, in every episode: none is shifted, swapped or lost
    for number, episode in enumerate(wanted):
        decoded = dataset.episode(number).image.astype(int)
        for t, frame in enumerate(decoded):
            assert np.abs(episode.image.astype(int) - frame).mean(axis=(1, 2, 3)).argmin() == t
    provenance = json.loads((tmp_path / "set" / layout.PROVENANCE_PATH).read_text())
    assert provenance == {"episodes": [{"source": n % 2} for n in range(COUNT)]}
    stats = json.loads((tmp_path / "set" / layout.STATS_PATH).read_text())
    state = np.concatenate([e.state for e in wanted]).astype(np.float64)
    np.testing.assert_allclose(stats["observation.state"]["q99"], np.quantile(state, 0.99, axis=0), rtol=1e-12)


def test_a_line_that_a_crash_cut_short_is_forgotten(tmp_path: Path, unbroken: dict[str, object]) -> None:
    folder = tmp_path / "set"
    write_some(folder, 3)
    path = journal(folder)
    path.write_bytes(path.read_bytes()[:-10])
    with writer(folder) as partial:
        assert len(partial.finished) == 2
    # what is added after it can be read again
    write_some(folder, 5)
    with writer(folder) as partial:
        assert len(partial.finished) == 5
    write_slowly(folder, count=COUNT, pause_s=0)
    assert contents(folder) == unbroken


@pytest.mark.parametrize("kind", ["mp4", "parquet"])
@pytest.mark.parametrize("damage", ["gone", "short", "zeros"])
def test_files_that_a_power_cut_spoiled_are_written_again(
    tmp_path: Path, unbroken: dict[str, object], kind: str, damage: str
) -> None:
    folder = tmp_path / "set"
    write_some(folder, 4)
    path = partial_folder(folder) / "episodes" / "000" / f"000001.{kind}"
    data = path.read_bytes()
    path.write_bytes({"gone": b"", "short": data[: len(data) // 2], "zeros": bytes(len(data))}[damage])
    if damage == "gone":
        path.unlink()
    with writer(folder) as partial:
        assert len(partial.finished) == 1
    write_slowly(folder, count=COUNT, pause_s=0)
    assert contents(folder) == unbroken


@pytest.mark.parametrize(
    ("changes", "part"),
    [({"inputs": {**INPUTS, "seed": 4}}, "seed"), ({"fps": 10}, "fps"), ({"robot_type": "panda"}, "robot_type")],
)
def test_going_on_with_other_inputs_is_refused(tmp_path: Path, changes: dict[str, Any], part: str) -> None:
    write_some(tmp_path / "set", 2)
    before = journal(tmp_path / "set").read_bytes()
    with pytest.raises(ValueError, match=rf"set.partial' holds an interrupted write of other inputs.*: {part}\)") as e:
        writer(tmp_path / "set", **changes)
    assert "\n" not in str(e.value)
    assert journal(tmp_path / "set").read_bytes() == before


def test_a_write_without_episodes_keeps_no_other_inputs_out(tmp_path: Path) -> None:
    write_some(tmp_path / "set", 0)
    with writer(tmp_path / "set", inputs={**INPUTS, "seed": 4}) as partial:
        partial.add(varied(0))
    # from the first episode on it does
    with pytest.raises(ValueError, match="interrupted write of other inputs"):
        writer(tmp_path / "set")
    with writer(tmp_path / "set", inputs={**INPUTS, "seed": 4}) as partial:
        assert len(partial.finished) == 1


def test_a_plain_write_beside_another_one_is_refused_and_leaves_it_alone(tmp_path: Path) -> None:
    scratch = tmp_path / ".set.parts"
    with exclusive(scratch):
        (scratch / "theirs").write_text("half an episode")
        with pytest.raises(ValueError, match="Another process is at work"):
            write_dataset(tmp_path / "set", [healthy(0)], fps=FPS, robot_type="twin")
        assert (scratch / "theirs").exists()
    # and what a crash left is cleared
    write_dataset(tmp_path / "set", [healthy(0)], fps=FPS, robot_type="twin")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with (
        exclusive(partial_folder(tmp_path / "set")),
        pytest.raises(ValueError, match="Another process is at work"),
    ):
        writer(tmp_path / "set")


def test_a_folder_of_somebody_else_is_refused_and_kept(tmp_path: Path) -> None:
    foreign = partial_folder(tmp_path / "set") / "thesis.txt"
    foreign.parent.mkdir()
    foreign.write_text("years of work")
    with pytest.raises(ValueError, match=r"holds 'thesis.txt' and was not made here"):
        writer(tmp_path / "set")
    assert foreign.read_text() == "years of work"


def test_nothing_can_be_finished_without_episodes(tmp_path: Path) -> None:
    with writer(tmp_path / "set") as partial, pytest.raises(ValueError, match="at least one"):
        partial.finish()
    assert not (tmp_path / "set").exists()


def test_an_episode_that_does_not_fit_is_refused_at_once_and_the_others_stay(tmp_path: Path) -> None:
    bad = healthy(1)
    bad.action[4, 2] = np.nan
    with writer(tmp_path / "set") as partial:
        partial.add(healthy(0))
        with pytest.raises(ValueError, match="Episode 1, frame 4: action is not finite"):
            partial.add(bad)
        with pytest.raises(ValueError, match=r"Episode 1: image has shape \(12, 64, 64, 3\)"):
            partial.add(healthy(1, size=64))
        with pytest.raises(ValueError, match="must be even"):
            DatasetWriter(tmp_path / "odd", fps=FPS, robot_type="twin", inputs={}).add(healthy(1, size=45))
        with pytest.raises(TypeError, match="JSON"):
            partial.add(healthy(1), extra={"attempt": object()})
        assert partial.add(healthy(2)) == 1
        partial.finish()
    assert len(Dataset.open(tmp_path / "set").episodes) == 2


def test_the_callers_arrays_may_change_after_add(tmp_path: Path) -> None:
    changing = healthy(0)
    original = changing.image.copy()
    with writer(tmp_path / "set") as partial:
        partial.add(changing)
        changing.image[:] = 0
        partial.finish()
    error = np.abs(Dataset.open(tmp_path / "set").frames.astype(int) - original)
    assert error.mean() < 5


def test_a_failure_in_the_background_is_raised_and_what_was_before_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = store.encode_part

    def full_disk(path: Path, frames: np.ndarray, *, fps: int) -> None:
        if path.stem == "000002":
            raise OSError(28, "No space left on device")
        encode(path, frames, fps=fps)

    monkeypatch.setattr(store, "encode_part", full_disk)
    with writer(tmp_path / "set") as partial:
        with pytest.raises(OSError, match="No space left"):
            add_and_flush(partial, COUNT)
        with pytest.raises(OSError, match="No space left"):
            partial.finish()
    assert not (tmp_path / "set").exists()
    monkeypatch.undo()
    with writer(tmp_path / "set") as partial:
        assert [f.number for f in partial.finished] == [0, 1]


def test_what_the_writer_leaves_behind_is_replaced_only_when_the_new_one_is_complete(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_dataset(folder, [healthy(0)], fps=FPS, robot_type="twin")
    before = contents(folder)
    write_some(folder, 3)
    assert contents(folder) == before
    write_slowly(folder, count=COUNT, pause_s=0)
    assert len(Dataset.open(folder).episodes) == COUNT
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]


def test_a_plain_write_leaves_nothing_of_what_was_interrupted(tmp_path: Path) -> None:
    def broken():  # noqa: ANN202
        yield healthy(0)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_dataset(tmp_path / "set", broken(), fps=FPS, robot_type="twin")
    assert list(tmp_path.iterdir()) == []


def test_pictures_keep_within_three_grey_levels(tmp_path: Path) -> None:
    episode = healthy(5, length=20, size=128)
    write_dataset(tmp_path / "set", [episode, healthy(6, length=20, size=128)], fps=FPS, robot_type="twin")
    frames = Dataset.open(tmp_path / "set").frames[:20].astype(int)
    assert np.abs(frames - pictures(5, length=20, size=128)).mean() < 3


def test_the_video_is_as_lerobot_wants_it(tmp_path: Path) -> None:
    write_slowly(tmp_path / "set", count=3, pause_s=0)
    path = tmp_path / "set" / f"videos/{layout.IMAGE_KEY}/chunk-000/file-000.mp4"
    assert part_length(path) == sum(len(varied(n)) for n in range(3))
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "not faststart"
    starts = np.cumsum([0, *(len(varied(n)) for n in range(2))])
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == FPS
        packets: list[Any] = [p for p in container.demux(video=0) if p.size]
        # constant rate, no B-frames: presentation in the order of decoding
        assert [float(p.pts * p.time_base) for p in packets] == pytest.approx(np.arange(len(packets)) / FPS)
        assert all(p.pts == p.dts for p in packets)
        keys = [n for n, p in enumerate(packets) if p.is_keyframe]
    # a key frame at every second frame of an episode, and at its first
    assert keys == [start + n for number, start in enumerate(starts) for n in range(0, len(varied(number)), 2)]


def test_encoding_gives_the_same_bits_however_many_encode_at_a_time(tmp_path: Path) -> None:
    frames = varied(3).image

    def bits(number: int) -> bytes:
        path = tmp_path / f"{number}.mp4"
        encode_part(path, frames, fps=FPS)
        return path.read_bytes()

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(bits, range(200))) == {bits(200)}


def test_results_are_handed_on_in_order_and_waiting_work_is_bounded() -> None:
    got: list[int] = []
    gate, waiting = threading.Event(), []
    work = OrderedWork[int](got.append, max_waiting_bytes=10)

    def first() -> int:
        gate.wait(10)
        return 0

    work.give(first, num_bytes=6)
    work.give(lambda: 1, num_bytes=4)

    def give_more() -> None:
        work.give(lambda: 2, num_bytes=1)
        waiting.append("let in")

    thread = threading.Thread(target=give_more)
    thread.start()
    thread.join(0.2)
    assert waiting == []
    assert got == []
    gate.set()
    thread.join(10)
    work.wait()
    work.close()
    assert got == [0, 1, 2]


def test_a_single_episode_above_the_bound_is_still_written() -> None:
    got: list[int] = []
    work = OrderedWork[int](got.append, max_waiting_bytes=10)
    work.give(lambda: 0, num_bytes=100)
    work.give(lambda: 1, num_bytes=100)
    work.wait()
    work.close()
    assert got == [0, 1]
