"""Bring a checkpoint from one key layout into another, tensor by tensor: nothing is computed, every bit is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from rlco.core.errors import unknown_name
from rlco.core.files import replace_folder
from rlco.core.policy import FRONT
from rlco.core.progress import Reporter
from rlco.data.normalise import Codec
from rlco.policies.checkpoint import CONFIG, MODEL, read_description, read_object, write_description
from rlco.policies.layout import (
    EMBEDDING,
    OURS,
    PREFIXES,
    TIED,
    UNUSED,
    network_shapes,
    public_name,
    require_tensors,
    unused_shape,
)
from rlco.policies.pi.config import Family, PiConfig
from rlco.policies.pi.interface import SLOTS, Interface
from rlco.policies.pi.network import without_weights
from rlco.policies.pi.policy import PiPolicy
from rlco.policies.pi.prompts import STYLE_OF_FAMILY
from rlco.policies.pi.tokenizer import TOKENIZER_FILE, FileTokenizer
from rlco.policies.released import (
    camera_count,
    chunks_of,
    config_of,
    family_of,
    require_prompt,
    with_chunks,
    write_lerobot_files,
    write_openpi_files,
)
from rlco.policies.statistics import (
    NORMALISATION_OF_FAMILY,
    Normalisation,
    read_statistics,
    require_known_processors,
)
from rlco.policies.tensor_files import Entry, TensorFile, write_tensors

SIDECAR = "rlco"
"""Folder inside a checkpoint in a released layout that keeps what the layout has no place for: other programs ignore
it, and a conversion back finds it."""
HEADS = "heads.safetensors"
DIGEST = "weights.sha256"
"""Of the weights that the side folder belongs to, as ``sha256sum`` writes it. The whole file is read for it: training
by another program leaves names, shapes and size as they were. That adds seconds to writing 14 GB."""
_WRITERS: dict[str, Callable[[Path, PiConfig, Interface, str], None]] = {
    "openpi": write_openpi_files,
    "lerobot": write_lerobot_files,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What the user says of a source: needed where its files do not say it, refused where they say otherwise."""

    family: Family | None = None
    horizon: int | None = None
    """Predicted control steps."""
    executed: int | None = None
    """Control steps of a chunk that are executed; the source's own by default, else the whole chunk."""
    stats: Path | None = None
    """File of statistics, instead of the source's."""
    normalisation: Normalisation | None = None
    """quantile or mean-std; what the source says by default, else what its family was released with."""
    floored: bool = False
    """Of statistics that are read: widen dimensions that hardly moved to our least ranges."""
    state_clip: float | None = None
    """Cut normalised states to +- this; by default as the source does, a released one not at all. 0: not at all."""
    tokenizer: Path | None = None
    """A tokenizer.json, instead of the source's."""
    prompt: str | None = None
    """pi05, pi05_padded32 (lerobot up to 0.4.4) or plain; what the source says by default, else the family's own."""
    camera: Mapping[str, str] = field(default_factory=dict)
    """Published slot -> our camera; the source's own by default, else the front camera in base_0_rgb."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A checkpoint in any layout, checked but not read."""

    folder: Path
    layout: str
    file: TensorFile
    names: Mapping[str, str]
    """Public name -> name in the file; the network's, and the expert's unused head where there is one."""
    config: PiConfig
    interface: Interface
    heads: Mapping[str, Entry]
    """What reinforcement learning added, empty where the source has none."""


def convert(source: Path, destination: Path, to: str, told: Told, *, reporter: Reporter | None = None) -> Source:
    """Write ``source`` to ``destination`` in the layout ``to`` (a key of ``PREFIXES``); return what was read.

    The destination appears complete or not at all, and must not exist. Raises ``ValueError`` or ``LookupError`` in one
    line before anything is written.
    """
    if to not in PREFIXES:
        raise unknown_name("layout", to, PREFIXES)
    _require_free(destination)
    found = open_source(source, told)
    if to != "rlco":
        _require_published(found)
        require_prompt(to, found.config, found.interface)

    def write(folder: Path) -> None:
        heads, network = {**(found.heads or _fresh_heads(found))}, _network(found, to)
        if to == "rlco":
            _describe(folder, found)
            write_tensors(folder / MODEL, network | heads, reporter=reporter)
        else:
            _WRITERS[to](folder, found.config, found.interface, _precision(found))
            write_tensors(folder / MODEL, network, reporter=reporter)
            (folder / SIDECAR).mkdir()
            _describe(folder / SIDECAR, found)
            write_tensors(folder / SIDECAR / HEADS, heads)
            (folder / SIDECAR / DIGEST).write_text(digest_line(folder / MODEL))
        _require_free(destination)  # somebody may have made it meanwhile

    replace_folder(destination, write)
    return found


def open_source(folder: Path, told: Told) -> Source:
    """Recognise a checkpoint folder and check it completely, but for the values of its tensors."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no checkpoint folder '{folder}'.")
    file = TensorFile(folder / MODEL)
    layout = layout_of(folder, file)
    ours, names = _names(file, layout)
    shapes = {name: file.shapes[key] for name, key in names.items()}
    if told.family is not None and told.family != (family := family_of(shapes, source=str(folder))):
        raise ValueError(f"'{folder}' is of family {family}, not {told.family}.")
    side = folder if layout == "rlco" else folder / SIDECAR
    if layout != "rlco" and side.is_dir():
        _require_same_weights(side, file.path)
    config, interface = _known(side, told) if (side / CONFIG).is_file() else _inferred(folder, shapes, told)
    wanted = network_shapes(config)
    if UNUSED in shapes:
        wanted[UNUSED] = unused_shape(config)
    require_tensors(shapes, wanted, source=str(folder))
    if layout != "rlco" and (side / HEADS).is_file():
        extra = TensorFile(side / HEADS)
        heads = {name: Entry.from_file(extra, name) for name in extra.shapes}
    else:
        heads = {name: Entry.from_file(file, name) for name in ours}
    if heads:
        fresh = _fresh_heads_of(config, interface)
        needed = {name: entry.shape for name, entry in fresh.items()}
        require_tensors({n: e.shape for n, e in heads.items()}, needed, source=str(folder))
    return Source(folder=folder, layout=layout, file=file, names=names, config=config, interface=interface, heads=heads)


def layout_of(folder: Path, file: TensorFile) -> str:
    """Return which of ``PREFIXES`` a checkpoint folder is in, by its files and names. Raises ``ValueError`` if none."""
    values = read_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if "family" in values:
        return "rlco"
    if any(name.startswith("model.paligemma_with_expert.") for name in file.shapes):
        return "lerobot"
    if any(name.startswith("paligemma_with_expert.") for name in file.shapes):
        return "openpi"
    raise ValueError(
        f"'{folder}' is a checkpoint of no layout that is known ({', '.join(PREFIXES)}): its tensors are called "
        f"{', '.join(sorted(file.shapes)[:3]) or 'nothing'}."
    )


def _names(file: TensorFile, layout: str) -> tuple[list[str], dict[str, str]]:
    """Return the names under ``rlco.``, and public name -> name in the file for all others."""
    prefix = PREFIXES[layout]
    ours = [key for key in file.shapes if layout == "rlco" and key.startswith(OURS)]
    names = {_public(key, prefix): key for key in file.shapes if key not in ours}
    if TIED in names:
        tied = names.pop(TIED)
        if EMBEDDING in names and not torch.equal(file.read(tied), file.read(names[EMBEDDING])):
            raise ValueError(
                f"'{file.path}' has two word embeddings that differ ({tied}, {names[EMBEDDING]}); they are one tensor "
                "in pi0 and pi0.5."
            )
        names.setdefault(EMBEDDING, tied)
    return ours, names


def _public(key: str, prefix: str) -> str:
    """Return the public name; a key of another layout than its file's keeps a name that nothing asks for."""
    return key.removeprefix(prefix) if key.startswith(prefix) else f"{key} (without '{prefix}')"


def _known(side: Path, told: Told) -> tuple[PiConfig, Interface]:
    """Return the description that is there, with what the user says otherwise."""
    _require_statistics_read(side, told)
    config, interface = read_description(side)
    config = with_chunks(config, horizon=told.horizon, executed=told.executed, source=str(side))
    return config, replace(
        interface,
        codec=_clipped(interface.codec if told.stats is None else _statistics(told.stats, config.family, told), told),
        prompt=told.prompt or interface.prompt,
        tokenizer=interface.tokenizer if told.tokenizer is None else FileTokenizer.open(told.tokenizer),
        cameras=_in_order(told.camera) or interface.cameras,
    )


def _inferred(folder: Path, shapes: Mapping[str, tuple[int, ...]], told: Told) -> tuple[PiConfig, Interface]:
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
    return config, Interface(
        codec=_clipped(_statistics(told.stats or folder, family, told), told),
        prompt=told.prompt or STYLE_OF_FAMILY[family],
        tokenizer=FileTokenizer.open(tokenizer),
        cameras=cameras,
    )


def _require_statistics_read(side: Path, told: Told) -> None:
    """Raise ``ValueError`` for what is said of statistics where none are read."""
    said = [f"--normalisation {told.normalisation}"] * (told.normalisation is not None) + ["--floored"] * told.floored
    if said and told.stats is None:
        raise ValueError(
            f"'{side}' has a normalisation of its own, of which {' and '.join(said)} changes nothing: give it with "
            "--stats FILE only."
        )


def _statistics(path: Path, family: Family, told: Told) -> Codec:
    found = read_statistics(path)
    for part, mode in found.modes.items():
        if told.normalisation not in (None, mode):
            raise ValueError(
                f"'{found.source}' normalises the {part} by {mode}, not by {told.normalisation} (--normalisation): "
                "leave the option out, or give other statistics (--stats)."
            )
    return found.codec(told.normalisation or NORMALISATION_OF_FAMILY[family], floored=told.floored)


def _clipped(codec: Codec, told: Told) -> Codec:
    # 0 becomes None
    return codec if told.state_clip is None else replace(codec, state_clip=told.state_clip or None)


def _in_order(cameras: Mapping[str, str]) -> dict[str, str]:
    if unknown := [slot for slot in cameras if slot not in SLOTS]:
        raise unknown_name("camera slot", unknown[0], SLOTS)
    return {slot: cameras[slot] for slot in SLOTS if slot in cameras}


def _require_published(found: Source) -> None:
    if found.config.grounding_heads:
        raise ValueError(
            f"'{found.folder}' has a grounding token (PiConfig.grounding_heads {found.config.grounding_heads}), which "
            "no released layout has a place for: it stays in the layout rlco."
        )
    if found.interface.codec.state_clip is not None:
        raise ValueError(
            f"'{found.folder}' clips its states at {found.interface.codec.state_clip:g}, which no released layout "
            "says; --state-clip 0 takes it away."
        )
    if not isinstance(found.interface.tokenizer, FileTokenizer):
        raise ValueError(
            f"'{found.folder}' reads words with the built-in tokenizer, and the released layouts with PaliGemma's: it "
            "stays in the layout rlco."
        )


def _network(found: Source, to: str) -> dict[str, Entry]:
    """Return the tensors of the public layout; a released one always has the expert's unused head."""
    entries = {name: Entry.from_file(found.file, key) for name, key in found.names.items()}
    if to != "rlco" and UNUSED not in entries:
        kind = entries[EMBEDDING].kind
        entries[UNUSED] = Entry(shape=unused_shape(found.config), kind=kind, read=None)
    return {PREFIXES[to] + name: entry for name, entry in entries.items()}


def _precision(found: Source) -> str:
    """Return the type in which the other program keeps the layers; those that stay in 32 bits are always the same."""
    kinds = {found.file.kinds[key] for name, key in found.names.items() if name != UNUSED}
    return "bfloat16" if "BF16" in kinds else "float32"


def digest_line(weights: Path) -> str:
    """Return the line of ``DIGEST``."""
    with weights.open("rb") as opened:
        return f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  ../{weights.name}\n"


def _require_same_weights(side: Path, weights: Path) -> None:
    kept = side / DIGEST
    if not kept.is_file() or kept.read_text() != digest_line(weights):
        raise ValueError(
            f"'{side}' describes other weights than '{weights}', which changed after the conversion: delete '{side}' "
            "to go by the other program's files."
        )


def _fresh_heads(found: Source) -> dict[str, Entry]:
    return _fresh_heads_of(found.config, found.interface)


def _fresh_heads_of(config: PiConfig, interface: Interface) -> dict[str, Entry]:
    """Return the heads that reinforcement learning starts from."""
    policy = PiPolicy(config, interface, network=without_weights(config))
    named = {public_name(name): value for name, value in policy.state_dict().items()}
    return {name: Entry.of(value) for name, value in named.items() if name.startswith(OURS)}


def _describe(folder: Path, found: Source) -> None:
    provenance = {"converted": {"from": found.folder.name, "layout": found.layout}}
    write_description(folder, found.config, found.interface, provenance=provenance)


def _require_free(destination: Path) -> None:
    if destination.exists():
        raise ValueError(f"'{destination}' exists already: choose a folder that does not.")
