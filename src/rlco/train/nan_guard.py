"""The first figure that is not finite ends a run, and leaves what replays the way to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlco.core.files import replace_folder
from rlco.core.policy import Batch
from rlco.train.checkpoints import CHECKPOINTS, newest

BATCH = "batch.pt"
"""File of a dump: what the figure was computed from."""
_NAMED = 3
"""Tensors named in a message; there may be hundreds."""


class NonFiniteLossError(RuntimeError):
    """A figure of training became NaN or infinite. ``dump`` holds what it was computed from."""

    def __init__(self, message: str, dump: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.dump = dump
        self.folder: Path | None = None
        """Where it was dumped."""


class NonFiniteOutputError(NonFiniteLossError):
    """In a replay: a layer put out what is not finite."""


class ReplayEndedError(Exception):
    """A replay passed the step that had failed."""


_replayed: ContextVar[int | None] = ContextVar("replayed", default=None)
"""In a replay, the steps that were done before the one that failed."""


def require_finite(value: Tensor, *, dump: Mapping[str, Any], what: str = "loss") -> None:
    """Raise ``NonFiniteLossError`` unless ``value`` is finite; tensors of ``dump`` that are not finite are named."""
    if bool(torch.isfinite(value).all()):
        return
    bad = sorted(k for k, v in dump.items() if isinstance(v, Tensor) and not torch.isfinite(v).all())
    reason = f"not finite in its batch: {', '.join(bad)}" if bad else "its batch is finite"
    raise NonFiniteLossError(f"The {what} is {float(value.detach().sum())}; {reason}.", dump)


def require_finite_weights(modules: nn.Module) -> None:
    """Raise ``NonFiniteLossError`` for weights that are not finite: before they are kept as something to go on from."""
    if bad := _not_finite(dict(modules.named_parameters())):
        raise NonFiniteLossError(f"Weights are not finite: {bad}.", {})


def batch_tensors(batch: Batch) -> dict[str, Any]:
    """Return a supervised batch as plain tensors, for a dump."""
    seen = batch.observation
    return {"action": batch.action, "image": seen.image, "state": seen.state, "instruction": seen.instruction}


@contextmanager
def nan_guard(folder: Path, *, step: int, modules: nn.Module) -> Iterator[None]:
    """Around one step of training, ``step`` being done before: dump what led to a ``NonFiniteLossError`` and say where.

    The dump, ``folder/nan-stepNNNNNN``, has the batch and the newest checkpoint, which retention cannot reach there: a
    replay of it takes every batch in between again. The message names weights and gradients that are not finite.
    In a replay nothing is dumped, every layer's output is looked at, and the step after the one that had failed raises
    ``ReplayEndedError``.
    """
    replayed = _replayed.get()
    if replayed is not None and step > replayed:
        raise ReplayEndedError
    try:
        with nullcontext() if replayed is None else _looking_at_outputs(modules):
            yield
    except NonFiniteLossError as error:
        where = "" if replayed is not None else _dumped(folder / f"nan-step{step:06d}", error)
        raised = type(error)(f"After step {step}: {error}{_state_of(modules)}{where}", error.dump)
        raised.folder = error.folder
        raise raised from error


@contextmanager
def replaying(step: int) -> Iterator[None]:
    """Inside, training is a replay of a run that failed after ``step`` steps."""
    token = _replayed.set(step)
    try:
        yield
    finally:
        _replayed.reset(token)


def _dumped(dump: Path, error: NonFiniteLossError) -> str:
    checkpoint = newest(dump.parent)

    def write(temporary: Path) -> None:
        torch.save(dict(error.dump), temporary / BATCH)
        if checkpoint is not None:
            shutil.copytree(checkpoint, temporary / CHECKPOINTS / checkpoint.name, copy_function=_second_name)

    try:
        replace_folder(dump, write)
    except OSError as failure:  # the figure is the news, not the dump
        return f" It could not be dumped: {failure}"
    error.folder = dump
    return f" The batch and the last checkpoint are in '{dump}'."


def _second_name(file: str, other: str) -> None:
    """Give a file that nobody writes again another name, or copy it where a disk has no such names."""
    try:
        os.link(file, other)
    except OSError:
        shutil.copyfile(file, other)


def _state_of(modules: nn.Module) -> str:
    weights = _not_finite(dict(modules.named_parameters()))
    gradients = _not_finite({name: p.grad for name, p in modules.named_parameters() if p.grad is not None})
    said = [
        f" Not finite: {what} {names}." for what, names in (("weights", weights), ("gradients", gradients)) if names
    ]
    return "".join(said)


def _not_finite(tensors: Mapping[str, Tensor]) -> str:
    bad = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    return ", ".join(bad[:_NAMED]) + more


@contextmanager
def _looking_at_outputs(modules: nn.Module) -> Iterator[None]:
    with ExitStack() as hooks:
        for name, module in modules.named_modules():
            hooks.enter_context(module.register_forward_hook(partial(_look, name)))
        yield


def _look(name: str, module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
    """Raise ``NonFiniteOutputError`` for the first layer whose output is not finite; its parts are asked before it."""
    if not isinstance(output, Tensor) or torch.isfinite(output).all():
        return
    is_finite = {
        "its inputs are": all(torch.isfinite(x).all() for x in inputs if isinstance(x, Tensor)),
        "its weights are": all(torch.isfinite(p).all() for p in module.parameters()),
    }
    said = ", ".join(f"{what} {'finite' if fine else 'not finite'}" for what, fine in is_finite.items())
    raise NonFiniteOutputError(
        f"The output of layer '{name}' ({type(module).__name__}) is the first that is not finite; {said}.", {}
    )
