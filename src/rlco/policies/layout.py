"""Which tensors a checkpoint holds, and what they are called in it."""

from __future__ import annotations

from collections.abc import Mapping

from rlco.policies.families import PolicyConfig, family
from rlco.policies.tensor_files import Shape

OURS = "rlco."
"""Prefix of what reinforcement learning adds to a policy: no part of a released layout."""


def public_name(name: str, config: PolicyConfig) -> str:
    """Return the name in a checkpoint of a tensor of a policy's ``state_dict()``."""
    own = family(config.family)
    return own.published_name(name.removeprefix("network.")) if name.startswith("network.") else f"{OURS}{name}"


def network_shapes(config: PolicyConfig) -> dict[str, Shape]:
    """Return name and shape of every tensor of the network; it takes no memory for them."""
    own = family(config.family)
    found = own.without_weights(config).state_dict()
    return {own.published_name(name): tuple(value.shape) for name, value in found.items()}


def carried_shapes(config: PolicyConfig) -> dict[str, Shape]:
    """Return name and shape of what released files hold, our files may hold, and no policy reads."""
    return dict(family(config.family).carried(config))


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
