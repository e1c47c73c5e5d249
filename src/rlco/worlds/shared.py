"""Arrays that several processes see, in one anonymous piece of memory.

The memory has no name: it is gone with the last process that maps it, however that process ends.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Mapping

import numpy as np
from numpy import ndarray

Layout = Mapping[str, tuple[tuple[int, ...], np.dtype]]
_ALIGNMENT = 64


def create(layout: Layout) -> int:
    """Return the file descriptor of zeroed memory for ``layout``; the caller closes it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("rlco-world")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, _size(layout))
    return descriptor


def attach(descriptor: int, layout: Layout) -> dict[str, ndarray]:
    """Return the arrays of ``layout``; the memory lives as long as one of them does."""
    memory = mmap.mmap(descriptor, _size(layout))
    arrays, offset = {}, 0
    for name, (shape, dtype) in layout.items():
        arrays[name] = np.ndarray(shape, dtype, buffer=memory, offset=offset)
        offset += _space(shape, dtype)
    return arrays


def _size(layout: Layout) -> int:
    return sum(_space(shape, dtype) for shape, dtype in layout.values())


def _space(shape: tuple[int, ...], dtype: np.dtype) -> int:
    size = int(np.prod(shape)) * dtype.itemsize
    return -(-size // _ALIGNMENT) * _ALIGNMENT
