"""Tokenizers: the small built-in one, and that of a ``tokenizer.json`` which the user gives.

The built-in one serves the nano sizes. Words it knows are one token each, any other word falls back to its characters,
and each of the 257 state bins is a token of its own, so a prompt of the nano policy is about 20 tokens long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlco.policies.pi.prompts import Tokenizer
from rlco.policies.tokenizer_file import TOKENIZER_FILE, TokenizerFile, own_tokenizer
from rlco.policies.words import BOS, FIRST_BIN, INDEX, LATEST, words


@dataclass(frozen=True, slots=True)
class ToyTokenizer:
    """The built-in tokenizer. See ``rlco.policies.pi.prompts.Tokenizer``."""

    edition: str = LATEST
    """A name in ``EDITIONS``."""

    def encode(self, task: str, bins: Sequence[int] | None) -> tuple[list[int], slice]:
        """Return the ids of a prompt and the place of the task's words."""
        text = words(task, self.edition)
        if bins is None:
            return [BOS, *text, INDEX["\n"]], slice(1, 1 + len(text))
        state = [FIRST_BIN + 1 + b for b in bins]
        ids = [BOS, INDEX["Task:"], *text, INDEX[", State:"], *state, INDEX[";\nAction:"]]
        return ids, slice(2, 2 + len(text))


@dataclass(frozen=True, slots=True)
class FileTokenizer:
    """A Hugging Face tokenizer: for released weights that of PaliGemma. Made by ``FileTokenizer.open``."""

    file: TokenizerFile
    begin: int = field(compare=False)

    @staticmethod
    def open(path: Path) -> FileTokenizer:
        """Read a ``tokenizer.json``. Raises ``ValueError`` in one line for anything else."""
        file = TokenizerFile.open(path)
        return FileTokenizer(file, file.id_of("<bos>", role="with which every prompt of pi0 and pi0.5 begins"))

    def encode(self, task: str, bins: Sequence[int] | None) -> tuple[list[int], slice]:
        """Return the ids of a prompt and the place of the task's words."""
        if bins is None:
            # apart, as openpi does: no token spans the task and the newline
            ids, newline = self.file.encode(task)[0], self.file.encode("\n")[0]
            return [self.begin, *ids, *newline], slice(1, 1 + len(ids))
        before, state = "Task: ", " ".join(map(str, bins))
        part = slice(len(before), len(before) + len(task))
        ids, place = self.file.encode(f"{before}{task}, State: {state};\nAction: ", part=part)
        return [self.begin, *ids], slice(1 + place.start, 1 + place.stop)


def open_tokenizer(name: str, folder: Path) -> Tokenizer:
    """Return the tokenizer that a checkpoint in ``folder`` names: an edition of the built-in one, or its own file."""
    path = own_tokenizer(name, folder)
    return ToyTokenizer(name) if path is None else FileTokenizer.open(path)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> str:
    """Write what ``open_tokenizer`` needs into ``folder``; return the name to keep."""
    if isinstance(tokenizer, ToyTokenizer):
        return tokenizer.edition
    assert isinstance(tokenizer, FileTokenizer)
    tokenizer.file.save(folder)
    return TOKENIZER_FILE
