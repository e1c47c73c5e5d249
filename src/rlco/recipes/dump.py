"""What replays a training stage that ended at a figure that is not finite."""

from __future__ import annotations

import pickle
import shutil
import tempfile
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from rlco.core.files import write_atomic
from rlco.train.checkpoints import CHECKPOINTS
from rlco.train.nan_guard import NonFiniteLossError, ReplayEndedError, replaying

P = ParamSpec("P")
T = TypeVar("T")
CALL = "call.pickle"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A stage as it was called, but for its folder. Pickles, its function by name."""

    stage: partial[Any]
    cwd: Path
    """What relative paths among the arguments are relative to."""
    step: int
    """Steps done before the one that failed."""


def replayable(stage: Callable[Concatenate[Path, P], T]) -> Callable[Concatenate[Path, P], T]:
    """Let a training stage whose loss stops being finite say the command that replays it.

    ``stage`` is a function of a module; its arguments pickle.
    """

    @wraps(stage)
    def guarded(folder: Path, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return stage(folder, *args, **kwargs)
        except NonFiniteLossError as error:
            if error.folder is None:
                raise
            step = int(error.folder.name[-6:])
            call = Call(stage=partial(guarded, *args, **kwargs), cwd=Path.cwd(), step=step)
            write_atomic(error.folder / CALL, lambda temporary: temporary.write_bytes(pickle.dumps(call)))
            raise NonFiniteLossError(f"{error} Replay it: rlco replay {error.folder}", error.dump) from error

    return guarded


def replay(dump: Path) -> str | None:
    """Take the steps from a dump's checkpoint to the one that failed again, and look at every layer's output.

    Returns what is found first, or None where every figure is finite this time. What the stage learnt from (data,
    starting weights) is read again: the stage raises where it is gone or another. Nothing of the run is changed; what
    the replay writes is deleted. Raises ``ValueError`` for a folder that is no dump of a stage.
    """
    if not (dump / CALL).is_file():
        raise ValueError(
            f"'{dump}' is not the dump of a training stage: it has no {CALL}. Name a 'nan-step...' folder."
        )
    call: Call = pickle.loads((dump / CALL).read_bytes())  # ours, as the checkpoint beside it
    with tempfile.TemporaryDirectory(prefix="rlco-replay-") as scratch:
        if (dump / CHECKPOINTS).is_dir():
            shutil.copytree(dump / CHECKPOINTS, Path(scratch) / CHECKPOINTS)
        with chdir(call.cwd), replaying(call.step):
            try:
                call.stage(Path(scratch))
            except NonFiniteLossError as error:
                return str(error)
            except ReplayEndedError:
                return None
    raise AssertionError("a replay ends after the step that had failed")
