"""Checkpoints: ``config.json``, ``model.safetensors`` in the family's public key layout, ``stats.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlco.core.errors import unknown_name
from rlco.core.files import replace_folder, write_json
from rlco.data.normalise import Codec, Normaliser
from rlco.policies.pi.config import CONFIGS, PiConfig
from rlco.policies.pi.policy import PiPolicy

FILES = ("config.json", "model.safetensors", "stats.json")
WEIGHTS = Path(__file__).parent / "weights"
PROMPT, CAMERAS, CONTROL_HZ = "pi05", ["front"], 5
"""How every policy of this version is prompted and run; another checkpoint is refused."""


def policy_tensors(policy: PiPolicy) -> dict[str, Tensor]:
    """Return every parameter under its published name; the reinforcement-learning heads under ``rlco.``."""
    return {_public_name(name): value.contiguous() for name, value in policy.state_dict().items()}


def save_policy(folder: Path, policy: PiPolicy, *, provenance: Mapping[str, Any], half: bool = False) -> None:
    """Write a checkpoint folder, atomically. ``half`` stores 16-bit floats."""

    def write(temporary: Path) -> None:
        write_json(temporary / "config.json", {"family": "pi05", **policy.config.to_json()})
        tensors = policy_tensors(policy)
        save_file({k: v.half() if half else v for k, v in tensors.items()}, temporary / "model.safetensors")
        codec = {k: {"low": v.low, "high": v.high} for k, v in _normalisers(policy.codec).items()}
        stats = {"codec": codec, "prompt": PROMPT, "cameras": CAMERAS, "control_hz": CONTROL_HZ}
        write_json(temporary / "stats.json", {**stats, "provenance": dict(provenance)})

    replace_folder(folder, write)


def load_policy(folder: Path) -> PiPolicy:
    """Read a checkpoint folder.

    Raises ``FileNotFoundError`` for a missing file and ``ValueError`` that lists every missing, unexpected and
    misshaped key: a policy is never partly random.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"'{folder}' is not a policy checkpoint: '{name}' is missing.")
    config = json.loads((folder / "config.json").read_text())
    family = config.pop("family", None)
    if family != "pi05":
        raise ValueError(f"'{folder}' holds a policy of family '{family}', known: pi05.")
    stats = json.loads((folder / "stats.json").read_text())
    if "codec" not in stats or {"state", "action"} - stats["codec"].keys():
        raise ValueError(f"'{folder / 'stats.json'}' has no normalisation of state and action.")
    known = {"prompt": PROMPT, "cameras": CAMERAS, "control_hz": CONTROL_HZ}
    for name, value in known.items():
        if stats.get(name) != value:
            raise ValueError(f"'{folder}' was trained with {name} {stats.get(name)}; this version runs {value} only.")
    normalisers = {k: Normaliser(low=tuple(v["low"]), high=tuple(v["high"])) for k, v in stats["codec"].items()}
    policy = PiPolicy(PiConfig.from_json(config), Codec(**normalisers))
    try:
        tensors = load_file(folder / "model.safetensors")
    except SafetensorError as error:
        raise ValueError(f"'{folder / 'model.safetensors'}' is damaged: {error}.") from error
    load_tensors(policy, tensors, source=str(folder))
    return policy


def load_tensors(policy: PiPolicy, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Load published names strictly; see ``load_policy``."""
    own = policy.state_dict()
    names = {_public_name(name): name for name in own}
    problems = [f"missing {key}" for key in sorted(names.keys() - tensors.keys())]
    problems += [f"unexpected {key}" for key in sorted(tensors.keys() - names.keys())]
    problems += [
        f"{key} has shape {list(tensors[key].shape)}, needs {list(own[name].shape)}"
        for key, name in sorted(names.items())
        if key in tensors and tensors[key].shape != own[name].shape
    ]
    if problems:
        raise ValueError(f"'{source}' does not fit this policy ({len(problems)} keys): {'; '.join(problems)}.")
    policy.load_state_dict({name: tensors[key].to(own[name].dtype) for key, name in names.items()})


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
    return PiPolicy(CONFIGS[name](), codec, seed=seed)


def _public_name(name: str) -> str:
    return name.removeprefix("network.") if name.startswith("network.") else f"rlco.{name}"


def _normalisers(codec: Codec) -> dict[str, Normaliser]:
    return {"state": codec.state, "action": codec.action}
