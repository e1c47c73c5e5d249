"""Write episodes as a LeRobot v3.0 dataset, with pyarrow and PyAV only. The folder appears complete or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rlco.core.episode import Episode
from rlco.core.files import exclusive, replace_folder, require_writable, write_json
from rlco.core.scene import InitialState
from rlco.data import layout
from rlco.data.assemble import Description, assemble, write_dataset_json
from rlco.data.scratch import scratch_folder
from rlco.data.store import EpisodeStore, remove

Finish = Callable[[Path], object]
"""Called with the folder when all is written, before it appears: it may add files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedEpisode:
    """An episode of an interrupted write that is on disk, complete."""

    number: int
    length: int
    """Frames."""
    task: str
    initial_state: InitialState | None
    provenance: Mapping[str, Any] | None
    extra: Mapping[str, Any] | None
    """What the writer's caller noted to go on from here."""


def partial_folder(folder: Path) -> Path:
    """Return where the finished episodes of the unfinished dataset ``folder`` are kept."""
    return folder.with_name(f"{folder.name}.partial")


class DatasetWriter:
    """A context in which a dataset is written that survives the end of the process at any moment.

    Every episode is on disk, complete, as soon as it is encoded; the same call after a crash finds it in ``finished``.
    Leaving the context before ``finish`` keeps what there is. One process at a time.
    """

    def __init__(
        self, folder: Path, *, fps: int, robot_type: str, inputs: Mapping[str, Any], sidecar: bool = False
    ) -> None:
        """Begin ``folder``, or go on with it.

        ``inputs``: JSON values that the result depends on. ``sidecar`` adds the initial states (recorder's knowledge).
        Raises ``ValueError`` in one line if an interrupted write there had other inputs or another process is writing.
        """
        self._folder, self._fps, self._robot_type, self._sidecar = folder, fps, robot_type, sidecar
        self.partial = partial_folder(folder)
        require_writable(folder.parent)
        self._stack = ExitStack()
        try:
            self._stack.enter_context(exclusive(self.partial))
            header = {"inputs": dict(inputs), "fps": fps, "robot_type": robot_type, "sidecar": sidecar, "journal": 1}
            self._store = EpisodeStore(self.partial, fps=fps, header=header)
            self._stack.callback(self._store.close)
        except BaseException:
            self._stack.close()
            raise
        self.finished: tuple[FinishedEpisode, ...] = tuple(_finished(entry) for entry in self._store.entries)
        """Episodes of an earlier, interrupted write."""

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def count(self) -> int:
        """Episodes so far, finished ones included."""
        return self._store.count

    def add(
        self,
        episode: Episode,
        *,
        provenance: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> int:
        """Append an episode; return its number. Returns before it is encoded, unless many are waiting.

        ``provenance`` (JSON) goes into a sidecar of the dataset; ``extra`` (JSON) comes back in ``finished`` alone.
        Raises ``ValueError`` if the episode does not fit, and the error of an earlier one that could not be written.
        """
        return self._store.add(episode, remarks={"provenance": provenance, "extra": extra})

    def flush(self) -> None:
        """Return once every episode added is on disk; raise the first failure."""
        self._store.flush()

    def finish(self, finish: Finish | None = None) -> None:
        """Let the complete dataset appear, in place of one that is there, and remove the partial folder.

        Raises ``ValueError`` if there are no episodes.
        """
        self._store.flush()
        description = _description(self._store, fps=self._fps, robot_type=self._robot_type)
        _publish(self._folder, self._store, description, sidecar=self._sidecar, finish=finish)
        remove(self.partial)


def write_dataset(
    folder: Path,
    episodes: Iterable[Episode],
    *,
    fps: int,
    robot_type: str,
    sidecar: bool = False,
    finish: Finish | None = None,
) -> None:
    """Write ``episodes`` to ``folder``, replacing a dataset that is there once the new one is complete.

    The dataset itself holds images, state, action and task only. ``sidecar`` adds the initial states (a recorder's
    knowledge). ``finish`` is called with the folder when all is written, before it appears: it may add files.
    Raises ``ValueError`` on an episode that does not fit, before ``folder`` is touched, and while another process
    writes ``folder``. Nothing is left of a write that
    is interrupted: ``DatasetWriter`` is the one that goes on.
    """
    require_writable(folder.parent)
    scratch = folder.with_name(f".{folder.name}.parts")
    with scratch_folder(scratch), closing(EpisodeStore(scratch, fps=fps, header={"fps": fps})) as store:
        for episode in episodes:
            store.add(episode, remarks={})
        store.flush()
        description = _description(store, fps=fps, robot_type=robot_type)
        try:
            _publish(folder, store, description, sidecar=sidecar, finish=finish)
        finally:
            shutil.rmtree(folder.with_name(f".{folder.name}.tmp"), ignore_errors=True)


def _description(store: EpisodeStore, *, fps: int, robot_type: str) -> Description:
    height, width = store.size
    features = layout.features(height=height, width=width, fps=fps)
    return Description(features=features, fps=fps, robot_type=robot_type)


def _publish(
    folder: Path, store: EpisodeStore, description: Description, *, sidecar: bool, finish: Finish | None
) -> None:
    def write(root: Path) -> None:
        assemble(root, store.episodes(), description)
        if sidecar:
            states = [entry["initial_state"] for entry in store.entries]
            write_dataset_json(root / layout.INITIAL_STATES_PATH, {"episodes": states})
        provenance = [entry.get("provenance") for entry in store.entries]
        if any(value is not None for value in provenance):
            write_json(root / layout.PROVENANCE_PATH, {"episodes": provenance})
        if finish is not None:
            finish(root)

    replace_folder(folder, write)


def _finished(entry: Mapping[str, Any]) -> FinishedEpisode:
    initial = entry["initial_state"]
    return FinishedEpisode(
        number=entry["episode"],
        length=entry["length"],
        task=entry["task"],
        initial_state=None if initial is None else InitialState.from_json(initial),
        provenance=entry["provenance"],
        extra=entry["extra"],
    )
