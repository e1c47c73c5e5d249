"""Our checkpoints: ``config.json``, ``model.safetensors`` in the family's public key layout, ``stats.json``.

Where the policy has a tokenizer of its own, ``tokenizer.json`` too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlco.core.errors import unknown_name
from rlco.core.files import replace_folder, write_json
from rlco.data.normalise import Codec, Normaliser
from rlco.policies.contract import AnyPolicy
from rlco.policies.families import BASE_OF, CONFIGS, AnyInterface, PolicyConfig, empty_policy, family
from rlco.policies.interface import CONTROL_HZ
from rlco.policies.layout import carried_shapes, public_name, require_tensors
from rlco.policies.tensor_files import Entry, TensorFile, write_tensors

CONFIG, MODEL, STATS = "config.json", "model.safetensors", "stats.json"
WEIGHTS = Path(__file__).parent / "weights"
_RELEASED = " One of openpi, lerobot or openvla is read by rlco policies convert SOURCE DEST --to rlco."


def policy_tensors(policy: AnyPolicy) -> dict[str, Tensor]:
    """Return every parameter under its published name; the reinforcement-learning heads under ``rlco.``."""
    return {public_name(name, policy.config): value.contiguous() for name, value in policy.merged_state().items()}


def save_policy(folder: Path, policy: AnyPolicy, *, provenance: Mapping[str, Any], half: bool = False) -> None:
    """Write a checkpoint folder, atomically. ``half`` stores 16-bit floats."""

    def write(temporary: Path) -> None:
        write_description(temporary, policy.config, policy.interface, provenance=provenance)
        tensors = {name: value.detach().cpu() for name, value in policy_tensors(policy).items()}
        entries = {name: Entry.of(value.half() if half else value) for name, value in tensors.items()}
        write_tensors(temporary / MODEL, entries)

    replace_folder(folder, write)


def write_description(
    folder: Path, config: PolicyConfig, interface: AnyInterface, *, provenance: Mapping[str, Any]
) -> None:
    """Write everything of a checkpoint but its tensors."""
    write_json(folder / CONFIG, {"family": config.family, **config.to_json()})
    codec = interface.codec
    normalisers = {"state": codec.state.to_json(), "action": codec.action.to_json()}
    stats = {
        "codec": {**normalisers, "state_clip": codec.state_clip},
        "control_hz": interface.control_hz,
        **interface.to_json(folder),
    }
    write_json(folder / STATS, {**stats, "provenance": dict(provenance)})


def read_description(folder: Path) -> tuple[PolicyConfig, AnyInterface]:
    """Inverse of ``write_description``. Raises ``FileNotFoundError`` or ``ValueError`` in one line."""
    for name in (CONFIG, STATS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"'{folder}' is not a policy checkpoint: '{name}' is missing.{_RELEASED}")
    values = read_object(folder / CONFIG)
    if "family" not in values:
        raise ValueError(f"'{folder}' does not say its family: it is not a checkpoint of ours.{_RELEASED}")
    try:
        own = family(values["family"])
        config = own.config_from_json(values)
        interface = _interface(read_object(folder / STATS), folder, read=own.interface_from_json)
    except (ValueError, LookupError) as error:
        raise ValueError(f"'{folder}': {error}") from error
    return config, interface


def load_policy(folder: Path) -> AnyPolicy:
    """Read a checkpoint folder.

    Raises ``FileNotFoundError`` for a missing file and ``ValueError`` that lists every missing, unexpected and
    misshaped key: a policy is never partly random.
    """
    if (folder / CONFIG).is_file() and not (folder / MODEL).is_file():
        raise FileNotFoundError(f"'{folder}' is not a policy checkpoint: '{MODEL}' is missing.")
    config, interface = read_description(folder)
    policy = empty_policy(config, interface)
    file = TensorFile(folder / MODEL)
    names = {public_name(name, config): name for name in policy.state_dict()}
    shapes = {key: tuple(value.shape) for key, value in policy_tensors(policy).items()}
    # written by a conversion that carries them
    carried = {name: shape for name, shape in carried_shapes(config).items() if name in file.shapes}
    require_tensors(file.shapes, shapes | carried, source=str(folder))
    # a copy: what is mapped from the file would change with it, and its odd addresses give other last bits
    tensors = {names[key]: file.read(key).to(torch.float32, copy=True) for key in names}
    policy.load_state_dict(tensors, assign=True)
    return policy


def base_policy(name: str) -> AnyPolicy:
    """Return the pretrained base that ships with the package. Raises ``LookupError`` if there is none."""
    folder = base_folder(name)
    if folder is None:
        shipped = [path.name for path in WEIGHTS.iterdir() if path.is_dir()] if WEIGHTS.is_dir() else []
        raise unknown_name(
            "pretrained base", name, [*shipped, *(other for other, of in BASE_OF.items() if of in shipped)]
        )
    policy = load_policy(folder)
    return policy.answering_as(CONFIGS[name]()) if name in BASE_OF else policy


def base_folder(name: str) -> Path | None:
    """Return the folder of the base that ``name`` starts from, or None if none is shipped."""
    folder = WEIGHTS / BASE_OF.get(name, name)
    return folder if folder.is_dir() else None


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object. Raises ``ValueError`` in one line."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"'{path}' cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise ValueError(f"'{path}' does not hold a JSON object.")
    return value


def _interface(stats: Mapping[str, Any], folder: Path, *, read: Callable[..., Any]) -> AnyInterface:
    own = {k: v for k, v in stats.items() if k not in ("codec", "control_hz", "provenance")}
    codec = stats.get("codec", {})
    if {"state", "action"} - codec.keys():
        raise ValueError(f"{STATS} has no normalisation of state and action.")
    if stats.get("control_hz") != CONTROL_HZ:
        raise ValueError(
            f"it was trained with control_hz {stats.get('control_hz')}; this version runs {CONTROL_HZ} only."
        )
    codec = Codec(
        state=Normaliser.from_json(codec["state"]),
        action=Normaliser.from_json(codec["action"]),
        state_clip=codec.get("state_clip"),
    )
    return read(own, codec, folder)
