"""What a policy is told in words: the published prompt templates, and the state in bins inside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rlco.core.errors import unknown_name
from rlco.policies.prompts import require_length
from rlco.policies.words import STATE_BINS

PADDED_STATE_DIM = 32
"""lerobot up to 0.4.4 padded the state to this length before it discretised it."""

Bins = Int[Tensor, "B n"]


def state_bins(state: Float[Tensor, "B S"]) -> Int[Tensor, "B S"]:
    """Discretise a normalised state: 256 bins over [-1, 1]; below -1 is bin -1, above 1 is bin 255 (openpi)."""
    edges = torch.linspace(-1, 1, STATE_BINS + 1, device=state.device)[:-1]
    return torch.bucketize(state.contiguous(), edges, right=True) - 1


def _padded_state_bins(state: Float[Tensor, "B S"]) -> Int[Tensor, "B 32"]:
    return state_bins(F.pad(state, (0, PADDED_STATE_DIM - state.shape[1])))


def _no_bins(state: Float[Tensor, "B S"]) -> None:
    return None


STYLES: dict[str, Callable[[Float[Tensor, "B S"]], Bins | None]] = {
    "pi05": state_bins,
    "pi05_padded32": _padded_state_bins,
    "plain": _no_bins,
}
"""Name -> which bins of a normalised state are in the prompt. ``pi05_padded32``: pi0.5 fine-tuned with lerobot up to
0.4.4. ``plain``: pi0, and openpi's pi05_libero, which sees no state."""
STYLE_OF_FAMILY = {"pi05": "pi05", "pi0": "plain"}
"""What the released models were trained with."""


def require_style(name: str) -> None:
    """Raise ``LookupError`` for an unknown prompt style."""
    if name not in STYLES:
        raise unknown_name("prompt style", name, STYLES)


def clean(task: str) -> str:
    """Strip, and turn underscores and newlines into spaces, as openpi does; upper case stays."""
    return task.strip().replace("_", " ").replace("\n", " ")


@runtime_checkable
class Tokenizer(Protocol):
    """Turns a prompt into token ids, the beginning of the sequence first, no end."""

    def encode(self, task: str, bins: Sequence[int] | None) -> tuple[list[int], slice]:
        """Return the ids of the prompt of a cleaned ``task``, and which of them are the task's own words.

        The template is ``Task: {task}, State: {bins};\\nAction: ``, or ``{task}\\n`` where ``bins`` is None.
        """
        ...


def tokenise(
    tasks: Sequence[str], bins: Bins | None, *, tokenizer: Tokenizer, length: int
) -> tuple[Int[Tensor, "B length"], Bool[Tensor, "B length"], Bool[Tensor, "B length"]]:
    """Return token ids padded with 0, which of them are real, and which of them are the task's words.

    Raises ``PromptTooLongError`` when a prompt has more than ``length`` tokens.
    """
    cleaned = {task: clean(task) for task in set(tasks)}
    rows = [None] * len(tasks) if bins is None else bins.tolist()
    encoded = [tokenizer.encode(cleaned[task], row) for task, row in zip(tasks, rows, strict=True)]
    for task, (ids, _) in zip(tasks, encoded, strict=True):
        require_length(task, tokens=len(ids), most=length)
    place = torch.arange(length)
    ends = torch.tensor([[len(ids), words.start, words.stop] for ids, words in encoded]).unsqueeze(-1)
    ids_BT = torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in encoded])
    return ids_BT, place < ends[:, 0], (place >= ends[:, 1]) & (place < ends[:, 2])
