"""Bring a checkpoint from one key layout into another, tensor by tensor: nothing is computed, every bit is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlco.core.errors import unknown_name
from rlco.core.files import replace_folder
from rlco.core.progress import Reporter
from rlco.policies.checkpoint import CONFIG, MODEL, read_description, read_object, write_description
from rlco.policies.families import empty_policy, family
from rlco.policies.layout import OURS, carried_shapes, network_shapes, public_name, require_tensors
from rlco.policies.openvla.exchange import OPENVLA
from rlco.policies.pi.exchange import PI
from rlco.policies.released import Described, Released, Told
from rlco.policies.tensor_files import Entry, TensorFile, Tensors, open_tensors, write_tensors

RELEASED: dict[str, Released] = {"pi05": PI, "pi0": PI, "openvla": OPENVLA}
"""Family -> its exchange with other programs."""
RLCO = "rlco"
LAYOUTS: dict[str, Released | None] = {RLCO: None, "openpi": PI, "lerobot": PI, "openvla": OPENVLA}
"""Layout -> whose it is; ours is every family's."""
_MARKS = {
    "model.paligemma_with_expert.": "lerobot",
    "paligemma_with_expert.": "openpi",
    "vision_backbone.": "openvla",
}
"""How a tensor's name begins -> the layout that has such names."""
SIDECAR = "rlco"
"""Folder inside a checkpoint in a released layout that keeps what the layout has no place for: other programs ignore
it, and a conversion back finds it."""
HEADS = "heads.safetensors"
DIGEST = "weights.sha256"
"""Of the weights that the side folder belongs to, as ``sha256sum`` writes it. The whole file is read for it: training
by another program leaves names, shapes and size as they were. That adds seconds to writing 14 GB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A checkpoint in any layout, checked but not read."""

    folder: Path
    layout: str
    file: Tensors
    names: Mapping[str, str]
    """Public name -> name in the file; the network's, and what is carried where it is there."""
    described: Described
    heads: Mapping[str, Entry]
    """What reinforcement learning added, empty where the source has none."""

    @property
    def config(self) -> Any:  # noqa: ANN401  (the family's)
        """Return the sizes."""
        return self.described.config

    @property
    def interface(self) -> Any:  # noqa: ANN401
        """Return how it reads the world."""
        return self.described.interface


def convert(source: Path, destination: Path, to: str, told: Told, *, reporter: Reporter | None = None) -> Source:
    """Write ``source`` to ``destination`` in the layout ``to`` (a key of ``LAYOUTS``); return what was read.

    The destination appears complete or not at all, and must not exist. Raises ``ValueError`` or ``LookupError`` in one
    line before anything is written.
    """
    if to not in LAYOUTS:
        raise unknown_name("layout", to, LAYOUTS)
    _require_free(destination)
    found = open_source(source, told, to=to)
    if to != RLCO:
        own = RELEASED[found.config.family]
        if to not in own.prefixes:
            raise ValueError(
                f"'{source}' is of family {found.config.family}, which {to} does not keep; layouts: {RLCO}, "
                f"{', '.join(own.prefixes)}."
            )
        own.require_kept(to, source, found.described)

    def write(folder: Path) -> None:
        network = _network(found, to)
        if to == RLCO:
            _describe(folder, found)
            write_tensors(folder / MODEL, network | _heads(found), reporter=reporter)
        else:
            own = RELEASED[found.config.family]
            own.write(to, folder, found.described, network, told)
            published = {own.prefixes[to] + name: entry for name, entry in network.items()}
            write_tensors(folder / MODEL, published, reporter=reporter)
            (folder / SIDECAR).mkdir()
            _describe(folder / SIDECAR, found)
            write_tensors(folder / SIDECAR / HEADS, _heads(found))
            (folder / SIDECAR / DIGEST).write_text(digest_line(folder / MODEL))
        _require_free(destination)  # somebody may have made it meanwhile

    replace_folder(destination, write)
    return found


def open_source(folder: Path, told: Told, *, to: str) -> Source:
    """Recognise a checkpoint folder and check it completely, but for the values of its tensors.

    ``to``: the layout that it will be written in.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no checkpoint folder '{folder}'.")
    file = open_tensors(folder)
    layout = layout_of(folder, file)
    own = _exchange(folder, layout)
    ours = [key for key in file.shapes if layout == RLCO and key.startswith(OURS)]
    prefix = own.prefixes.get(layout, "")
    names = own.names(file, {_public(key, prefix): key for key in file.shapes if key not in ours})
    shapes = {name: file.shapes[key] for name, key in names.items()}
    side = folder if layout == RLCO else folder / SIDECAR
    _require_own_words(folder, told, own)
    if side != folder and side.is_dir():
        _require_same_weights(side, folder / MODEL)
    if (side / CONFIG).is_file():
        known, interface = read_description(side)
        described = own.adjust(side, Described(config=known, interface=interface), told, to)
    else:
        described = own.describe(folder, shapes, told)
    config = described.config
    if told.family not in (None, config.family):
        raise ValueError(f"'{folder}' is of family {config.family}, not {told.family}.")
    carried = {name: shape for name, shape in carried_shapes(config).items() if name in shapes}
    require_tensors(shapes, network_shapes(config) | carried, source=str(folder))
    if layout != RLCO and (side / HEADS).is_file():
        extra = TensorFile(side / HEADS)
        heads = {name: Entry.from_file(extra, name) for name in extra.shapes}
    else:
        heads = {name: Entry.from_file(file, name) for name in ours}
    if heads:
        needed = {name: entry.shape for name, entry in _fresh_heads(described).items()}
        require_tensors({n: e.shape for n, e in heads.items()}, needed, source=str(folder))
    return Source(folder=folder, layout=layout, file=file, names=names, described=described, heads=heads)


def layout_of(folder: Path, file: Tensors) -> str:
    """Return which of ``LAYOUTS`` a checkpoint folder is in, by its files and names. Raises ``ValueError`` if none."""
    values = read_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if "family" in values:
        return RLCO
    for mark, layout in _MARKS.items():
        if any(name.startswith(mark) for name in file.shapes):
            return layout
    raise ValueError(
        f"'{folder}' is a checkpoint of no layout that is known ({', '.join(LAYOUTS)}): its tensors are called "
        f"{', '.join(sorted(file.shapes)[:3]) or 'nothing'}."
    )


def _exchange(folder: Path, layout: str) -> Released:
    own = LAYOUTS[layout]
    if own is not None:
        return own
    name = read_object(folder / CONFIG)["family"]
    family(name)  # raises where there is none of that name
    return RELEASED[name]


def _require_own_words(folder: Path, told: Told, own: Released) -> None:
    """Raise ``ValueError`` for what is said and means something of another family only."""
    others = set[str]().union(*(other.reads for other in RELEASED.values())) - own.reads
    if strange := sorted(told.given() & others):
        options = ", ".join(f"--{name.replace('_', '-')}" for name in strange)
        raise ValueError(f"{options} changes nothing of '{folder}', which is of another family: leave it out.")


def _public(key: str, prefix: str) -> str:
    """Return the public name; a key of another layout than its file's keeps a name that nothing asks for."""
    return key.removeprefix(prefix) if key.startswith(prefix) else f"{key} (without '{prefix}')"


def _network(found: Source, to: str) -> dict[str, Entry]:
    """Return the network's tensors by public name; a released layout always has what is carried."""
    entries = {name: Entry.from_file(found.file, key) for name, key in found.names.items()}
    if to != RLCO:
        for name, shape in carried_shapes(found.config).items():
            # of the type that most of the file is in
            kinds = sorted(entry.kind for entry in entries.values())
            entries.setdefault(name, Entry(shape=shape, kind=max(kinds, key=kinds.count), read=None))
    return entries


def digest_line(weights: Path) -> str:
    """Return the line of ``DIGEST``."""
    with weights.open("rb") as opened:
        return f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  ../{weights.name}\n"


def _require_same_weights(side: Path, weights: Path) -> None:
    kept = side / DIGEST
    if not (weights.is_file() and kept.is_file()) or kept.read_text() != digest_line(weights):
        raise ValueError(
            f"'{side}' describes other weights than '{weights}', which changed after the conversion: delete '{side}' "
            "to go by the other program's files."
        )


def _heads(found: Source) -> dict[str, Entry]:
    """Return what reinforcement learning added, or what it starts from."""
    return dict(found.heads) or _fresh_heads(found.described)


def _fresh_heads(described: Described) -> dict[str, Entry]:
    config = described.config
    policy = empty_policy(config, described.interface)
    named = {public_name(name, config): value for name, value in policy.state_dict().items()}
    return {name: Entry.of(value) for name, value in named.items() if name.startswith(OURS)}


def _describe(folder: Path, found: Source) -> None:
    converted = {"from": found.folder.name, "layout": found.layout, **found.described.notes}
    write_description(folder, found.config, found.interface, provenance={"converted": converted})


def _require_free(destination: Path) -> None:
    if destination.exists():
        raise ValueError(f"'{destination}' exists already: choose a folder that does not.")
