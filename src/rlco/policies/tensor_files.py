"""Files of named tensors (safetensors), read and written one by one: a released model need not fit in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rlco.core.progress import Reporter, Silent

Shape = tuple[int, ...]
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
_WRITTEN_AT_ONCE = 1 << 26
"""Bytes."""


class TensorFile:
    """A file opened for reading; a tensor is read when it is asked for."""

    def __init__(self, path: Path) -> None:
        """Raises ``FileNotFoundError``, and ``ValueError`` in one line for a damaged file or numbers of other kinds."""
        if not path.is_file():
            raise FileNotFoundError(f"'{path}' does not exist.")
        self.path = path
        try:
            self._file = safe_open(path, framework="pt")
            slices = {name: self._file.get_slice(name) for name in self._file.keys()}  # noqa: SIM118  (no mapping)
        except SafetensorError as error:
            raise ValueError(f"'{path}' is damaged: {error}.") from error
        self.shapes: dict[str, Shape] = {name: tuple(found.get_shape()) for name, found in slices.items()}
        self.kinds: dict[str, str] = {name: found.get_dtype() for name, found in slices.items()}
        if strange := [f"{name} ({kind})" for name, kind in self.kinds.items() if kind not in _DTYPES]:
            raise ValueError(
                f"'{path}' holds tensors of kinds that are not read: {', '.join(strange[:3])}; read are "
                f"{', '.join(_DTYPES)}."
            )

    def read(self, name: str) -> Tensor:
        """Return one tensor, mapped from the file: memory is used for what is looked at."""
        return self._file.get_tensor(name)


class ShardedTensors:
    """Several files with an index, opened as one. See ``TensorFile``."""

    def __init__(self, index: Path) -> None:
        """Raises ``FileNotFoundError`` for a missing shard, ``ValueError`` where index and shards do not agree."""
        self.path = index
        try:
            places: dict[str, str] = json.loads(index.read_text())["weight_map"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"'{index}' is no index of shards: it needs a JSON object with weight_map.") from error
        shards = {name: TensorFile(index.parent / name) for name in sorted(set(places.values()))}
        found = {(key, name) for name, shard in shards.items() for key in shard.shapes}
        if odd := sorted(found ^ set(places.items())):
            words = ", ".join(f"{key} in {name}" for key, name in odd[:3])
            raise ValueError(f"'{index}' and its shards do not agree about {len(odd)} tensors, for example {words}.")
        self._file_of = {key: shards[name] for key, name in places.items()}
        self.shapes: dict[str, Shape] = {key: file.shapes[key] for key, file in self._file_of.items()}
        self.kinds: dict[str, str] = {key: file.kinds[key] for key, file in self._file_of.items()}

    def read(self, name: str) -> Tensor:
        """Return one tensor, mapped from its shard."""
        return self._file_of[name].read(name)


Tensors = TensorFile | ShardedTensors
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def open_tensors(folder: Path) -> Tensors:
    """Open a folder's weights, in one file or in shards.

    Raises ``FileNotFoundError`` where there are none, ``ValueError`` in one line where they cannot be read, or where
    there are both: which of them is meant?
    """
    if not (folder / INDEX).is_file():
        return TensorFile(folder / SINGLE)
    if (folder / SINGLE).is_file():
        raise ValueError(f"'{folder}' has weights twice, in {SINGLE} and in the shards of {INDEX}: delete one of them.")
    return ShardedTensors(folder / INDEX)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A tensor to be written."""

    shape: Shape
    kind: str
    """Its type as the file format calls it: F32, BF16."""
    read: Callable[[], Tensor] | None
    """None: zeros."""

    @staticmethod
    def of(tensor: Tensor) -> Entry:
        """Return the entry of a tensor in memory."""
        return Entry(shape=tuple(tensor.shape), kind=_NAMES[tensor.dtype], read=lambda: tensor)

    @staticmethod
    def from_file(file: Tensors, name: str) -> Entry:
        """Return the entry of a tensor in another file, copied byte by byte."""
        return Entry(shape=file.shapes[name], kind=file.kinds[name], read=lambda: file.read(name))

    @property
    def size(self) -> int:
        """Return how many bytes it takes."""
        return torch.Size(self.shape).numel() * _DTYPES[self.kind].itemsize


def write_tensors(path: Path, entries: Mapping[str, Entry], *, reporter: Reporter | None = None) -> None:
    """Write a safetensors file, one tensor in memory at a time; ``reporter`` is told of each."""
    reporter = reporter or Silent()
    # large types first, as the format's own library does: every tensor then lies at a multiple of its type's size
    names = sorted(entries, key=lambda name: (-_DTYPES[entries[name].kind].itemsize, name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        entry, begin = entries[name], end
        end += entry.size
        header[name] = {"dtype": entry.kind, "shape": list(entry.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for number, name in enumerate(names, start=1):
            entry = entries[name]
            if entry.read is None:
                for begin in range(0, entry.size, _WRITTEN_AT_ONCE):
                    file.write(bytes(min(_WRITTEN_AT_ONCE, entry.size - begin)))
            else:
                file.write(entry.read().contiguous().flatten().view(torch.uint8).numpy().data)
            reporter.reach(number, len(names))
