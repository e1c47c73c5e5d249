"""The command line: exit codes, one-line errors, nothing heavy before it is needed."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlco import cli
from rlco.cli import BAD_USAGE, COMMANDS, FAILED, OK, Entry, main, one_line
from rlco.core.files import FullDiskError
from rlco.policies import checkpoint
from rlco.recipes import demo
from rlco.recipes.config import RunConfig
from rlco.train.compute import usual_device
from tests.train.samples import write_pair


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a command line."""
    code = main(words)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == OK
    assert all(f"  {name} " in out for name in COMMANDS)


def test_no_command_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys)[0] == BAD_USAGE


@pytest.mark.parametrize("name", [*COMMANDS, "data info"])
def test_every_command_has_help_with_defaults(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, err = run(capsys, *name.split(), "--help")
    assert code == OK
    assert f"usage: rlco {name}" in out
    assert err == ""


def test_help_loads_nothing_heavy() -> None:
    check = (
        "import sys; from rlco.cli import main; main(['--help']);"
        "heavy = {'torch', 'mujoco', 'matplotlib', 'transformers', 'pyarrow', 'tyro'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        ("evl", BAD_USAGE, ["No command named 'evl'", "Did you mean 'eval'"]),
        ("sft OUT --lrr 1", BAD_USAGE, ["sft", "--lrr", "--lr"]),
        ("sft OUT --lr -1", BAD_USAGE, ["SFTConfig.lr must be above 0, got -1.0"]),
        ("sft OUT --steps many", BAD_USAGE, ["--steps", "many"]),
        ("sft", BAD_USAGE, ["Missing", "FOLDER"]),
        ("sft OUT", FAILED, ["needs demonstrations"]),
        ("sft OUT --real A --sim B", FAILED, ["alpha"]),
        ("sft OUT --real A --sim B --alpha 1.5", FAILED, ["alpha must be in [0, 1], got 1.5"]),
        ("sft OUT --real A", FAILED, ["No dataset at 'A'"]),
        ("rl OUT --start base --beta -1", BAD_USAGE, ["beta must be 0 or more, got -1.0"]),
        ("rl OUT --start base", FAILED, ["beta is 1, but real demonstrations were not given"]),
        ("rl OUT --start bass --beta 0", FAILED, ["No pretrained base named 'bass'"]),
        (
            "rl OUT --start untrained:openvla-tiny --beta 0 --temperature nan",
            BAD_USAGE,
            ["rl: TokenExploration.temperature must be above 0 and finite, got nan"],
        ),
        (
            "rl OUT --start openvla-tiny --beta 0",
            FAILED,
            ["'openvla-tiny' has no weights here", "'untrained:openvla-tiny'", "rlco policies convert"],
        ),
        ("rl OUT --start openvla-7b --beta 0", FAILED, ["'openvla-7b' has no weights here"]),
        (
            "eval untrained:pi05-tiny --folder OUT --temperature 0.5",
            FAILED,
            ["family pi05 draws at no temperature, got 0.5"],
        ),
        (
            "eval untrained:openvla-tiny --folder OUT --temperature -1",
            FAILED,
            ["temperature must be 0 or more, finite, got -1"],
        ),
        ("eval untrained:pi05-tiny --folder OUT --image-size 0", FAILED, ["image_size must be 1 or more, got 0"]),
        (
            "pretrain OUT --policy openvla-nano --also openvla-nano",
            BAD_USAGE,
            ["must not repeat", "openvla-nano twice"],
        ),
        ("rl OUT --start untrained:pi05-tin --beta 0", FAILED, ["No policy named 'pi05-tin'", "pi05-tiny"]),
        ("eval untrained:pi05-tiny --folder OUT --task push-cub", FAILED, ["No task", "push-cube"]),
        ("eval untrained:pi05-tiny --folder OUT --domain twn", FAILED, ["No domain", "twin"]),
        ("eval untrained:pi05-tiny --folder OUT --repeats 0", FAILED, ["repeats must be 1 or more"]),
        ("run push-cube-dmo", FAILED, ["No recipe named 'push-cube-dmo'", "Did you mean 'push-cube-demo'"]),
        (
            "demo --policy openvla-nan",
            FAILED,
            ["No pretrained base named 'openvla-nan'", "Did you mean 'openvla-nano'"],
        ),
        ("demo --policy openvla-nano --task push-cub", FAILED, ["No task", "push-cube"]),
        ("rl OUT --start untrained:openvla-tin --beta 0", FAILED, ["No policy named 'openvla-tin'", "openvla-tiny"]),
        ("sft OUT --real A --keep 0", FAILED, ["keep must be 1 or more, got 0"]),
        ("rl OUT --start base --beta 0 --keep 0", FAILED, ["keep must be 1 or more, got 0"]),
        ("replay OUT", FAILED, ["'OUT' is not the dump of a training stage"]),
        ("report OUT", FAILED, ["holds no evaluations"]),
        ("data info OUT", FAILED, ["No dataset at 'OUT'"]),
        ("data inf OUT", BAD_USAGE, ["info"]),
        ("record OUT --style exactly", FAILED, ["No operator style", "exact"]),
        ("record OUT --objects red green pink", FAILED, ["No cube colour named 'red'"]),
        ("record /proc/out", FAILED, ["/proc"]),
    ],
)
def test_a_mistake_is_one_line_that_says_the_way_out(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: str,
    code: int,
    parts: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = run(capsys, *words.split())
    assert found == code
    assert out == ""
    assert err.startswith("rlco: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    assert not (tmp_path / "OUT").exists(), "something was written before the mistake was noticed"


@dataclass
class Broken:
    """A command that ends as it is told."""

    kind: str

    def run(self) -> int:
        if self.kind in signal.Signals.__members__:
            signal.raise_signal(signal.Signals[self.kind])
        full = FullDiskError("The disk is full.")
        raise {"user": ValueError("two\nlines"), "ours": KeyError("x"), "full  disk": full}[self.kind]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "broken", Entry("broken", "Broken", "Breaks."))
    monkeypatch.setattr(cli.Entry, "load", lambda _: Broken)


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    ("kind", "code", "why"),
    [("SIGTERM", OK, "Stopped."), ("SIGINT", FAILED, "Stopped."), ("full  disk", FAILED, "full.")],
)
def test_what_ends_a_run_early_says_the_command_that_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str, code: int, why: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["venv/bin/rlco"])
    found, out, err = run(capsys, "broken", "--kind", kind)
    assert (found, out) == (code, "")
    first, second = err.splitlines()
    assert f"{why} The same command again goes on from what is on disk:" in first
    assert shlex.split(second) == ["venv/bin/rlco", "broken", "--kind", kind]


@pytest.mark.usefixtures("broken")
def test_the_command_that_goes_on_runs_however_this_one_was_started(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["somewhere/__main__.py"])
    run(capsys, "broken", "--kind", "SIGTERM")
    _, _, err = run(capsys, "broken", "--kind", "SIGTERM")
    program = shlex.split(err.splitlines()[1])[:3]
    done = subprocess.run([*program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("rlco ")


@pytest.mark.usefixtures("broken")
def test_debug_shows_the_traceback_and_a_plain_run_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "broken", "--kind", "user") == (FAILED, "", "rlco: two lines\n")
    with pytest.raises(ValueError, match="two"):
        main(["broken", "--kind", "user", "--debug"])


@pytest.mark.usefixtures("broken")
def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        main(["broken", "--kind", "ours"])


def test_a_box_of_text_becomes_one_line() -> None:
    box = (
        "╭─ Value error ────────╮\n│ Error parsing config: lr │\n│ is wrong.            │\n"
        "│ ──────────────────── │\n│ For full helptext, x │\n╰──────────────────────╯\n"
    )
    assert one_line(box) == "lr is wrong."
    inner = "- Value error -\n Error parsing config.exploration.tokens: lr is wrong.\n For full helptext"
    assert one_line(inner) == "lr is wrong."
    # where the encoding has no box-drawing characters
    assert (
        one_line(" Value error\n -----------\n  lr is     \n  wrong.    \n  --------- \n  For full helptext")
        == "lr is wrong."
    )


def test_tasks_are_listed_for_people_and_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert "push-cube" in run(capsys, "tasks")[1]
    known = json.loads(run(capsys, "tasks", "--json")[1])
    assert "push-cube" in known["tasks"]
    assert "push-cube-demo" in known["recipes"]


def test_policies_and_bases_of_every_family_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "openvla-nano").mkdir()
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path)
    known = json.loads(run(capsys, "tasks", "--json")[1])
    # two ways of answering, one folder of weights
    assert known["pretrained bases"] == ["openvla-nano", "openvla-oft-nano"]
    assert {"pi05-nano", "pi0-base", "openvla-nano", "openvla-oft-nano", "openvla-7b"} <= set(known["policies"])
    assert {"pick-place-openvla-nano", "pick-place-openvla-oft-nano-debug"} <= set(known["recipes"])


@pytest.mark.parametrize(
    ("words", "folder", "task", "policy"),
    [
        ("", "demo", "push-cube", "pi05-nano"),
        ("--task pick-place", "demo-pick-place", "pick-place", "pi05-nano"),
        ("--policy openvla-nano", "demo-openvla-nano", "push-cube", "openvla-nano"),
        (
            "--policy openvla-oft-nano --task pick-place",
            "demo-pick-place-openvla-oft-nano",
            "pick-place",
            "openvla-oft-nano",
        ),
    ],
)
def test_a_demo_is_of_a_task_and_a_policy_in_a_folder_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: str, folder: str, task: str, policy: str
) -> None:
    def remember(config: RunConfig, folder: Path, *, device: str) -> str:
        asked.append((config, folder))
        assert device == usual_device()
        return "done"

    asked: list[tuple[RunConfig, Path]] = []
    monkeypatch.setattr("rlco.recipes.run.run_recipe", remember)
    assert run(capsys, "demo", *words.split()) == (OK, "Report: done\n", "")
    assert run(capsys, "demo", *words.split(), "--folder", "there")[0] == OK
    assert asked == [(demo(task, policy), Path("runs") / folder), (demo(task, policy), Path("there"))]


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.parametrize("name", ["openvla-tiny", "openvla-oft-tiny"])
def test_supervised_training_stage_two_and_evaluation_take_token_policies(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    _, real = write_pair(tmp_path)
    first, second, seen = (str(tmp_path / stage) for stage in ("sft", "rl", "eval"))
    few = "--num-envs 2 --decisions 2 --iterations 2 --minibatch 4 --sft-batch-size 4"
    for words in (
        f"sft {first} --start untrained:{name} --real {real.folder} --steps 2 --batch-size 4",
        f"rl {second} --start {first} --real {real.folder} {few}",
        f"eval {second} --folder {seen} --image-size 32 --num-states 1 --repeats 1 --num-envs 1 --json",
    ):
        code, out, err = run(capsys, *words.split())
        assert code == OK, err
        assert isinstance(json.loads(out), dict)


@pytest.mark.sim
def test_the_doctor_answers_for_people_and_machines(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--json")
    found = {check["name"]: check["is_ok"] for check in json.loads(out)}
    assert {"python", "packages", "rendering", "memory", "disk", "cores"} == found.keys()
    assert found["python"]
    assert found["packages"]
    assert found["rendering"]
    assert code == (OK if all(found.values()) else FAILED)


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    from rlco import __version__

    assert run(capsys, "--version") == (OK, f"rlco {__version__}\n", "")


def test_a_help_text_that_nobody_reads_to_its_end_is_no_fault() -> None:
    first_line = subprocess.run(
        f"{sys.executable} -c 'from rlco.cli import main; raise SystemExit(main())' tasks --help | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert first_line.stdout.startswith("usage: rlco tasks")
    assert first_line.stderr == ""
