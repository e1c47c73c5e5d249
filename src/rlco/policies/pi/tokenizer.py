"""The small built-in tokenizer and the pi0.5 prompt.

Words it knows are one token each, any other word falls back to its characters, and each of the 257 state bins is a
token of its own, so a prompt of the nano policy is about 20 tokens long.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

STATE_BINS = 256
_SPECIAL = ["<pad>", "<bos>", "<unk>", "Task:", ", State:", ";\nAction:", ","]
_CHARACTERS = list("abcdefghijklmnopqrstuvwxyz0123456789-.'?!")
_TEXT = """
push pull pick place open close move reach touch go find where is the a an to of in on into onto and put it up down
left right front behind above near far small big large tiny middle most
cube block box ball sphere cylinder can egg capsule object thing drawer bowl handle tray plate gripper table
red green blue yellow orange purple pink brown black white gray cyan magenta lime navy olive teal maroon gold
violet turquoise salmon beige
"""
_WORDS = _TEXT.split()
_FIRST_BIN = len(_SPECIAL)
_VOCABULARY = [*_SPECIAL, *(f"<bin{i}>" for i in range(-1, STATE_BINS)), *_CHARACTERS, *_WORDS]
_INDEX = {token: i for i, token in enumerate(dict.fromkeys(_VOCABULARY))}
PAD, BOS, UNKNOWN = 0, 1, 2


def clean(task: str) -> str:
    """Strip, and turn underscores and newlines into spaces, as the published models do."""
    return re.sub(r"[_\n]+", " ", task).strip()


def words(text: str) -> list[int]:
    """Return the tokens of free text, lower-cased; an unknown word becomes its characters."""
    ids: list[int] = []
    for word in re.findall(r"[a-z0-9'-]+|[^\sa-z0-9]", text.lower()):
        ids += [_INDEX[word]] if word in _INDEX else [_INDEX.get(c, UNKNOWN) for c in word]
    return ids


def state_bins(state: Float[Tensor, "B S"]) -> Int[Tensor, "B S"]:
    """Discretise a normalised state: 256 bins over [-1, 1]; below -1 is bin -1, above 1 is bin 255 (openpi)."""
    edges = torch.linspace(-1, 1, STATE_BINS + 1, device=state.device)[:-1]
    return torch.bucketize(state.contiguous(), edges, right=True) - 1


def prompts(
    tasks: Sequence[str], state: Float[Tensor, "B S"] | None, *, length: int
) -> tuple[Int[Tensor, "B length"], Bool[Tensor, "B length"], Bool[Tensor, "B length"]]:
    """Return token ids, which of them are real, and which of them are the task's words.

    The template is ``Task: {task}, State: {bins};\\nAction:``, or ``{task}\\n`` where ``state`` is None.
    Raises ``ValueError`` when a prompt does not fit: a cut prompt would lose the state or the word ``Action``.
    """
    encoded = {task: words(clean(task)) for task in set(tasks)}
    bins = state_bins(state) + 1 + _FIRST_BIN if state is not None else None
    ids = torch.full((len(tasks), length), PAD)
    is_word = torch.zeros(len(tasks), length, dtype=torch.bool)
    for row, task in enumerate(tasks):
        text = encoded[task]
        line = [BOS, _INDEX["Task:"], *text]
        if bins is not None:
            line += [_INDEX[", State:"], *bins[row].tolist(), _INDEX[";\nAction:"]]
        if len(line) > length:
            raise ValueError(f"The prompt of task '{task}' has {len(line)} tokens, the policy takes {length}.")
        ids[row, : len(line)] = torch.tensor(line)
        is_word[row, 2 : 2 + len(text)] = True
    return ids, ids != PAD, is_word


def structured_bins(width: int) -> Float[Tensor, "bins width"]:
    """Return a starting embedding in which neighbouring state bins look alike (sines of the bin's value)."""
    value = torch.linspace(-1, 1, STATE_BINS + 1)[:, None]
    frequency = torch.logspace(-1, 4, width // 2, base=2.0)[None] * torch.pi
    return torch.cat([torch.sin(frequency * value), torch.cos(frequency * value)], dim=1) / width**0.5


def bin_rows() -> slice:
    """Return which rows of the embedding are state bins."""
    return slice(_FIRST_BIN, _FIRST_BIN + STATE_BINS + 1)


def vocabulary_size() -> int:
    """Return how many tokens the tokenizer can give."""
    return len(_INDEX)
