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
    def from_file(file: TensorFile, name: str) -> Entry:
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
