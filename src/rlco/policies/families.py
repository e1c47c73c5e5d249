"""The policy families, and everything that is told apart by family. Nothing above this folder asks which one it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from rlco.core.errors import unknown_name
from rlco.core.scene import STATE_DIM
from rlco.data.normalise import Codec
from rlco.policies.contract import AnyPolicy, Rehearsal
from rlco.policies.openvla import config as openvla
from rlco.policies.openvla.interface import Interface as OpenVlaInterface
from rlco.policies.openvla.network import without_weights as openvla_without_weights
from rlco.policies.openvla.policy import OpenVlaPolicy
from rlco.policies.openvla.rehearsal import OpenVlaRehearsal
from rlco.policies.pi import config as pi
from rlco.policies.pi.interface import Interface as PiInterface
from rlco.policies.pi.layout import carried_shapes
from rlco.policies.pi.network import published_name
from rlco.policies.pi.network import without_weights as pi_without_weights
from rlco.policies.pi.policy import PiPolicy
from rlco.policies.pi.rehearsal import PiRehearsal

PolicyConfig = pi.PiConfig | openvla.OpenVlaConfig
AnyInterface = PiInterface | OpenVlaInterface


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """How policies of a family are made and kept."""

    configs: Mapping[str, Callable[[], Any]]
    """Named sizes."""
    config_from_json: Callable[[dict[str, Any]], Any]
    interface: Callable[[Any, Codec], Any]
    """The family's own way of reading the world, with the built-in vocabulary."""
    interface_from_json: Callable[[Mapping[str, Any], Codec, Path], Any]
    """From a checkpoint's fields and folder; ``interface.to_json(folder)`` is its inverse."""
    policy: Callable[..., Any]
    without_weights: Callable[[Any], nn.Module]
    published_name: Callable[[str], str]
    """Name of a tensor of the network -> its name in released files."""
    carried: Callable[[Any], Mapping[str, tuple[int, ...]]]
    """Name and shape of what released files hold and no policy reads."""
    explores_by: tuple[str, ...]
    """Which parts of ``Exploration`` it reads."""
    takes: tuple[str, ...]
    """Which optional ways to be used it has: crop_area (``crop_pictures``), temperature (``at_temperature``)."""
    rehearsal: Callable[[Any, int, int], Rehearsal]
    """Of a policy, a number of cameras and one of prompt tokens."""


_PI = Family(
    configs=pi.CONFIGS,
    config_from_json=pi.PiConfig.from_json,
    interface=lambda config, codec: PiInterface.of_family(config.family, codec),
    interface_from_json=PiInterface.from_json,
    policy=PiPolicy,
    without_weights=pi_without_weights,
    published_name=published_name,
    carried=carried_shapes,
    explores_by=("flow", "value_from"),
    takes=(),
    rehearsal=PiRehearsal,
)
_OPENVLA = Family(
    configs=openvla.CONFIGS,
    config_from_json=openvla.OpenVlaConfig.from_json,
    interface=lambda _, codec: OpenVlaInterface(codec=codec),
    interface_from_json=OpenVlaInterface.from_json,
    policy=OpenVlaPolicy,
    without_weights=lambda config: openvla_without_weights(config, state_dim=STATE_DIM),
    published_name=lambda name: name,
    carried=lambda _: {},
    explores_by=("tokens",),
    takes=("crop_area", "temperature"),
    rehearsal=OpenVlaRehearsal,
)
FAMILIES: dict[str, Family] = {"pi05": _PI, "pi0": _PI, "openvla": _OPENVLA}
"""Name in ``config.json`` -> family."""
CONFIGS: dict[str, Callable[[], Any]] = {**pi.CONFIGS, **openvla.CONFIGS}
"""Every named size."""
BASE_OF = {"openvla-oft-nano": "openvla-nano"}
"""Sizes that start from the shipped base of another: the same weights, answering in another way."""


def family(name: str) -> Family:
    """Return the family of that name. Raises ``LookupError`` that lists them."""
    if name not in FAMILIES:
        raise unknown_name("policy family", name, FAMILIES)
    return FAMILIES[name]


def new_policy(name: str, codec: Codec, *, seed: int) -> AnyPolicy:
    """Return a policy with random weights. Raises ``LookupError`` for an unknown name."""
    if name not in CONFIGS:
        raise unknown_name("policy", name, CONFIGS)
    config = CONFIGS[name]()
    own = family(config.family)
    return own.policy(config, own.interface(config, codec), seed=seed)


def empty_policy(config: PolicyConfig, interface: AnyInterface) -> AnyPolicy:
    """Return a policy whose network has shapes and no memory, to be loaded."""
    own = family(config.family)
    return own.policy(config, interface, network=own.without_weights(config))
