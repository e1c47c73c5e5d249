"""The list of what an unfinished dataset holds: one line of JSON per finished episode, readable after any crash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from rlco.core.files import fingerprint, write_text

JOURNAL = "journal.jsonl"


class Journal:
    """An append-only file: a header that names the inputs, then one entry per episode in their order."""

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        """Open the journal in ``folder``, or begin one.

        One that lists no episode yet begins anew: nothing is lost. Raises ``ValueError`` in one line if its episodes
        were written with another ``header``, or ``folder`` holds something else.
        """
        self._path = folder / JOURNAL
        now = json.loads(json.dumps(dict(header), default=str))
        lines = _complete_lines(self._path)
        if not lines:
            _require_unused(folder)
        if len(lines) < 2:
            write_text(self._path, json.dumps(now) + "\n")
            lines = [now]
        _require_same(folder, now=now, then=lines[0])
        self.entries: list[dict[str, Any]] = lines[1:]
        """Of the episodes that are finished."""
        self._file: TextIO | None = None

    def keep(self, count: int) -> None:
        """Forget all but the first ``count`` entries, and what a crash left of an unfinished line."""
        with self._path.open("rb") as file:
            size = sum(len(file.readline()) for _ in range(1 + count))
        with self._path.open("r+b") as file:
            file.truncate(size)
        del self.entries[count:]

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry; once this returns, the end of this process cannot lose it."""
        if self._file is None:
            self._file = self._path.open("a")
        text = json.dumps(dict(entry), allow_nan=False)
        self._file.write(text + "\n")
        self._file.flush()
        self.entries.append(json.loads(text))

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _complete_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines up to the first that a crash cut short."""
    lines: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        try:
            value = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            value = None
        if not isinstance(value, dict):
            break
        lines.append(value)
    return lines


def _require_unused(folder: Path) -> None:
    foreign = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".") and p.name != JOURNAL)
    if foreign:
        raise ValueError(f"'{folder}' holds '{foreign[0]}' and was not made here: rename it, or use another folder.")


def _require_same(folder: Path, *, now: dict[str, Any], then: dict[str, Any]) -> None:
    if fingerprint(now) == fingerprint(then):
        return
    flat_now, flat_then = ({**h.get("inputs", {}), **h} for h in (now, then))
    keys = (flat_now.keys() | flat_then.keys()) - {"inputs"}
    changed = sorted(k for k in keys if flat_now.get(k) != flat_then.get(k))
    raise ValueError(
        f"'{folder}' holds an interrupted write of other inputs (differs in: {', '.join(changed)}). "
        "Repeat that command to finish it, delete the folder, or use another one."
    )
