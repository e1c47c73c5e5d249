"""Training state on disk: complete or absent, checked when it is read, the newest found again by itself."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from rlco.core.files import fingerprint, replace_folder, write_json

CHECKPOINTS = "checkpoints"
STATE, RECORD = "state.pt", "checkpoint.json"
KEEP = 2
"""Newest states that stay on disk."""
_ASIDE = ".damaged"


def save_training_state(
    folder: Path, step: int, state: Mapping[str, Any], *, keep: int = KEEP, score: float | None = None
) -> None:
    """Write ``folder/checkpoints/<step>`` with its checksum and point ``last`` at it.

    The newest ``keep`` stay, and the one with the highest ``score``, at which ``best`` points. Raises ``FullDiskError``
    before anything that is there changes.
    """
    root = folder / CHECKPOINTS

    def write(temporary: Path) -> None:
        with (temporary / STATE).open("wb") as file:
            digest = _save({"step": step, **state}, file)
        write_json(temporary / RECORD, {"step": step, "sha256": digest, "score": score})

    replace_folder(root / f"{step:06d}", write)
    _point(root / "last", step)
    kept = _complete(root)
    scores = {path: found for path in kept if (found := _record(path).get("score")) is not None}
    best = max(scores, key=lambda path: (scores[path], int(path.name))) if scores else None
    if best is not None:
        _point(root / "best", int(best.name))
    for old in kept[:-keep]:
        if old != best:
            shutil.rmtree(old)


def require_keep(keep: int) -> None:
    """Raise ``ValueError`` unless at least the newest state stays."""
    if keep < 1:
        raise ValueError(f"keep must be 1 or more, got {keep}.")


def load_training_state(folder: Path) -> dict[str, Any] | None:
    """Return the newest state that is whole, or None where none was saved.

    One that is damaged is named on stderr and set aside under another name. Raises ``OSError``, and leaves everything
    as it is, if none is whole.
    """
    damaged: dict[Path, str] = {}
    for path in reversed(_complete(folder / CHECKPOINTS)):
        try:
            state = _load(path)
        except DamagedError as error:
            damaged[path] = str(error)
            continue
        for other, why in damaged.items():
            aside = other.with_name(other.name + _ASIDE)
            shutil.rmtree(aside, ignore_errors=True)  # of the same step, from an earlier time
            os.replace(other, aside)
            print(f"rlco: '{other}' {why}: set aside as '{aside.name}'. Step {path.name} is used.", file=sys.stderr)
        return state
    if damaged:
        found = "; ".join(f"'{path}' {why}" for path, why in damaged.items())
        raise OSError(f"No checkpoint is whole: {found}. Put one back, or delete '{folder}' to begin again.")
    return None


def newest(folder: Path) -> Path | None:
    """Return the folder of the newest state, or None where none was saved."""
    found = _complete(folder / CHECKPOINTS)
    return found[-1] if found else None


class DamagedError(Exception):
    """A checkpoint is not what was written."""


@runtime_checkable
class Resumable(Protocol):
    """Something that goes on from a saved state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from it."""
        ...


def resume(stage: Resumable, folder: Path) -> None:
    """Go on from the newest whole state in ``folder``, if there is one; the copy that was read is not kept."""
    state = load_training_state(folder)
    if state is not None:
        stage.load_state_dict(state)


def claim_folder(folder: Path, config: Mapping[str, Any]) -> None:
    """Write ``folder/config.json`` once. Raises ``ValueError`` if the folder belongs to another configuration."""
    path = folder / "config.json"
    if path.exists():
        then = json.loads(path.read_text())
        now = json.loads(json.dumps(dict(config), default=str))
        if fingerprint(then) != fingerprint(now):
            changed = sorted(k for k in then.keys() | now.keys() if then.get(k) != now.get(k))
            raise ValueError(
                f"'{folder}' holds a run of another configuration (differs in: {', '.join(changed)}). "
                "Use another folder, or delete that one."
            )
        return
    write_json(path, dict(config))


class _Digesting:
    """Writes a file and remembers what was written, or why it could not be."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write all of ``data``."""
        self.digest.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise

    def flush(self) -> None:
        """Let the file have what was written."""
        self.file.flush()


def _save(state: Mapping[str, Any], file: io.BufferedWriter) -> str:
    """Return the SHA-256 of what is written."""
    out = _Digesting(file)
    try:
        torch.save(dict(state), out)  # pyright: ignore[reportArgumentType]  (it needs these two methods only)
    except RuntimeError:
        if out.failure is not None:  # torch tells of its own surprise, not of the disk
            raise out.failure from None
        raise
    return out.digest.hexdigest()


def _load(path: Path) -> dict[str, Any]:
    if not (path / STATE).is_file():
        raise DamagedError(f"has no {STATE}")
    wanted = _record(path).get("sha256")  # states of earlier versions have none
    if wanted is not None:
        with (path / STATE).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
                raise DamagedError("is damaged (its checksum is another)")
    try:
        # our own file, which also holds plain Python state (generators, the world): not only tensors
        return torch.load(path / STATE, weights_only=False, map_location="cpu")
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise DamagedError("is damaged (it cannot be read)") from error


def _record(path: Path) -> dict[str, Any]:
    """Return what was written beside a state; nothing in a folder of earlier versions. Half of it is no record."""
    try:
        return json.loads((path / RECORD).read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        return {"sha256": "unreadable"}


def _complete(root: Path) -> list[Path]:
    """Return the states, oldest first; what a killed process had half written has another name."""
    return sorted((p for p in root.iterdir() if p.name.isdigit()), key=lambda p: int(p.name)) if root.is_dir() else []


def _point(link: Path, step: int) -> None:
    temporary = link.with_name(f"{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(f"{step:06d}")
    os.replace(temporary, link)
