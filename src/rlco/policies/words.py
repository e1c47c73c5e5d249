"""The small built-in vocabulary, which serves the nano sizes.

Words it knows are one token each, any other word falls back to its characters, and each of the 257 state bins is a
token of its own. What a family's template always says is one token too.
"""

from __future__ import annotations

import re
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

STATE_BINS = 256
_SPECIAL = ["<pad>", "<bos>", "<unk>", "Task:", ", State:", ";\nAction:", ","]
ASK, OUT, EMPTY, END = "In: What action should the robot take to", "?\nOut:", "<empty>", "</s>"
_OPENVLA = [ASK, OUT, EMPTY, END]
_CHARACTERS = list("abcdefghijklmnopqrstuvwxyz0123456789-.'?!")
_TEXT = """
push pull pick place open close move reach touch go find where is the a an to of in on into onto and put it up down
left right front behind above near far small big large tiny middle most
cube block box ball sphere cylinder can egg capsule object thing drawer bowl handle tray plate gripper table
red green blue yellow orange purple pink brown black white gray cyan magenta lime navy olive teal maroon gold
violet turquoise salmon beige
"""
_WORDS = _TEXT.split()
_LATER_TEXT = """
apple lemon peach plum kiwi tomato banana carrot corn potato pepper pear onion radish strawberry cucumber eggplant
mushroom soap sponge carton jar roll bottle basket pan cabinet
take grasp grab lift drop bring lay set hold shut keep carry slide get give
from next beside over inside out at by with are there away top
"""
FIRST_BIN = len(_SPECIAL)
# New tokens go to the end: the shipped embedding knows the others by their number.
_VOCABULARY = [*_SPECIAL, *(f"<bin{i}>" for i in range(-1, STATE_BINS)), *_CHARACTERS, *_WORDS, "\n", *_OPENVLA]
INDEX = {token: i for i, token in enumerate(dict.fromkeys([*_VOCABULARY, *_LATER_TEXT.split()]))}
"""Token -> its number."""
EDITIONS = {"toy": len(dict.fromkeys(_VOCABULARY)), "toy-2": len(INDEX)}
"""What a checkpoint calls the built-in vocabulary it was trained with -> how many of the tokens that one has.

A policy reads with its own edition, whatever was added since: to it, a later word is still one that is spelled.
"""
LATEST = "toy-2"
PAD, BOS, UNKNOWN = 0, 1, 2


@lru_cache(maxsize=4096)
def words(text: str, edition: str = LATEST) -> tuple[int, ...]:
    """Return the tokens of free text, lower-cased; a word that the edition does not know becomes its characters."""
    ids: list[int] = []
    for word in re.findall(r"[a-z0-9'-]+|[^\sa-z0-9]", text.lower()):
        is_known = INDEX.get(word, len(INDEX)) < EDITIONS[edition]
        ids += [INDEX[word]] if is_known else [INDEX.get(c, UNKNOWN) for c in word]
    return tuple(ids)


def structured_rows(count: int, width: int) -> Float[Tensor, "count width"]:
    """Return a starting embedding of ``count`` numbers in a row in which neighbours look alike (sines of the value)."""
    value = torch.linspace(-1, 1, count)[:, None]
    frequency = torch.logspace(-1, 4, width // 2, base=2.0)[None] * torch.pi
    return torch.cat([torch.sin(frequency * value), torch.cos(frequency * value)], dim=1) / width**0.5


def bin_rows() -> slice:
    """Return which rows of the embedding are state bins."""
    return slice(FIRST_BIN, FIRST_BIN + STATE_BINS + 1)


def vocabulary_size(edition: str = LATEST) -> int:
    """Return how many tokens the built-in tokenizer can give."""
    return EDITIONS[edition]
