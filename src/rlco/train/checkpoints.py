"""Training state on disk: complete or absent, the newest found again by itself."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from rlco.core.files import fingerprint, replace_folder, write_json

STATE = "state.pt"


def save_training_state(folder: Path, step: int, state: Mapping[str, Any], *, keep: int = 2) -> None:
    """Write ``folder/checkpoints/<step>`` and point ``last`` at it; older ones beyond ``keep`` are removed."""
    root = folder / "checkpoints"
    replace_folder(root / f"{step:06d}", lambda tmp: torch.save({"step": step, **state}, tmp / STATE))
    link = root / "last.tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(f"{step:06d}")
    os.replace(link, root / "last")
    for old in sorted(p for p in root.iterdir() if p.name.isdigit())[:-keep]:
        shutil.rmtree(old)


def load_training_state(folder: Path) -> dict[str, Any] | None:
    """Return the newest complete state, or None."""
    path = folder / "checkpoints" / "last" / STATE
    # our own file, which also holds plain Python state (generators, the world): not only tensors
    return torch.load(path, weights_only=False, map_location="cpu") if path.exists() else None


@runtime_checkable
class Resumable(Protocol):
    """Something that goes on from a saved state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from it."""
        ...


def resume(stage: Resumable, folder: Path) -> None:
    """Go on from the newest complete state in ``folder``, if there is one; the copy that was read is not kept."""
    state = load_training_state(folder)
    if state is not None:
        stage.load_state_dict(state)


def claim_folder(folder: Path, config: Mapping[str, Any]) -> None:
    """Write ``folder/config.json`` once. Raises ``ValueError`` if the folder belongs to another configuration."""
    path = folder / "config.json"
    if path.exists():
        then = json.loads(path.read_text())
        now = json.loads(json.dumps(dict(config), default=str))
        if fingerprint(then) != fingerprint(now):
            changed = sorted(k for k in then.keys() | now.keys() if then.get(k) != now.get(k))
            raise ValueError(
                f"'{folder}' holds a run of another configuration (differs in: {', '.join(changed)}). "
                "Use another folder, or delete that one."
            )
        return
    write_json(path, dict(config))


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite. ``dump`` holds what it was computed from."""

    def __init__(self, message: str, dump: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.dump = dump


def require_finite(value: Tensor, *, dump: Mapping[str, Any], what: str = "loss") -> None:
    """Raise ``NonFiniteLossError`` unless ``value`` is finite; tensors of ``dump`` that are not finite are named."""
    if bool(torch.isfinite(value).all()):
        return
    bad = sorted(k for k, v in dump.items() if isinstance(v, Tensor) and not torch.isfinite(v).all())
    reason = f"not finite in its batch: {', '.join(bad)}" if bad else "its batch is finite, so the weights are not"
    raise NonFiniteLossError(f"The {what} is {float(value.detach().sum())}; {reason}.", dump)


@contextmanager
def dumping_non_finite(folder: Path, *, step: int) -> Iterator[None]:
    """Keep the batch of a ``NonFiniteLossError`` in ``folder`` and say where it is; ``step`` steps were done before."""
    try:
        yield
    except NonFiniteLossError as error:
        path = folder / f"nan-step{step:06d}.pt"
        torch.save(dict(error.dump), path)
        message = f"After step {step}: {error} The batch is in '{path}'. The last checkpoint is intact."
        raise NonFiniteLossError(message, error.dump) from error
