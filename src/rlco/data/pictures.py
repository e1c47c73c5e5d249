"""Single pictures: decoded from a column of a table, and brought to a size."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, UnidentifiedImageError

from rlco.data.parquet import open_parquet
from rlco.data.reading import Fit


def stored_pictures(path: Path, column: str) -> Iterator[UInt8[ndarray, "H W 3"]]:
    """Yield the pictures in a column of a parquet file: struct<bytes, path>, or the bytes themselves.

    Raises ``ValueError`` that names the file and the row of one that cannot be read.
    """
    file = open_parquet(path)
    if column not in file.schema_arrow.names:
        raise ValueError(f"'{path}' lacks the column {column}.")
    row = 0
    for batch in file.iter_batches(batch_size=64, columns=[column]):
        for value in batch.column(0).to_pylist():
            try:
                yield _decoded(value, path.parent)
            except (UnidentifiedImageError, OSError, TypeError, ValueError) as error:
                raise ValueError(f"'{path}', row {row}: {column} is no picture ({error}).") from error
            row += 1


def fitted(image: UInt8[ndarray, "H W 3"], *, size: int, fit: Fit) -> UInt8[ndarray, "size size 3"]:
    """Return the picture as a square of ``size`` pixels: its centre, or all of it on black. Shrinking takes means."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    side = min(height, width) if fit == "crop" else max(height, width)
    scale = size / side
    picture, filter_ = Image.fromarray(image), Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    if fit == "crop":
        left, top = (width - side) / 2, (height - side) / 2
        return np.array(picture.resize((size, size), filter_, box=(left, top, left + side, top + side)))
    inner = (max(round(width * scale), 1), max(round(height * scale), 1))
    out = Image.new("RGB", (size, size))
    out.paste(picture.resize(inner, filter_), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return np.array(out)


def _decoded(value: Any, folder: Path) -> UInt8[ndarray, "H W 3"]:  # noqa: ANN401  (any parquet value)
    content, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    source = io.BytesIO(content) if content is not None else folder / str(name)
    with Image.open(source) as image:
        return np.array(image.convert("RGB"))
