"""OpenVLA between our layout and that of the released files. See ``rlco.policies.released.Released``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

from rlco.core.errors import unknown_name
from rlco.core.policy import FRONT
from rlco.data.normalise import Codec
from rlco.policies.checkpoint import CONFIG, read_object
from rlco.policies.openvla.config import Head, OpenVlaConfig
from rlco.policies.openvla.interface import SLOT, Interface
from rlco.policies.openvla.released import (
    config_of,
    require_gamma_renamed,
    require_same_pictures,
    write_files,
    write_tokenizer,
)
from rlco.policies.openvla.statistics import RELEASED_GRIPPER, WRITTEN_KEY, FoundCodec, find_codec, norm_stats
from rlco.policies.openvla.tokenizer import FileTokenizer
from rlco.policies.released import Described, Released, Told, clipped, require_statistics_read
from rlco.policies.tensor_files import Entry, Shape, Tensors
from rlco.policies.tokenizer_file import TOKENIZER_FILE

_PREFIXES = {"openvla": ""}
_OTHER_PARTS = tuple(
    f"{part}--*" for part in ("action_head", "noisy_action_projector", "proprio_projector", "vision_backbone")
)
"""Files of OpenVLA-OFT: continuous actions, the state, and pictures that are read together with words."""
CROP_AREA = 0.9
"""OpenVLA's programs see the centre of pictures, this share of their area, or all of it."""
_DTYPES = {"BF16": "bfloat16", "F16": "float16"}


def describe(folder: Path, shapes: Mapping[str, Shape], told: Told) -> Described:
    """Return the description of a released checkpoint: sizes from the shapes, the rest from its files and the user."""
    _require_no_other_parts(folder)
    require_gamma_renamed(shapes, source=str(folder))
    require_same_pictures(folder)
    values = read_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    config = _answering(config_of(values, shapes, source=str(folder)), told)
    config = replace(config, coded_slots=config.head != "parallel")  # chunks were trained on zeros
    tokenizer = told.tokenizer or folder / TOKENIZER_FILE
    if not tokenizer.exists() and told.tokenizer is None:
        raise ValueError(f"'{folder}' has no {TOKENIZER_FILE}: give Llama 2's (--tokenizer FILE).")
    found = find_codec(told.stats or folder, key=told.unnorm_key, gripper=told.gripper)
    interface = Interface(
        codec=_clipped(found.codec, told, config, folder),
        prompt=told.prompt or "openvla",
        tokenizer=FileTokenizer.open(tokenizer),
        camera=_camera(told, FRONT),
        crop_area=told.crop_area,
    )
    return _checked(Described(config=config, interface=interface, notes=_notes(found) | _sees(interface)))


def adjust(side: Path, found: Described, told: Told, to: str) -> Described:
    """Return a description that is there (in ``side``), with what the user says otherwise."""
    read_only = {"--gripper": told.gripper} | ({} if to in _PREFIXES else {"--unnorm-key": told.unnorm_key})
    require_statistics_read(side, told, read_only)
    interface, notes = found.interface, {}
    if told.stats is not None:
        read = find_codec(told.stats, key=told.unnorm_key, gripper=told.gripper)
        codec = replace(read.codec, state=interface.codec.state, state_clip=interface.codec.state_clip)
        interface, notes = replace(interface, codec=codec), _notes(read)
    changed = replace(
        interface,
        codec=_clipped(interface.codec, told, found.config, side),
        prompt=told.prompt or interface.prompt,
        tokenizer=interface.tokenizer if told.tokenizer is None else FileTokenizer.open(told.tokenizer),
        camera=_camera(told, interface.camera),
        crop_area=interface.crop_area if told.crop_area is None else told.crop_area,
    )
    notes |= _sees(changed, to=to)
    return _checked(Described(config=_answering(found.config, told), interface=changed, notes=notes))


def names(file: Tensors, found: Mapping[str, str]) -> dict[str, str]:
    """Return ``found``: our modules are called as the released tensors are."""
    del file
    return dict(found)


def require_kept(to: str, folder: Path, found: Described) -> None:
    """Raise ``ValueError`` for what the released layout does not say."""
    config, interface = found.config, found.interface
    added = {
        "grounding token": config.grounding_heads,
        "token of the state": config.proprio,
        f"{config.head} head": config.head != "autoregressive",
        f"hold of {config.hold} control steps": config.hold > 1,
    }
    if more := [name for name, is_there in added.items() if is_there]:
        raise ValueError(
            f"'{folder}' has a {' and a '.join(more)}, which {to} has no place for: it stays in the layout rlco."
        )
    if interface.crop_area not in (None, CROP_AREA):
        raise ValueError(
            f"'{folder}' sees {interface.crop_area:g} of a picture's area, and {to} all of it or {CROP_AREA:g}: it "
            "stays in the layout rlco."
        )
    if not isinstance(interface.tokenizer, FileTokenizer):
        raise ValueError(
            f"'{folder}' reads words with the built-in tokenizer, and {to} with Llama's: it stays in the layout rlco."
        )
    if interface.prompt != "openvla":
        raise ValueError(
            f"{to} prompts in the style 'openvla' only, this policy was trained with '{interface.prompt}'."
        )


def write(to: str, folder: Path, found: Described, tensors: Mapping[str, Entry], told: Told) -> None:
    """Write the files of the layout beside the weights."""
    del to
    kinds = {entry.kind for entry in tensors.values()}
    dtype = _DTYPES.get(kinds.pop(), "float32") if len(kinds) == 1 else "float32"
    statistics = norm_stats(found.interface.codec, key=told.unnorm_key or WRITTEN_KEY)
    write_files(folder, found.config, norm_stats=statistics, dtype=dtype)
    write_tokenizer(folder, found.interface.tokenizer)


def _answering(config: OpenVlaConfig, told: Told) -> OpenVlaConfig:
    """Return ``config`` with the head, the horizon and the executed steps that the user says."""
    if told.head is None and told.horizon is None and told.executed is None:
        return config
    if told.head not in (None, *get_args(Head)):
        raise unknown_name("head", str(told.head), get_args(Head))
    head = told.head or config.head
    if head == "parallel" != config.head and told.horizon is None:
        raise ValueError(
            "The parallel head answers with a chunk of as many control steps as it was trained on: --horizon."
        )
    same = config.horizon if head == config.head else config.hold
    horizon = same if told.horizon is None else told.horizon
    executed = config.executed if horizon == config.horizon else horizon
    return replace(config, head=head, horizon=horizon, executed=executed if told.executed is None else told.executed)


def _camera(told: Told, otherwise: str) -> str:
    if unknown := [slot for slot in told.camera if slot != SLOT]:
        raise unknown_name("camera slot", unknown[0], [SLOT])
    return told.camera.get(SLOT, otherwise)


def _checked(found: Described) -> Described:
    found.interface.tokenizer.require_fits(found.config)
    return found


def _notes(found: FoundCodec) -> dict[str, str]:
    how = ", the released convention" if found.gripper == RELEASED_GRIPPER else ""
    return {"unnorm_key": found.key, "gripper": f"{found.gripper}{how}"}


def _sees(interface: Interface, *, to: str = "") -> dict[str, str]:
    area = interface.crop_area
    if area is None:
        return {"sees": "whole pictures"}
    unsaid = f"; no file of {to} says it: run it with --center_crop True" if to in _PREFIXES else ""
    return {"sees": f"the centre of pictures, {area:g} of their area{unsaid}"}


def _clipped(codec: Codec, told: Told, config: OpenVlaConfig, folder: Path) -> Codec:
    if told.state_clip is not None and not config.proprio:
        raise ValueError(f"--state-clip {told.state_clip:g} changes nothing of '{folder}', which reads no state.")
    return clipped(codec, told)


def _require_no_other_parts(folder: Path) -> None:
    if found := sorted(path.name for pattern in _OTHER_PARTS for path in folder.glob(pattern)):
        raise ValueError(
            f"'{folder}' has {', '.join(found)}: OpenVLA-OFT's parts beside the network, which are not built. Of it, "
            "discrete tokens without state and with one picture are."
        )


OPENVLA = Released(
    prefixes=_PREFIXES,
    reads=frozenset({"unnorm_key", "gripper", "crop_area", "head"}),
    describe=describe,
    adjust=adjust,
    names=names,
    require_kept=require_kept,
    write=write,
)
