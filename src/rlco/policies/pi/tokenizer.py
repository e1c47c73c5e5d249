"""Tokenizers: the small built-in one, and that of a ``tokenizer.json`` which the user gives.

The built-in one serves the nano sizes. Words it knows are one token each, any other word falls back to its characters,
and each of the 257 state bins is a token of its own, so a prompt of the nano policy is about 20 tokens long.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import tokenizers
import torch
from jaxtyping import Float
from torch import Tensor

from rlco.policies.pi.prompts import STATE_BINS, Tokenizer

TOKENIZER_FILE = "tokenizer.json"
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
# New tokens go to the end: the shipped embedding knows the others by their number.
_VOCABULARY = [*_SPECIAL, *(f"<bin{i}>" for i in range(-1, STATE_BINS)), *_CHARACTERS, *_WORDS, "\n"]
_INDEX = {token: i for i, token in enumerate(dict.fromkeys(_VOCABULARY))}
PAD, BOS, UNKNOWN = 0, 1, 2


@lru_cache(maxsize=4096)
def words(text: str) -> tuple[int, ...]:
    """Return the tokens of free text, lower-cased; an unknown word becomes its characters."""
    ids: list[int] = []
    for word in re.findall(r"[a-z0-9'-]+|[^\sa-z0-9]", text.lower()):
        ids += [_INDEX[word]] if word in _INDEX else [_INDEX.get(c, UNKNOWN) for c in word]
    return tuple(ids)


@dataclass(frozen=True, slots=True)
class ToyTokenizer:
    """The built-in tokenizer. See ``rlco.policies.pi.prompts.Tokenizer``."""

    def encode(self, task: str, bins: Sequence[int] | None) -> tuple[list[int], slice]:
        """Return the ids of a prompt and the place of the task's words."""
        text = words(task)
        if bins is None:
            return [BOS, *text, _INDEX["\n"]], slice(1, 1 + len(text))
        state = [_FIRST_BIN + 1 + b for b in bins]
        ids = [BOS, _INDEX["Task:"], *text, _INDEX[", State:"], *state, _INDEX[";\nAction:"]]
        return ids, slice(2, 2 + len(text))


@dataclass(frozen=True, slots=True)
class FileTokenizer:
    """A Hugging Face tokenizer: for released weights that of PaliGemma. Made by ``FileTokenizer.open``."""

    text: str = field(repr=False)
    """The whole ``tokenizer.json``: a checkpoint carries its own copy."""
    source: str = field(compare=False)
    """Where it was read, for errors."""
    _made: tokenizers.Tokenizer = field(compare=False, repr=False)
    _bos: int = field(compare=False, repr=False)

    @staticmethod
    def open(path: Path) -> FileTokenizer:
        """Read a ``tokenizer.json``. Raises ``ValueError`` in one line for anything else."""
        _require_json_file(path)
        try:
            text = path.read_text()
            made = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"'{path}' is not a {TOKENIZER_FILE}: {error}.") from error
        made.no_padding()
        made.no_truncation()
        bos = made.token_to_id("<bos>")
        if bos is None:
            raise ValueError(f"'{path}' has no token <bos>, with which every prompt of pi0 and pi0.5 begins.")
        return FileTokenizer(text=text, source=str(path), _made=made, _bos=bos)

    def encode(self, task: str, bins: Sequence[int] | None) -> tuple[list[int], slice]:
        """Return the ids of a prompt and the place of the task's words."""
        if bins is None:
            # apart, as openpi does: no token spans the task and the newline
            ids = self._made.encode(task, add_special_tokens=False).ids
            newline = self._made.encode("\n", add_special_tokens=False).ids
            return [self._bos, *ids, *newline], slice(1, 1 + len(ids))
        before, state = "Task: ", " ".join(map(str, bins))
        found = self._made.encode(f"{before}{task}, State: {state};\nAction: ", add_special_tokens=False)
        first, last = len(before), len(before) + len(task)
        inside = [i for i, (begin, end) in enumerate(found.offsets) if end > first and begin < last]
        place = slice(1 + inside[0], 2 + inside[-1]) if inside else slice(1, 1)
        return [self._bos, *found.ids], place


def _require_json_file(path: Path) -> None:
    if path.suffix == ".model":
        raise ValueError(
            f"'{path}' is a SentencePiece model; give the {TOKENIZER_FILE} of the same tokenizer. It lies beside it on "
            "the Hugging Face Hub, and AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER) writes it."
        )
    if path.is_dir() or not path.exists():
        kind = "is a folder" if path.exists() else "does not exist"
        raise ValueError(f"'{path}' {kind}: a tokenizer is a file, {TOKENIZER_FILE}.")


def open_tokenizer(name: str, folder: Path) -> Tokenizer:
    """Return the tokenizer that a checkpoint in ``folder`` names: ``toy``, or its own ``tokenizer.json``."""
    if name == "toy":
        return ToyTokenizer()
    if name != TOKENIZER_FILE:
        raise ValueError(f"'{folder}' names the tokenizer '{name}'; known: toy, {TOKENIZER_FILE}.")
    return FileTokenizer.open(folder / TOKENIZER_FILE)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> str:
    """Write what ``open_tokenizer`` needs into ``folder``; return the name to keep."""
    if not isinstance(tokenizer, FileTokenizer):
        return "toy"
    (folder / TOKENIZER_FILE).write_text(tokenizer.text)
    return TOKENIZER_FILE


def structured_bins(width: int) -> Float[Tensor, "bins width"]:
    """Return a starting embedding in which neighbouring state bins look alike (sines of the bin's value)."""
    value = torch.linspace(-1, 1, STATE_BINS + 1)[:, None]
    frequency = torch.logspace(-1, 4, width // 2, base=2.0)[None] * torch.pi
    return torch.cat([torch.sin(frequency * value), torch.cos(frequency * value)], dim=1) / width**0.5


def bin_rows() -> slice:
    """Return which rows of the embedding are state bins."""
    return slice(_FIRST_BIN, _FIRST_BIN + STATE_BINS + 1)


def vocabulary_size() -> int:
    """Return how many tokens the built-in tokenizer can give."""
    return len(_INDEX)
