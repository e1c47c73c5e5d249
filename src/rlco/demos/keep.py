"""What is already there: a dataset that an earlier run of the same inputs has finished."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlco.core.files import is_finished, read_manifest, require_writable


def finished_report(folder: Path, *, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the report of a finished dataset of exactly these inputs, or None if it is still to be made.

    Raises ``ValueError`` if ``folder`` holds anything else, or cannot be written.
    """
    if is_finished(folder, inputs=inputs):
        manifest = read_manifest(folder)
        assert manifest is not None
        return manifest["outputs"]
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"'{folder}' is not empty and was not made here: choose another folder, or delete that one.")
    require_writable(folder.parent)
    return None
