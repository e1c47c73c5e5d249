"""What OpenVLA is told in words, as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rlco.core.errors import unknown_name
from rlco.policies.openvla.config import OpenVlaConfig
from rlco.policies.prompts import require_length

STYLES = {
    "openvla": ("In: What action should the robot take to ", "?\nOut:"),
    "v01": (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: What action should the robot take to ",
        "? ASSISTANT:",
    ),
}
"""Name -> what stands before and after the task. ``v01``: the first released checkpoint."""


def require_style(name: str) -> None:
    """Raise ``LookupError`` for an unknown prompt style."""
    if name not in STYLES:
        raise unknown_name("prompt style", name, STYLES)


def clean(task: str) -> str:
    """Strip, lower-case, and turn line breaks into spaces. Raises ``ValueError`` for an instruction without words."""
    text = " ".join(task.split()).lower()
    if not text:
        raise ValueError("The instruction is empty: OpenVLA acts on what it is told.")
    return text


@runtime_checkable
class Tokenizer(Protocol):
    """Turns a prompt into token ids."""

    @property
    def begin(self) -> int:
        """Return the id that begins every sequence."""
        ...

    @property
    def end(self) -> int:
        """Return the id that ends an answer."""
        ...

    @property
    def pad(self) -> int:
        """Return the id of padding, which nothing sees."""
        ...

    def encode(self, style: str, task: str) -> tuple[list[int], slice]:
        """Return the ids of the prompt of a cleaned ``task`` and which of them are the task's own words.

        Without the beginning. The last one is that of the empty piece (29871 in Llama's vocabulary), after which the
        action begins.
        """
        ...

    def require_fits(self, config: OpenVlaConfig) -> None:
        """Raise ``ValueError``, with both numbers of tokens, unless it is the tokenizer of such a policy."""
        ...


_SHOWN = 60
"""Letters of a task that an error shows."""


def _shortened(task: str) -> str:
    return task if len(task) <= _SHOWN else f"{task[:_SHOWN]}..."


def tokenise(
    tasks: Sequence[str], *, style: str, tokenizer: Tokenizer, length: int
) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """Return token ids padded on the left to the longest, which of them are real, and which are the task's words.

    Raises ``PromptTooLongError`` when a prompt has more than ``length`` tokens, ``ValueError`` for an empty one.
    """
    encoded = {task: tokenizer.encode(style, clean(task)) for task in set(tasks)}
    for task, (ids, _) in encoded.items():
        require_length(_shortened(task), tokens=len(ids), most=length)
    most = max(len(ids) for ids, _ in encoded.values())
    rows = []
    for task in tasks:
        ids, own = encoded[task]
        pad = most - len(ids)
        rows.append(([tokenizer.pad] * pad + ids, pad, own.start + pad, own.stop + pad))
    place = torch.arange(most)
    bounds = torch.tensor([row[1:] for row in rows]).unsqueeze(-1)
    ids_BT = torch.tensor([row[0] for row in rows])
    return ids_BT, place >= bounds[:, 0], (place >= bounds[:, 1]) & (place < bounds[:, 2])
