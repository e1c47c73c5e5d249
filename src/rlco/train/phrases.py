"""What things in randomised pictures are called: phrases that fit one of them and no other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from rlco.engines.mujoco.randomised import Pictures
from rlco.engines.mujoco.things.kinds import KIND_NAMES, PLAIN
from rlco.engines.mujoco.things.pieces import COLOURS

_COLOURS = tuple(COLOURS)
_OTHER_NOUNS = {
    "cube": ("cube", "cube", "block", "box"),
    "box": ("box", "block"),
    "ball": ("ball", "sphere"),
    "can": ("can", "cylinder"),
    "drawer": ("drawer", "drawer", "cabinet"),
}
"""Where a kind has more nouns than its name."""
_ALSO_FITS = {
    "box": ("carton", "soap", "sponge"),
    "block": ("carton", "soap", "sponge"),
    "ball": ("orange", "apple", "peach", "tomato", "onion"),
    "sphere": ("orange", "apple", "peach", "tomato", "onion"),
    "can": ("jar", "roll"),
    "cylinder": ("jar", "roll", "bottle", "capsule"),
    "egg": ("lime", "plum", "kiwi", "potato"),
}
"""Kinds that a noun fits beside those that are called so: the noun alone does not single one out."""
_ANYTHING = ("object", "thing")
_PLAIN_KINDS = frozenset(kind.name for kind in PLAIN)
_BIGGER = 1.15
"""How much larger the big one is than the next, at least."""


def nouns(kind: str) -> tuple[str, ...]:
    """Return what a kind is called, the frequent ones more than once."""
    return _OTHER_NOUNS.get(kind, (kind,))


def kinds_of(noun: str) -> frozenset[str]:
    """Return every kind that a noun fits."""
    if noun in _ANYTHING:
        return frozenset(KIND_NAMES)
    return frozenset(kind for kind in KIND_NAMES if noun in nouns(kind)) | frozenset(_ALSO_FITS.get(noun, ()))


_FITS = {
    noun: np.array([kind in kinds_of(noun) for kind in KIND_NAMES])
    for noun in {*_ANYTHING, *(noun for kind in KIND_NAMES for noun in nouns(kind))}
}


def phrase(pictures: Pictures, row: int, thing: int, rng: np.random.Generator) -> str:
    """Return words for a shown thing, such as "red cube", "apple" or "big white object", that fit no other shown one.

    Where eight draws found none that single it out: its colour and its usual noun, which in pictures that were
    rendered are enough.
    """
    kind = KIND_NAMES[pictures.kind[row, thing]]
    colour = _COLOURS[pictures.colour[row, thing]]
    shares = (0.15, 0.92, 0.75) if kind in _PLAIN_KINDS else (0.1, 0.3, 0.95)
    for _ in range(8):
        with_size, with_colour, with_noun = (rng.random(3) < shares).tolist()
        if not (with_colour or with_noun):
            continue
        noun = pick(nouns(kind) if with_noun else _ANYTHING, rng)
        fits = pictures.is_shown[row] & _FITS[noun][pictures.kind[row]]
        if with_colour:
            fits &= pictures.colour[row] == pictures.colour[row, thing]
        size = _size_word(pictures, row, thing, fits) if with_size else ""
        if size or fits.sum() == 1:
            return " ".join(filter(None, (size, colour if with_colour else "", noun)))
    return f"{colour} {nouns(kind)[0]}"


def _size_word(pictures: Pictures, row: int, thing: int, fits: Bool[ndarray, " O"]) -> str:
    """Return "big" or "small" where the thing is clearly the largest or the smallest that fits, else nothing.

    One that nothing is like is compared with all that is shown.
    """
    size = pictures.half_m[row].max(1)
    among = fits if fits.sum() > 1 else pictures.is_shown[row]
    others = size[among & (np.arange(len(size)) != thing)]
    if len(others) and size[thing] > _BIGGER * others.max():
        return "big"
    if len(others) and _BIGGER * size[thing] < others.min():
        return "small"
    return ""


def pick(options: Sequence[str], rng: np.random.Generator) -> str:
    """Return one of ``options``: ``Generator.choice`` makes an array of them at every call, ten times slower."""
    return options[int(rng.integers(len(options)))]
