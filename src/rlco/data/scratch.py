"""A folder for half-finished files: of one process at a time, empty at first, gone at the end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlco.core.files import exclusive

_LOCK = ".lock"


@contextmanager
def scratch_folder(folder: Path) -> Iterator[None]:
    """Hold ``folder``, empty, and remove it with all that is in it on leaving.

    Raises ``ValueError`` in one line while another process holds it, whose files are left alone.
    """
    with exclusive(folder):
        try:
            for path in folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != _LOCK:
                    path.unlink()
            yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)
