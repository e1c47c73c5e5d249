"""Random damage to any file: the repair is clean, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlco.data.validation.repair import RepairOptions, repair
from rlco.data.validation.validate import examine, validate
from tests.data.breaking import (
    copy,
    good,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return good(tmp_path_factory.mktemp("healthy") / "set")


def refused(folder: Path, new: Path) -> str | None:
    """Repair; return why that was refused, or None if it was not."""
    try:
        repair(examine(folder), new, options=RepairOptions())
    except ValueError as error:
        return str(error)
    return None


def test_every_way_to_break_the_files_leaves_a_repair_that_is_clean_or_refused(source: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    names = [str(p.relative_to(source)) for p in sorted(source.rglob("*")) if p.is_file()]
    outcomes = set()
    for round_, name in enumerate(names * 2):
        folder = copy(source, tmp_path / str(round_))
        data = bytearray((folder / name).read_bytes())
        for position in rng.integers(0, len(data), 1 + len(data) // 200):
            data[position] = rng.integers(0, 256)
        (folder / name).write_bytes(data)
        new = tmp_path / f"{round_}-new"
        refusal = refused(folder, new)
        outcomes.add("repaired" if refusal is None else "refused")
        if refusal is None:
            left = {f.code for f in validate(new).findings if f.severity == "error"}
            assert left <= {"units", "gripper-sign"}, (name, left)
        else:
            assert "\n" not in refusal
            assert not new.exists()
    assert outcomes == {"refused", "repaired"}
