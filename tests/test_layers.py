"""Imports point down, heavy libraries have one home, and the stand-in's parameters have none outside its worlds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src" / "rlco"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of ``pyproject.toml`` over the sources in ``folder``."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the sources in which imports may be broken."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(SOURCES, tmp_path / "src" / "rlco", ignore=shutil.ignore_patterns("__pycache__", "weights"))
    return tmp_path


def test_the_contracts_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("data/broken.py", "import rlco.train.sft", "imports point down"),
        ("worlds/broken.py", "import rlco.policies", "imports point down"),
        ("tasks/broken.py", "import mujoco", "mujoco has one home"),
        ("train/broken.py", "import pyarrow", "pyarrow and av have one home"),
        ("train/broken.py", "import matplotlib", "matplotlib has one home"),
        ("train/broken.py", "import tyro", "tyro has two homes"),
        ("train/broken.py", "import rlco.worlds.standin", "hidden parameters"),
        ("worlds/world_broken.py", "from rlco.worlds import standin", "hidden parameters"),
        ("misc/__init__.py", "", "imports point down"),
    ],
)
def test_a_broken_contract_is_noticed(copy: Path, file: str, line: str, contract: str) -> None:
    path = copy / "src" / "rlco" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(line + "\n")
    done = lint(copy)
    assert done.returncode != 0
    broken = re.findall(r"^(.*) BROKEN", done.stdout, flags=re.MULTILINE)
    assert any(contract in name for name in broken) or "misc" in done.stdout + done.stderr


def test_only_the_worker_names_the_stand_in_module() -> None:
    # also as a string: importlib would pass the contract
    mention = re.compile(r"worlds(\.|\s+import\s+)standin")
    found = {str(p.relative_to(SOURCES)) for p in SOURCES.rglob("*.py") if mention.search(p.read_text())}
    assert found == {"worlds/worker.py"}


def test_dynamic_imports_are_those_of_the_command_line_alone() -> None:
    dynamic = re.compile(r"import_module|__import__|spec_from_file|\bexec\(")
    found = {str(p.relative_to(SOURCES)) for p in SOURCES.rglob("*.py") if dynamic.search(p.read_text())}
    assert found <= {"cli/__init__.py"}


def test_training_code_never_loads_the_hidden_parameters() -> None:
    # the recipes import training, policies, demonstrations and worlds
    check = "import rlco.recipes.run, sys; sys.exit('rlco.worlds.standin' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
