"""Imports point down, heavy libraries have one home, and the stand-in's parameters have none outside its worlds."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlco.policies.families import CONFIGS, FAMILIES

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


BLIND = ("train", "algos", "rollout", "evals")
"""Folders that serve every family and know none."""
FAMILY = re.compile("|".join([*FAMILIES, "[Oo]pen_?[Vv][Ll][Aa]", r"\bpolicies\.pi\b", r"\bPi[A-Z]"]))


def family_names(source: str) -> Iterator[str]:
    """Yield what a module imports, calls or compares that names a policy family.

    Comments and docstrings are for readers, and the name of a size, which a default may be, is no family's unless
    something is compared with it.
    """
    tree = ast.parse(source)
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    compared = {id(part) for node in ast.walk(tree) if isinstance(node, ast.Compare) for part in ast.walk(node)}
    for node in ast.walk(tree):
        names: list[str] = []
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom():
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            case ast.Name():
                names = [node.id]
            case ast.Attribute():
                names = [node.attr]
            case ast.Constant(value=str(text)) if id(node) not in said and (
                text not in CONFIGS or id(node) in compared
            ):
                names = [text]
        yield from (name for name in names if FAMILY.search(name))


@pytest.mark.parametrize("folder", BLIND)
def test_no_family_is_named_where_all_are_served(folder: str) -> None:
    found = {str(p.relative_to(SOURCES)): [*family_names(p.read_text())] for p in (SOURCES / folder).rglob("*.py")}
    assert found
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "from rlco.policies.pi.policy import Prefix",
        "from rlco.policies.pi import config",
        "from rlco.policies import openvla",
        "import rlco.policies.openvla.config as sizes",
        "if policy.config.family == 'openvla': pass",
        "if config.family in ('pi05', 'pi0'): pass",
        "wide = name.startswith('openvla-')",
        "if name == 'openvla-nano': pass",
        "if name in ('openvla-nano', 'openvla-oft-nano'): pass",
        "isinstance(policy, families.OpenVlaPolicy)",
        "isinstance(policy, PiPolicy)",
    ],
)
def test_a_named_family_is_noticed(line: str) -> None:
    assert [*family_names(line)]


@pytest.mark.parametrize("line", ["# if family == 'openvla'", "'Of OpenVLA.'", "policy: str = 'pi05-nano'", "math.pi"])
def test_what_is_said_to_a_reader_and_a_default_size_name_no_family(line: str) -> None:
    assert not [*family_names(line)]


WALL_CLOCK = re.compile(r"(time\.time(_ns)?|(.*\.)?(date(time)?\.(now|utcnow|today)|st_[mc]time(_ns)?|get[mc]time))$")
"""What reads the wall clock, or what it wrote on files."""


def test_nothing_reads_the_wall_clock_so_that_setting_it_changes_no_run() -> None:
    """Durations come from the monotonic clock; what is newest is told by its number."""
    found = []
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                is_read = node.module in ("time", "datetime")
            else:
                is_read = isinstance(node, ast.Attribute) and WALL_CLOCK.match(ast.unparse(node)) is not None
            if is_read:
                found.append(f"{path.relative_to(SOURCES)}: {ast.unparse(node)}")
    assert found == []
