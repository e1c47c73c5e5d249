"""Which tensors a checkpoint holds, and what they are called in each layout."""

from __future__ import annotations

from collections.abc import Mapping

from rlco.policies.pi.config import PiConfig
from rlco.policies.pi.network import published_name, without_weights
from rlco.policies.tensor_files import Shape

EMBEDDING = "paligemma_with_expert.paligemma.lm_head.weight"
"""Tied with the input embedding, which therefore has no key of its own in the released files."""
TIED = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
"""The same once more, in files of programs that do not leave it out."""
UNUSED = "paligemma_with_expert.gemma_expert.lm_head.weight"
"""In every released file, used by no forward pass. Carried through conversions; zeros where a source lacks it."""
OURS = "rlco."
"""Prefix of what reinforcement learning adds to a policy: no part of a released layout."""
PREFIXES = {"rlco": "", "openpi": "", "lerobot": "model."}
"""Layout -> what its tensor names begin with."""


def public_name(name: str) -> str:
    """Return the name in a checkpoint of a tensor of ``PiPolicy.state_dict()``."""
    return published_name(name.removeprefix("network.")) if name.startswith("network.") else f"{OURS}{name}"


def network_shapes(config: PiConfig) -> dict[str, Shape]:
    """Return name and shape of every tensor of the network; it takes no memory for them."""
    found = without_weights(config).state_dict()
    return {published_name(name): tuple(value.shape) for name, value in found.items()}


def unused_shape(config: PiConfig) -> Shape:
    """Return the shape of ``UNUSED``."""
    return config.vocabulary, config.expert.width


def require_tensors(found: Mapping[str, Shape], wanted: Mapping[str, Shape], *, source: str) -> None:
    """Raise ``ValueError`` that lists every missing, unexpected and misshaped name: a policy is never partly random."""
    problems = [f"missing {name}" for name in sorted(wanted.keys() - found.keys())]
    problems += [f"unexpected {name}" for name in sorted(found.keys() - wanted.keys())]
    problems += [
        f"{name} has shape {list(found[name])}, needs {list(shape)}"
        for name, shape in sorted(wanted.items())
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    if problems:
        raise ValueError(f"'{source}' does not fit this policy ({len(problems)} keys): {'; '.join(problems)}.")
