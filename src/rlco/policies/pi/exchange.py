"""pi0 and pi0.5 between our layout and those of openpi and lerobot. See ``rlco.policies.released.Released``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from rlco.core.errors import unknown_name
from rlco.core.policy import FRONT
from rlco.data.normalise import Codec
from rlco.policies.pi.config import Family, PiConfig
from rlco.policies.pi.interface import SLOTS, Interface
from rlco.policies.pi.layout import EMBEDDING, TIED, UNUSED
from rlco.policies.pi.prompts import STYLE_OF_FAMILY
from rlco.policies.pi.released import (
    camera_count,
    chunks_of,
    config_of,
    family_of,
    require_prompt,
    write_lerobot_files,
    write_openpi_files,
)
from rlco.policies.pi.statistics import NORMALISATION_OF_FAMILY, read_statistics, require_known_processors
from rlco.policies.pi.tokenizer import FileTokenizer
from rlco.policies.released import Described, Released, Told, clipped, require_statistics_read
from rlco.policies.tensor_files import Entry, Shape, Tensors
from rlco.policies.tokenizer_file import TOKENIZER_FILE

_WRITERS: dict[str, Callable[[Path, PiConfig, Interface, str], None]] = {
    "openpi": write_openpi_files,
    "lerobot": write_lerobot_files,
}


def describe(folder: Path, shapes: Mapping[str, Shape], told: Told) -> Described:
    """Return the description of a released checkpoint: sizes from the shapes, the rest from its files and the user."""
    require_known_processors(folder)
    family = family_of(shapes, source=str(folder))
    chunks = chunks_of(folder, family, horizon=told.horizon, executed=told.executed)
    config = config_of(shapes, chunks, source=str(folder))
    tokenizer = told.tokenizer or folder / TOKENIZER_FILE
    if not tokenizer.exists() and told.tokenizer is None:
        raise ValueError(f"'{folder}' has no {TOKENIZER_FILE}: give PaliGemma's (--tokenizer FILE).")
    cameras = _in_order(told.camera) or {SLOTS[0]: FRONT}
    known = camera_count(folder)
    if known is not None and len(cameras) > known:
        raise ValueError(f"'{folder}' was trained with {known} cameras, {len(cameras)} are given: {dict(cameras)}.")
    interface = Interface(
        codec=clipped(_statistics(told.stats or folder, family, told), told),
        prompt=told.prompt or STYLE_OF_FAMILY[family],
        tokenizer=FileTokenizer.open(tokenizer),
        cameras=cameras,
    )
    return Described(config=config, interface=interface)


def adjust(side: Path, found: Described, told: Told, to: str) -> Described:
    """Return a description that is there (in ``side``), with what the user says otherwise."""
    del to
    said = {"--normalisation": told.normalisation, "--floored": told.floored}
    require_statistics_read(side, told, said)
    config, interface = found.config, found.interface
    if told.horizon not in (None, config.horizon):
        raise ValueError(f"'{side}' has action horizon {config.horizon}, not {told.horizon}.")
    changed = replace(
        interface,
        codec=clipped(interface.codec if told.stats is None else _statistics(told.stats, config.family, told), told),
        prompt=told.prompt or interface.prompt,
        tokenizer=interface.tokenizer if told.tokenizer is None else FileTokenizer.open(told.tokenizer),
        cameras=_in_order(told.camera) or interface.cameras,
    )
    executed = config.executed if told.executed is None else told.executed
    return Described(config=replace(config, executed=executed), interface=changed)


def names(file: Tensors, found: Mapping[str, str]) -> dict[str, str]:
    """Return ``found`` with the word embedding once: it is one tensor in pi0 and pi0.5."""
    kept = dict(found)
    if TIED in kept:
        tied = kept.pop(TIED)
        if EMBEDDING in kept and not torch.equal(file.read(tied), file.read(kept[EMBEDDING])):
            raise ValueError(
                f"'{file.path}' has two word embeddings that differ ({tied}, {kept[EMBEDDING]}); they are one tensor "
                "in pi0 and pi0.5."
            )
        kept.setdefault(EMBEDDING, tied)
    return kept


def require_kept(to: str, folder: Path, found: Described) -> None:
    """Raise ``ValueError`` for what no layout of openpi or lerobot says."""
    interface = found.interface
    if found.config.grounding_heads:
        raise ValueError(
            f"'{folder}' has a grounding token (PiConfig.grounding_heads {found.config.grounding_heads}), which no "
            "released layout has a place for: it stays in the layout rlco."
        )
    if interface.codec.state_clip is not None:
        raise ValueError(
            f"'{folder}' clips its states at {interface.codec.state_clip:g}, which no released layout says; "
            "--state-clip 0 takes it away."
        )
    if not isinstance(interface.tokenizer, FileTokenizer):
        raise ValueError(
            f"'{folder}' reads words with the built-in tokenizer, and the released layouts with PaliGemma's: it stays "
            "in the layout rlco."
        )
    require_prompt(to, found.config, interface)


def write(to: str, folder: Path, found: Described, tensors: Mapping[str, Entry], told: Told) -> None:
    """Write the files of a layout beside the weights."""
    del told
    # the type in which the other program keeps the layers; those that stay in 32 bits are always the same
    kinds = {entry.kind for name, entry in tensors.items() if name != UNUSED}
    _WRITERS[to](folder, found.config, found.interface, "bfloat16" if "BF16" in kinds else "float32")


def _statistics(path: Path, family: Family, told: Told) -> Codec:
    found = read_statistics(path)
    for part, mode in found.modes.items():
        if told.normalisation not in (None, mode):
            raise ValueError(
                f"'{found.source}' normalises the {part} by {mode}, not by {told.normalisation} (--normalisation): "
                "leave the option out, or give other statistics (--stats)."
            )
    return found.codec(told.normalisation or NORMALISATION_OF_FAMILY[family], floored=told.floored)


def _in_order(cameras: Mapping[str, str]) -> dict[str, str]:
    if unknown := [slot for slot in cameras if slot not in SLOTS]:
        raise unknown_name("camera slot", unknown[0], SLOTS)
    return {slot: cameras[slot] for slot in SLOTS if slot in cameras}


PI = Released(
    prefixes={"openpi": "", "lerobot": "model."},
    reads=frozenset({"normalisation", "floored"}),
    describe=describe,
    adjust=adjust,
    names=names,
    require_kept=require_kept,
    write=write,
)
