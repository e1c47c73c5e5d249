"""A Hugging Face ``tokenizer.json`` that the user gives; a checkpoint carries its own copy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tokenizers

from rlco.policies.words import EDITIONS

TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """Made by ``TokenizerFile.open``. Equal to another of the same text."""

    text: str = field(repr=False)
    """The whole file."""
    source: str = field(compare=False)
    """Where it was read, for errors."""
    made: tokenizers.Tokenizer = field(compare=False, repr=False)

    @staticmethod
    def open(path: Path) -> TokenizerFile:
        """Read a ``tokenizer.json``, whose padding and truncation are switched off.

        Raises ``ValueError`` in one line for anything else.
        """
        _require_json_file(path)
        try:
            text = path.read_text()
            made = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"'{path}' is not a {TOKENIZER_FILE}: {error}.") from error
        made.no_padding()
        made.no_truncation()
        return TokenizerFile(text=text, source=str(path), made=made)

    @property
    def size(self) -> int:
        """Return how many tokens it knows, added ones counted."""
        return self.made.get_vocab_size(with_added_tokens=True)

    def id_of(self, token: str, *, role: str) -> int:
        """Return the number of a token; ``role`` says what it is needed for. Raises ``ValueError`` without it."""
        found = self.made.token_to_id(token)
        if found is None:
            raise ValueError(f"'{self.source}' has no token {token}, {role}.")
        return found

    def encode(self, text: str, *, part: slice | None = None) -> tuple[list[int], slice]:
        """Return the ids of ``text`` alone, and which of them hold the letters ``part`` (default: all)."""
        found = self.made.encode(text, add_special_tokens=False)
        first, last = (0, len(text)) if part is None else (part.start, part.stop)
        inside = [i for i, (begin, end) in enumerate(found.offsets) if end > first and begin < last]
        return found.ids, slice(inside[0], inside[-1] + 1) if inside else slice(0, 0)

    def save(self, folder: Path) -> None:
        """Write the copy of a checkpoint."""
        (folder / TOKENIZER_FILE).write_text(self.text)


def _require_json_file(path: Path) -> None:
    if path.suffix == ".model":
        raise ValueError(
            f"'{path}' is a SentencePiece model; give the {TOKENIZER_FILE} of the same tokenizer. It lies beside it on "
            "the Hugging Face Hub, and AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER) writes it."
        )
    if path.is_dir() or not path.exists():
        kind = "is a folder" if path.exists() else "does not exist"
        raise ValueError(f"'{path}' {kind}: a tokenizer is a file, {TOKENIZER_FILE}.")


def own_tokenizer(name: str, folder: Path) -> Path | None:
    """Return the file that a checkpoint in ``folder`` names, or None for the built-in tokenizer."""
    if name in EDITIONS:
        return None
    if name != TOKENIZER_FILE:
        raise ValueError(f"'{folder}' names the tokenizer '{name}'; known: {', '.join(EDITIONS)}, {TOKENIZER_FILE}.")
    return folder / TOKENIZER_FILE
