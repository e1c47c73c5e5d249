"""Write a dataset of somebody else in our form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rlco.core.episode import Episode
from rlco.core.files import write_json
from rlco.core.progress import Reporter, Silent
from rlco.data.canonical import ReadingReport
from rlco.data.reader import Dataset
from rlco.data.reading import Reading
from rlco.data.writer import write_dataset

READING_PATH = "meta/rlco_reading.json"
"""Sidecar of a conversion: how the source was understood, and what became of it. Not part of the format."""


def convert(
    source: Path | str, destination: Path | str, reading: Reading, *, reporter: Reporter | None = None
) -> ReadingReport:
    """Read ``source`` as ``reading`` says and write it to ``destination`` as LeRobot v3.0.

    Everything but the pictures is checked before anything is written; ``destination`` appears complete or not at all,
    and must not exist. ``reporter`` is told of each episode. Raises ``ValueError`` in one line.
    """
    destination = Path(destination)
    _require_free(destination)
    dataset = Dataset.open(source, reading=reading)
    tables, report = dataset.tables, dataset.tables.report
    assert report is not None, "a reading always gives a report"
    if tables.height % 2 or tables.width % 2:
        raise ValueError(
            f"'{source}' has pictures of {tables.height} x {tables.width} pixels; a video needs an even height and "
            "width. Give image_size (--image-size)."
        )
    told = {"source": str(source), "fingerprint": dataset.fingerprint, "reading": reading.to_json()}

    def finish(root: Path) -> None:
        # somebody may have made it meanwhile
        _require_free(destination)
        write_json(root / READING_PATH, told | {"report": report.to_json()})

    write_dataset(
        destination,
        _told(dataset.stream(), reporter or Silent()),
        fps=dataset.fps,
        robot_type=str(tables.info.get("robot_type") or "unknown"),
        sidecar=any(state is not None for state in dataset.initial_states),
        finish=finish,
    )
    return report


def _require_free(destination: Path) -> None:
    if destination.exists():
        raise ValueError(f"'{destination}' exists already: choose a folder that does not.")


def _told(episodes: Iterator[Episode], reporter: Reporter) -> Iterator[Episode]:
    for episode in episodes:
        yield episode
        reporter.advance(note=f"{len(episode)} steps")
