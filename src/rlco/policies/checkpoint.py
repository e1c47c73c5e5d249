"""Our checkpoints: ``config.json``, ``model.safetensors`` in the family's public key layout, ``stats.json``.

Where the policy has a tokenizer of its own, ``tokenizer.json`` too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlco.core.errors import unknown_name
from rlco.core.files import replace_folder, write_json
from rlco.data.normalise import Codec, Normaliser
from rlco.policies.layout import UNUSED, public_name, require_tensors, unused_shape
from rlco.policies.pi.config import CONFIGS, PiConfig
from rlco.policies.pi.interface import CONTROL_HZ, SLOTS, Interface
from rlco.policies.pi.network import without_weights
from rlco.policies.pi.policy import PiPolicy
from rlco.policies.pi.tokenizer import open_tokenizer, save_tokenizer
from rlco.policies.tensor_files import Entry, TensorFile, write_tensors

CONFIG, MODEL, STATS = "config.json", "model.safetensors", "stats.json"
WEIGHTS = Path(__file__).parent / "weights"
_RELEASED = " One of openpi or lerobot is read by rlco policies convert SOURCE DEST --to rlco."


def policy_tensors(policy: PiPolicy) -> dict[str, Tensor]:
    """Return every parameter under its published name; the reinforcement-learning heads under ``rlco.``."""
    return {public_name(name): value.contiguous() for name, value in policy.merged_state().items()}


def save_policy(folder: Path, policy: PiPolicy, *, provenance: Mapping[str, Any], half: bool = False) -> None:
    """Write a checkpoint folder, atomically. ``half`` stores 16-bit floats."""

    def write(temporary: Path) -> None:
        write_description(temporary, policy.config, policy.interface, provenance=provenance)
        tensors = {name: value.detach().cpu() for name, value in policy_tensors(policy).items()}
        entries = {name: Entry.of(value.half() if half else value) for name, value in tensors.items()}
        write_tensors(temporary / MODEL, entries)

    replace_folder(folder, write)


def write_description(folder: Path, config: PiConfig, interface: Interface, *, provenance: Mapping[str, Any]) -> None:
    """Write everything of a checkpoint but its tensors."""
    write_json(folder / CONFIG, {"family": config.family, **config.to_json()})
    codec = interface.codec
    normalisers = {"state": codec.state.to_json(), "action": codec.action.to_json()}
    stats = {
        "codec": {**normalisers, "state_clip": codec.state_clip},
        "prompt": interface.prompt,
        "tokenizer": save_tokenizer(interface.tokenizer, folder),
        "cameras": dict(interface.cameras),
        "control_hz": interface.control_hz,
    }
    write_json(folder / STATS, {**stats, "provenance": dict(provenance)})


def read_description(folder: Path) -> tuple[PiConfig, Interface]:
    """Inverse of ``write_description``. Raises ``FileNotFoundError`` or ``ValueError`` in one line."""
    for name in (CONFIG, STATS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"'{folder}' is not a policy checkpoint: '{name}' is missing.{_RELEASED}")
    values = read_object(folder / CONFIG)
    if "family" not in values:
        raise ValueError(f"'{folder}' does not say its family: it is not a checkpoint of ours.{_RELEASED}")
    try:
        config = PiConfig.from_json(values)
        interface = _interface(read_object(folder / STATS), folder)
    except (ValueError, LookupError) as error:
        raise ValueError(f"'{folder}': {error}") from error
    return config, interface


def load_policy(folder: Path) -> PiPolicy:
    """Read a checkpoint folder.

    Raises ``FileNotFoundError`` for a missing file and ``ValueError`` that lists every missing, unexpected and
    misshaped key: a policy is never partly random.
    """
    if (folder / CONFIG).is_file() and not (folder / MODEL).is_file():
        raise FileNotFoundError(f"'{folder}' is not a policy checkpoint: '{MODEL}' is missing.")
    config, interface = read_description(folder)
    policy = PiPolicy(config, interface, network=without_weights(config))
    file = TensorFile(folder / MODEL)
    names = {public_name(name): name for name in policy.state_dict()}
    shapes = {key: tuple(value.shape) for key, value in policy_tensors(policy).items()}
    # written by a conversion that carries it
    wanted = shapes | ({UNUSED: unused_shape(config)} if UNUSED in file.shapes else {})
    require_tensors(file.shapes, wanted, source=str(folder))
    # a copy: what is mapped from the file would change with it, and its odd addresses give other last bits
    tensors = {names[key]: file.read(key).to(torch.float32, copy=True) for key in names}
    policy.load_state_dict(tensors, assign=True)
    return policy


def base_policy(name: str) -> PiPolicy:
    """Return the pretrained base that ships with the package. Raises ``LookupError`` if there is none."""
    folder = WEIGHTS / name
    if not folder.is_dir():
        shipped = [path.name for path in WEIGHTS.iterdir() if path.is_dir()] if WEIGHTS.is_dir() else []
        raise unknown_name("pretrained base", name, shipped)
    return load_policy(folder)


def new_policy(name: str, codec: Codec, *, seed: int) -> PiPolicy:
    """Return a policy with random weights. Raises ``LookupError`` for an unknown name."""
    if name not in CONFIGS:
        raise unknown_name("policy", name, CONFIGS)
    config = CONFIGS[name]()
    return PiPolicy(config, Interface.of_family(config.family, codec), seed=seed)


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object. Raises ``ValueError`` in one line."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"'{path}' cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise ValueError(f"'{path}' does not hold a JSON object.")
    return value


def _interface(stats: Mapping[str, Any], folder: Path) -> Interface:
    unknown = stats.keys() - {"codec", "prompt", "tokenizer", "cameras", "control_hz", "provenance"}
    if unknown:
        raise ValueError(f"{STATS} has unknown fields: {', '.join(sorted(unknown))}.")
    codec = stats.get("codec", {})
    if {"state", "action"} - codec.keys():
        raise ValueError(f"{STATS} has no normalisation of state and action.")
    if stats.get("control_hz") != CONTROL_HZ:
        raise ValueError(
            f"it was trained with control_hz {stats.get('control_hz')}; this version runs {CONTROL_HZ} only."
        )
    cameras = stats.get("cameras", {})
    return Interface(
        codec=Codec(
            state=Normaliser.from_json(codec["state"]),
            action=Normaliser.from_json(codec["action"]),
            state_clip=codec.get("state_clip"),
        ),
        prompt=stats.get("prompt", "missing"),
        tokenizer=open_tokenizer(stats.get("tokenizer", "toy"), folder),
        # a list, of checkpoints made before there were several cameras
        cameras=dict(zip(SLOTS, cameras, strict=False)) if isinstance(cameras, list) else cameras,
    )
