"""Tokenizers: the small built-in one, and Llama's, of a ``tokenizer.json`` which the user gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rlco.policies import words
from rlco.policies.openvla.config import BINS, OpenVlaConfig
from rlco.policies.openvla.prompts import STYLES, Tokenizer, require_style
from rlco.policies.tokenizer_file import TOKENIZER_FILE, TokenizerFile, own_tokenizer
from rlco.policies.words import ASK, BOS, EMPTY, END, INDEX, LATEST, OUT, PAD

_EMPTY_PIECE = "\u2581"


@dataclass(frozen=True, slots=True)
class ToyTokenizer:
    """The built-in vocabulary: the template's two halves are a token each. See ``Tokenizer``."""

    begin: int = BOS
    end: int = INDEX[END]
    pad: int = PAD
    edition: str = LATEST
    """A name in ``EDITIONS``."""

    def encode(self, style: str, task: str) -> tuple[list[int], slice]:
        """Return the ids of a prompt and the place of the task's words; every style reads alike."""
        require_style(style)
        text = words.words(task, self.edition)
        return [INDEX[ASK], *text, INDEX[OUT], INDEX[EMPTY]], slice(1, 1 + len(text))

    def require_fits(self, config: OpenVlaConfig) -> None:
        """See ``Tokenizer``: it may know fewer words than the policy, if the action tokens are not among them."""
        if (size := words.vocabulary_size(self.edition)) > config.first_action_id:
            raise ValueError(
                f"The built-in tokenizer has {size} tokens, the policy has room for "
                f"{config.first_action_id} (text_vocabulary {config.text_vocabulary} less {BINS} for actions)."
            )


@dataclass(frozen=True, slots=True)
class FileTokenizer:
    """A Hugging Face tokenizer: for released weights that of Llama 2. Made by ``FileTokenizer.open``."""

    file: TokenizerFile
    begin: int = field(compare=False)
    end: int = field(compare=False)
    pad: int = field(compare=False)
    empty: int = field(compare=False)
    """The piece of a space alone, which stands before the action: 29871 in Llama's file."""
    has_pad: bool = field(compare=False)

    @staticmethod
    def open(path: Path) -> FileTokenizer:
        """Read a ``tokenizer.json``, with OpenVLA's ``<PAD>`` or without.

        Raises ``ValueError`` in one line for anything else.
        """
        file = TokenizerFile.open(path)
        begin = file.id_of("<s>", role="with which every prompt of OpenVLA begins")
        end = file.id_of("</s>", role="with which every answer of OpenVLA ends")
        pad = file.made.token_to_id("<PAD>")
        return FileTokenizer(
            file=file,
            begin=begin,
            end=end,
            pad=end if pad is None else pad,  # nothing sees padding
            empty=file.id_of(_EMPTY_PIECE, role="which stands before every action of OpenVLA"),
            has_pad=pad is not None,
        )

    def encode(self, style: str, task: str) -> tuple[list[int], slice]:
        """Return the ids of a prompt, tokenised as one text, and the place of the task's words.

        Raises ``ValueError`` for a task that spells one of the tokens which mean a sequence's beginning or end.
        """
        require_style(style)
        before, after = STYLES[style]
        ids, place = self.file.encode(before + task + after, part=slice(len(before), len(before) + len(task)))
        if reserved := {self.begin, self.end, self.pad} & set(ids):
            names = ", ".join(str(self.file.made.id_to_token(i)) for i in sorted(reserved))
            raise ValueError(f"The instruction '{task}' spells {names}, which is no word: leave it out.")
        return ids if ids[-1] == self.empty else [*ids, self.empty], place

    def require_fits(self, config: OpenVlaConfig) -> None:
        """See ``Tokenizer``."""
        size = self.file.size - self.has_pad
        if size != config.text_vocabulary:
            extra = " beside <PAD>" if self.has_pad else ""
            raise ValueError(
                f"The tokenizer '{self.file.source}' has {size} tokens{extra}, the policy was trained with "
                f"{config.text_vocabulary}: it is another one, and the action tokens would be words."
            )


def open_tokenizer(name: str, folder: Path) -> Tokenizer:
    """Return the tokenizer that a checkpoint in ``folder`` names: an edition of the built-in one, or its own file."""
    path = own_tokenizer(name, folder)
    return ToyTokenizer(edition=name) if path is None else FileTokenizer.open(path)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> str:
    """Write what ``open_tokenizer`` needs into ``folder``; return the name to keep."""
    if isinstance(tokenizer, ToyTokenizer):
        return tokenizer.edition
    assert isinstance(tokenizer, FileTokenizer)
    tokenizer.file.save(folder)
    return TOKENIZER_FILE
