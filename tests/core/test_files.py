"""Files: complete or absent, and one process a folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlco.core.files import FullDiskError, exclusive, replace_folder, write_atomic
from tests.disk import LIMIT, small_disk

__all__ = ["small_disk"]

HOLD = """
import sys
from collections.abc import Callable
from pathlib import Path
from rlco.core.files import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match="Another process is at work"), exclusive(tmp_path):
        pass
    first.kill()  # no clean-up of its own: the system lets go
    first.communicate()
    with exclusive(tmp_path):
        pass


def test_a_new_folder_in_which_nothing_was_written_is_gone(tmp_path: Path) -> None:
    with pytest.raises(LookupError), exclusive(tmp_path / "new"):
        raise LookupError
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with exclusive(tmp_path / "old"):
        pass
    assert (tmp_path / "old").exists()
    with exclusive(tmp_path / "used"):
        (tmp_path / "used" / "a.txt").write_text("kept")
    assert (tmp_path / "used" / "a.txt").read_text() == "kept"


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "data"
    replace_folder(target, lambda new: (new / "one").write_text("1"))
    replace_folder(target, lambda new: (new / "two").write_text("2"))
    assert [p.name for p in target.iterdir()] == ["two"]


def fill(temporary: Path) -> None:
    """Write more than a file may have in ``small_disk``."""
    target = temporary / "big" if temporary.is_dir() else temporary
    target.write_bytes(bytes(2 * LIMIT))


@pytest.mark.parametrize("write", [write_atomic, replace_folder])
@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_named_and_leaves_what_was_there_and_nothing_else(write: Callable, tmp_path: Path) -> None:
    target = tmp_path / "kept"
    write(target, lambda new: (new / "one" if new.is_dir() else new).write_text("1"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FullDiskError, match=r"The disk of '.*' is full, .* Free some space there"):
        write(target, fill)
    assert sorted(tmp_path.rglob("*")) == before


def test_another_failure_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    def fail(_: Path) -> None:
        raise PermissionError(1, "no")

    with pytest.raises(PermissionError):
        write_atomic(tmp_path / "a", fail)
