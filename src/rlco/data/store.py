"""Finished episodes in the folder of an unfinished dataset: each complete on disk, listed in a journal."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlco.core.episode import Episode
from rlco.core.files import write_atomic
from rlco.core.scene import ACTION_DIM, STATE_DIM
from rlco.data import layout
from rlco.data.assemble import StoredEpisode, to_arrow
from rlco.data.background import OrderedWork
from rlco.data.checks import require_finite
from rlco.data.encoding import encode_part, part_length
from rlco.data.journal import Journal
from rlco.data.summary import ImageSummary, sampled

_MAX_WAITING_BYTES = 256 * 2**20
"""Of pictures that wait for an encoder; the caller waits above this."""
_EPISODES_A_FOLDER = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class _Added:
    """An episode that is being encoded. Its arrays belong to nobody else."""

    number: int
    episode: Episode
    remarks: Mapping[str, Any]
    """The caller's: provenance and extra."""


class EpisodeStore:
    """Encodes episodes in the background and keeps them; what is in the journal survives any end of the process."""

    def __init__(self, folder: Path, *, fps: int, header: Mapping[str, Any]) -> None:
        """Open ``folder`` (which exists). Raises ``ValueError`` in one line if it holds the episodes of another header.

        Entries whose files are not what the journal says (a power cut) are dropped, with all after them.
        """
        self._folder, self._fps = folder, fps
        self._journal = Journal(folder, header)
        self._tables: list[pa.Table] = []
        self._journal.keep(self._load())
        self._size = tuple(self._journal.entries[0]["size"]) if self._journal.entries else None
        self._count = len(self._journal.entries)
        self._work = OrderedWork[_Added](self._commit, max_waiting_bytes=_MAX_WAITING_BYTES)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """What the journal says of each finished episode."""
        return self._journal.entries

    @property
    def count(self) -> int:
        """Episodes added, those being encoded included."""
        return self._count

    @property
    def size(self) -> tuple[int, int]:
        """Height and width [pixels] of the pictures. Raises ``ValueError`` without episodes."""
        if self._size is None:
            raise ValueError(f"No episodes in '{self._folder}': a dataset needs at least one.")
        return self._size[0], self._size[1]

    def add(self, episode: Episode, *, remarks: Mapping[str, Any]) -> int:
        """Check and copy an episode and hand it to the encoders; return its number.

        Raises ``ValueError`` if it does not fit, ``TypeError`` if ``remarks`` are not JSON, and the error of an earlier
        episode that could not be written.
        """
        number = self._count
        self._check(episode, number)
        copied = Episode(
            image=np.array(episode.image, order="C"),
            state=episode.state.astype(np.float32),
            action=episode.action.astype(np.float32),
            instruction=episode.instruction,
            fps=episode.fps,
            stop_reason=episode.stop_reason,
            initial_state=episode.initial_state,
        )
        added = _Added(number=number, episode=copied, remarks=json.loads(json.dumps(dict(remarks), allow_nan=False)))
        self._work.give(functools.partial(self._write, added), num_bytes=copied.image.nbytes)
        self._size, self._count = copied.image.shape[1:3], number + 1
        return number

    def flush(self) -> None:
        """Return once every episode added is finished; raise the first failure."""
        self._work.wait()

    def close(self) -> None:
        """Finish what is being encoded, if nothing has failed, and let go of everything."""
        self._work.close()
        self._journal.close()

    def episodes(self) -> Iterator[StoredEpisode]:
        """Yield all finished episodes in order."""
        for number, entry in enumerate(self.entries):
            yield StoredEpisode(
                table=self._tables[number],
                tasks=(entry["task"],) * entry["length"],
                videos={layout.IMAGE_KEY: self._path(number, "mp4")},
                pixels={layout.IMAGE_KEY: ImageSummary.from_json(entry["pixels"])},
            )

    def _check(self, episode: Episode, number: int) -> None:
        length = len(episode)
        wanted = {"image": (length, *(self._size or episode.image.shape[1:3]), 3)}
        wanted |= {"state": (length, STATE_DIM), "action": (length, ACTION_DIM)}
        for name, shape in wanted.items():
            found = getattr(episode, name).shape
            if not length or found != shape:
                raise ValueError(f"Episode {number}: {name} has shape {found}, expected {shape} with 1 or more frames.")
        if any(side % 2 for side in episode.image.shape[1:3]):
            raise ValueError(f"Episode {number}: height and width must be even for video, got {episode.image.shape}.")
        if episode.fps != self._fps:
            raise ValueError(f"Episode {number} was recorded at {episode.fps} Hz, the dataset has {self._fps} Hz.")
        require_finite(episode.action, name="action", episode=number)
        require_finite(episode.state, name="state", episode=number)

    def _write(self, added: _Added) -> _Added:
        """Write the two files of an episode; each is complete or absent."""
        episode = added.episode
        table = pa.table({layout.STATE_KEY: to_arrow(episode.state), layout.ACTION_KEY: to_arrow(episode.action)})
        write_atomic(self._path(added.number, "parquet"), lambda temporary: pq.write_table(table, temporary))
        encode_part(self._path(added.number, "mp4"), episode.image, fps=self._fps)
        return added

    def _commit(self, added: _Added) -> None:
        """List an episode whose files are in place. Called in the order of the episodes, one at a time."""
        episode, pixels = added.episode, ImageSummary()
        pixels.add(sampled(episode.image))
        entry = {
            "episode": added.number,
            "task": episode.instruction,
            "length": len(episode),
            "size": list(episode.image.shape[1:3]),
            "bytes": {kind: self._path(added.number, kind).stat().st_size for kind in ("parquet", "mp4")},
            "initial_state": None if episode.initial_state is None else episode.initial_state.to_json(),
            **added.remarks,
            "pixels": pixels.to_json(),
        }
        self._tables.append(pq.read_table(self._path(added.number, "parquet")))
        self._journal.append(entry)

    def _load(self) -> int:
        """Read the tables of the journal's episodes; return how many of them are whole."""
        for number, entry in enumerate(self._journal.entries):
            paths = {kind: self._path(number, kind) for kind in ("parquet", "mp4")}
            if {kind: _size(path) for kind, path in paths.items()} != entry["bytes"]:
                return number
            try:
                table = pq.read_table(paths["parquet"])
            except (pa.ArrowException, OSError):
                return number
            if not len(table) == part_length(paths["mp4"]) == entry["length"]:
                return number
            self._tables.append(table)
        return len(self._journal.entries)

    def _path(self, number: int, kind: str) -> Path:
        return self._folder / "episodes" / f"{number // _EPISODES_A_FOLDER:03d}" / f"{number:06d}.{kind}"


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


def remove(folder: Path) -> None:
    """Delete the folder of an unfinished dataset, its journal last: what is left of it can never look finished."""
    shutil.rmtree(folder / "episodes", ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
