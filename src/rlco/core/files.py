"""Files that are either complete or absent, and stages that know whether they are finished."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOTHING_BYTES = 2**20
"""A disk with less than this left is full, whatever a library says about its failure to write."""


class FullDiskError(OSError):
    """There is no room for a file. Nothing that was complete before is touched."""


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Turn what the disk of ``folder`` being full raises, in whatever library, into ``FullDiskError`` in one line."""
    try:
        yield
    except FullDiskError:
        raise
    except Exception as error:
        free = shutil.disk_usage(folder).free if folder.is_dir() else _NOTHING_BYTES
        if getattr(error, "errno", None) not in _FULL and free >= _NOTHING_BYTES:
            raise
        raise FullDiskError(
            f"The disk of '{folder}' is full, or a quota or limit is reached ({free / 1e6:.0f} MB free). Free some "
            "space there; what was complete before is intact."
        ) from error


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it into place.

    A crash at any moment leaves the old file or the new one, never half of one. Raises ``FullDiskError``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming_full_disk(path.parent):
            write(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401  (any JSON value)
    """Write ``value`` as JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8, atomically."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def replace_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary folder beside ``path``, then rename it into place.

    An existing ``path`` is replaced only once the new one is complete. Raises ``FullDiskError``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (path.with_name(f".{path.name}.{kind}") for kind in ("tmp", "old"))
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    try:
        with naming_full_disk(path.parent):
            temporary.mkdir()
            write(temporary)
            _to_disk(temporary)  # or a power cut could leave the new name with nothing in its files
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _to_disk(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


def require_writable(folder: Path) -> None:
    """Raise ``ValueError`` in one line if files cannot be made in ``folder`` (made if missing)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"Cannot write in '{folder}': {error.strerror}. Choose another output folder.") from error


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process; raise ``ValueError`` in one line while another process holds it.

    The operating system lets go of it when the process ends, however it ends. A new folder in which nothing was written
    is gone afterwards.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".lock"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(
                f"Another process is at work in '{folder}'. Wait for it, or use another folder."
            ) from error
        try:
            yield
        finally:
            if is_new and folder.is_dir() and list(folder.iterdir()) == [lock]:
                shutil.rmtree(folder)


def fingerprint(value: Any) -> str:  # noqa: ANN401  (any JSON value)
    """Return 16 hex digits that name a JSON-serialisable value."""
    text = json.dumps(value, sort_keys=True, allow_nan=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a finished stage, or None."""
    path = folder / MANIFEST
    return json.loads(path.read_text()) if path.exists() else None


def write_manifest(folder: Path, *, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    """Mark ``folder`` finished; the fingerprint of ``inputs`` tells a later run whether it may be reused."""
    write_json(
        folder / MANIFEST, {"fingerprint": fingerprint(inputs), "inputs": dict(inputs), "outputs": dict(outputs)}
    )


def is_finished(folder: Path, *, inputs: Mapping[str, Any]) -> bool:
    """Return whether ``folder`` holds the finished result of exactly ``inputs``.

    Raises ``ValueError`` when it holds the result of other inputs: nothing is overwritten silently.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return False
    if manifest["fingerprint"] != fingerprint(inputs):
        now = json.loads(json.dumps(dict(inputs), default=str))
        then = manifest["inputs"]
        changed = sorted(k for k in now.keys() | then.keys() if now.get(k) != then.get(k))
        raise ValueError(
            f"'{folder}' holds a finished stage of another configuration (differs in: {', '.join(changed)}). "
            "Use another run folder, or delete that one."
        )
    return True
