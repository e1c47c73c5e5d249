"""Names that pi0's and pi0.5's released files have beside those of our network."""

from __future__ import annotations

from rlco.policies.pi.config import PiConfig

EMBEDDING = "paligemma_with_expert.paligemma.lm_head.weight"
"""Tied with the input embedding, which therefore has no key of its own in the released files."""
TIED = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
"""The same once more, in files of programs that do not leave it out."""
UNUSED = "paligemma_with_expert.gemma_expert.lm_head.weight"
"""In every released file, used by no forward pass. Carried through conversions; zeros where a source lacks it."""


def carried_shapes(config: PiConfig) -> dict[str, tuple[int, ...]]:
    """Return name and shape of what a file may hold and no policy reads."""
    return {UNUSED: (config.vocabulary, config.expert.width)}
