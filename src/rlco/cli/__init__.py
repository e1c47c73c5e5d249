"""The command line. The only place that parses arguments; a command's own module is loaded when it is asked for.

Exit codes: 0 ok, 1 failed, 2 bad usage.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, runtime_checkable

from rlco.core.errors import unknown_name
from rlco.core.files import FullDiskError
from rlco.core.stopping import StoppedError, heeding_signals

OK, FAILED, BAD_USAGE = 0, 1, 2
DEBUG = "--debug"


@runtime_checkable
class Command(Protocol):
    """A dataclass whose fields are the command's arguments."""

    def run(self) -> int | None:
        """Do it; return the exit code, None meaning 0."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command is, and what it does in one line."""

    module: str
    type_name: str
    summary: str

    def load(self) -> type[Command]:
        """Return the command's dataclass."""
        return getattr(import_module(f"rlco.cli.{self.module}"), self.type_name)


COMMANDS = {
    "demo": Entry("runs", "Demo", "The main job, start to report; finished stages are kept."),
    "run": Entry("runs", "Run", "A recipe, start to report; finished stages are kept."),
    "study": Entry("studies", "Study", "A study of the paper: its jobs, and a page of their results."),
    "replay": Entry("runs", "Replay", "Take the steps to a figure that was not finite again; name the layer."),
    "report": Entry("runs", "Report", "Write report.html and results.json of a run folder again."),
    "record": Entry("demonstrations", "Record", "Record demonstrations of the scripted operator in the stand-in."),
    "teleop": Entry("teleop", "Teleop", "Record demonstrations of a person: keyboard or SpaceMouse."),
    "recover": Entry("recovery", "Recover", "Find the object poses of real demonstrations by replay in the twin."),
    "generate": Entry("demonstrations", "Generate", "Generate demonstrations in the twin from real ones."),
    "data": Entry("datasets", "Data", "Look into, convert or check a dataset: data info | convert | validate."),
    "pretrain": Entry("training", "Pretrain", "Make the pretrained base that every method starts from."),
    "sft": Entry("training", "Sft", "Supervised fine-tuning: real-only, or Stage I with --sim and --alpha."),
    "rl": Entry("training", "Rl", "Stage II: RL in the twin plus beta times the real term."),
    "eval": Entry("training", "Eval", "Evaluate a policy on the fixed list of initial states."),
    "policies": Entry("policies", "Policies", "List the policies, or convert weights: policies convert."),
    "tasks": Entry("system", "Tasks", "List the tasks, policies, bases and recipes."),
    "doctor": Entry("system", "Doctor", "Check that this machine is fit to run."),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code."""
    # Threads that wait for work must not spin: the worlds' processes need the core. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if sys.platform == "linux":
        # No screen is needed. Read when mujoco is loaded, here and in the processes that draw for pretraining.
        os.environ.setdefault("MUJOCO_GL", "egl")
    words = list(sys.argv[1:] if arguments is None else arguments)
    is_debug = DEBUG in words
    words = [word for word in words if word != DEBUG]
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return OK if words else BAD_USAGE
    if words[0] == "--version":
        from rlco import __version__

        print(f"rlco {__version__}")
        return OK
    if words[0] not in COMMANDS:
        return complain(unknown_name("command", words[0], COMMANDS), code=BAD_USAGE)
    return run_command(words[0], words[1:], is_debug=is_debug)


def run_command(name: str, words: Sequence[str], *, is_debug: bool) -> int:
    """Parse and run one command; return the exit code."""
    try:
        command = parse(name, words)
    except SystemExit as exit_:
        return OK if exit_.code in (0, None) else complain(f"{name}: {exit_.code}", code=BAD_USAGE)
    except BrokenPipeError:
        return hang_up()
    return execute(command, [name, *words], is_debug=is_debug)


def execute(command: Command, words: Sequence[str], *, is_debug: bool) -> int:
    """Run a command. An error for the user becomes one line; a fault of ours keeps its traceback."""
    try:
        with heeding_signals():
            return command.run() or OK
    except BrokenPipeError:
        return hang_up()
    except KeyboardInterrupt as stopped:
        say_how_to_go_on("Stopped.", words)
        is_done = isinstance(stopped, StoppedError) and stopped.number == signal.SIGTERM
        return OK if is_done else FAILED  # a scheduler that ends a job in time is told that nothing is lost
    except FullDiskError as error:
        if is_debug:
            raise
        say_how_to_go_on(str(error), words)
        return FAILED
    except Exception as error:
        if is_debug or not is_for_user(error):
            raise
        return complain(error, code=FAILED)


def say_how_to_go_on(why: str, words: Sequence[str]) -> None:
    """Print why it ended, and on a line of its own the command that goes on, on stderr."""
    complain(f"{why} The same command again goes on from what is on disk:", code=FAILED)
    called = Path(sys.argv[0])
    program = [str(called)] if called.name == "rlco" else [sys.executable, "-m", "rlco.cli"]
    print(shlex.join([*program, *words]), file=sys.stderr)


def hang_up() -> int:
    """Write to nobody: the reader of a pipe, such as head, has seen enough. Return the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


def parse(name: str, words: Sequence[str]) -> Command:
    """Return the command with its arguments; bad usage raises ``SystemExit`` with one line."""
    import tyro

    markers = (
        tyro.conf.PositionalMetavarFromFieldName,
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.HelptextFromCommentsOff,
    )
    box, entry = io.StringIO(), COMMANDS[name]
    try:
        with redirect_stderr(box):
            return tyro.cli(entry.load(), prog=f"rlco {name}", description=entry.summary, args=words, config=markers)
    except SystemExit as exit_:
        raise SystemExit(one_line(box.getvalue()) if exit_.code else 0) from None
    except (ValueError, LookupError) as error:
        # a config that refuses its values: the parser catches those of some places only
        raise SystemExit(str(error)) from error


def one_line(box: str) -> str:
    """Return what a box of text says: without its title, its frame and its reference to the help.

    The frame is drawn with lines, or with spaces and dashes where the encoding has no lines.
    """
    inside = [line.strip("│╭╮╰╯ ") for line in box.strip().splitlines()[1:]]
    text = " ".join(line for line in inside if line.strip("─-"))
    return re.sub(r"^Error parsing [\w.-]+: ", "", text.split("For full helptext")[0]).strip()


def is_for_user(error: Exception) -> bool:
    """Return whether the message alone says what to do; a KeyError or IndexError is a fault of ours."""
    from rlco.train.nan_guard import NonFiniteLossError

    kinds = (ValueError, LookupError, OSError, NonFiniteLossError)
    return isinstance(error, kinds) and not isinstance(error, KeyError | IndexError)


def complain(message: object, *, code: int) -> int:
    """Print one line on stderr; return ``code``."""
    print(f"rlco: {' '.join(str(message).split())}", file=sys.stderr)
    return code


def overview() -> str:
    """Return the list of commands."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {entry.summary}" for name, entry in COMMANDS.items())
    return (
        "usage: rlco COMMAND [arguments]\n\n"
        "RL-based sim-real co-training of vision-language-action policies.\n\n"
        f"{lines}\n\n"
        "rlco COMMAND --help tells a command's arguments, defaults and units; --debug shows the traceback of an error."
    )
