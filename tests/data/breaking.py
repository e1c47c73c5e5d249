"""Ways to break a healthy dataset, one at a time, and the same dataset in the layout of LeRobot v2.1."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy import ndarray

from rlco.core.episode import Episode
from rlco.data import layout
from rlco.data.assemble import to_arrow, to_numpy
from rlco.data.encoding import encode_part
from rlco.data.validation.findings import Finding, Validation
from rlco.data.writer import write_dataset
from tests.data.samples import FPS, healthy

LENGTHS = (12, 20, 14)
STARTS = (0, 12, 32)
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = f"videos/{layout.IMAGE_KEY}/chunk-000/file-000.mp4"


def good_episodes() -> list[Episode]:
    return [healthy(n, length=length, instruction=f"push cube {n % 2}") for n, length in enumerate(LENGTHS)]


def good(folder: Path, **changes: Callable[[Episode], Episode]) -> Path:
    """Write three healthy episodes; ``e1=change`` alters episode 1 before it is written."""
    episodes = [changes.get(f"e{n}", lambda e: e)(e) for n, e in enumerate(good_episodes())]
    write_dataset(folder, episodes, fps=FPS, robot_type="twin", sidecar=True)
    return folder


def altered(name: str, edit: Callable[[ndarray], None]) -> Callable[[Episode], Episode]:
    """Return a change of one array of an episode."""

    def change(episode: Episode) -> Episode:
        values = getattr(episode, name).copy()
        edit(values)
        return replace(episode, **{name: values})

    return change


def edit_json(folder: Path, name: str, edit: Callable[[Any], None]) -> None:
    value = json.loads((folder / name).read_text())
    edit(value)
    (folder / name).write_text(json.dumps(value))


def edit_column(folder: Path, name: str, edit: Callable[[ndarray], None], *, table: str = DATA) -> None:
    """Change a column of numbers in place; ``edit`` gets (N, D) values."""
    rows = pq.read_table(folder / table)
    values = to_numpy(rows[name])
    assert values is not None
    values = values.copy()
    edit(values)
    rows = rows.set_column(rows.column_names.index(name), name, to_arrow(values))
    pq.write_table(rows, folder / table)


def edit_rows(folder: Path, edit: Callable[[pa.Table], pa.Table], *, table: str = DATA) -> None:
    rows = pq.read_table(folder / table)
    pq.write_table(edit(rows), folder / table)


def truncate(path: Path, share: float = 0.6) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def one_file_per_episode(folder: Path, monkeypatch: Any) -> Path:  # noqa: ANN401
    """Write the healthy dataset with a data file and a video of its own for each episode."""
    with monkeypatch.context() as patch:
        patch.setattr(layout, "VIDEO_FILE_MB", 0)
        patch.setattr(layout, "DATA_FILE_MB", 0)
        return good(folder)


def shorter_video(folder: Path, episode: int, frames: int) -> None:
    """Write the pictures of an episode with a file of its own again, without the last ones."""
    path = folder / f"videos/{layout.IMAGE_KEY}/chunk-000/file-{episode:03d}.mp4"
    encode_part(path, good_episodes()[episode].image[:frames], fps=FPS)


def as_v21(source: Path, folder: Path) -> Path:
    """Write the healthy dataset in the layout of v2.1; the numbers and instructions are those of ``source``."""
    rows = pq.read_table(source / DATA)
    tasks = pq.read_table(source / layout.TASKS_PATH)["task"].to_pylist()
    (folder / "meta").mkdir(parents=True)
    (folder / "data/chunk-000").mkdir(parents=True)
    numbers = np.array(rows["episode_index"].to_pylist())
    lines = []
    for n, episode in enumerate(good_episodes()):
        own = rows.take(pa.array(np.flatnonzero(numbers == n)))
        pq.write_table(own, folder / f"data/chunk-000/episode_{n:06d}.parquet")
        video = folder / f"videos/chunk-000/{layout.IMAGE_KEY}/episode_{n:06d}.mp4"
        encode_part(video, episode.image, fps=FPS)
        lines.append({"episode_index": n, "tasks": [episode.instruction], "length": len(episode)})
    (folder / "meta/episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    texts = [{"task_index": n, "task": text} for n, text in enumerate(tasks)]
    (folder / "meta/tasks.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    info = json.loads((source / layout.INFO_PATH).read_text()) | {
        "codebase_version": "v2.1",
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    (folder / "meta/info.json").write_text(json.dumps(info))
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return every file: to show that nothing was touched."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def copy(source: Path, folder: Path) -> Path:
    return Path(shutil.copytree(source, folder))


def only(found: Validation, code: str) -> tuple[Finding, ...]:
    """Return the findings of ``code``; there is nothing of another code."""
    assert set(found.counts) == {code}, found.lines()
    return found.of(code)


def places(findings: tuple[Finding, ...]) -> list[tuple[int | None, int | None]]:
    return [(f.episode, f.frame) for f in findings]


def has(found: Validation, code: str, *, episode: int | None, frame: int | None = None) -> None:
    assert (episode, frame) in places(found.of(code)), found.lines()
