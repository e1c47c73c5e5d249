"""Tokenizers: the small built-in one, and that of a ``tokenizer.json`` which the user gives.

The built-in one serves the nano sizes. Words it knows are one token each, any other word falls back to its characters,
and each of the 257 state bins is a token of its own, so a prompt of the nano policy is about 20 tokens long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tokenizers

from rlco.policies.pi.prompts import Tokenizer
from rlco.policies.words import BOS, FIRST_BIN, INDEX, words

TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class ToyTokenizer:
    """The built-in tokenizer. See ``rlco.policies.pi.prompts.Tokenizer``."""

    def encode(self, task: str, bins: Sequence[int] | None) -> tuple[list[int], slice]:
        """Return the ids of a prompt and the place of the task's words."""
        text = words(task)
        if bins is None:
            return [BOS, *text, INDEX["\n"]], slice(1, 1 + len(text))
        state = [FIRST_BIN + 1 + b for b in bins]
        ids = [BOS, INDEX["Task:"], *text, INDEX[", State:"], *state, INDEX[";\nAction:"]]
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
