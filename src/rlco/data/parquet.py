"""Reading parquet and JSON with errors that name the file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy import ndarray


def read_json(path: Path) -> Any:  # noqa: ANN401  (any JSON value)
    """Return the value in ``path``. Raises ``ValueError`` in one line if it is not JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"Cannot read '{path}': {error}.") from error


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a jsonl file, one a line. Raises ``ValueError`` that names the line."""
    if not path.exists():
        raise ValueError(f"'{path}' is missing: the dataset is incomplete.")
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"'{path}', line {number}: {error}.") from error
    return rows


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a file. Raises ``ValueError`` in one line if it is missing or broken."""
    if not path.exists():
        raise ValueError(f"'{path}' is missing: the dataset is incomplete.")
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the table in ``path``, or these columns of it. Raises ``ValueError`` in one line."""
    file = open_parquet(path)
    lacking = [name for name in columns or () if name not in file.schema_arrow.names]
    if lacking:
        raise ValueError(f"'{path}' lacks the column {', '.join(lacking)}.")
    try:
        return file.read(columns=list(columns) if columns else None)
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error


def read_tables_of(folder: Path, paths: Sequence[Path], columns: Sequence[str] | None = None) -> pa.Table:
    """Return the tables in ``paths``, one after the other."""
    if not paths:
        raise ValueError(f"'{folder}' has no parquet file where one is needed: the dataset is incomplete.")
    try:
        return pa.concat_tables([read_table(path, columns) for path in paths], promote_options="permissive")
    except pa.ArrowException as error:
        raise ValueError(f"'{folder}': its parquet files do not have the same columns ({_brief(error)}).") from error


def rows_of(path: Path) -> int:
    """Return how many rows a file holds, from its footer."""
    return open_parquet(path).metadata.num_rows


def vectors(table: pa.Table, name: str) -> ndarray:
    """Return a column as (N, D): D = 1 for scalars. Raises ``ValueError`` where rows differ in length."""
    column = table[name].combine_chunks()
    kind = column.type
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        if len(pc.unique(pc.list_value_length(column))) > 1 or column.null_count:  # pyright: ignore[reportAttributeAccessIssue]
            raise ValueError(f"The column {name} has rows of several lengths, or empty ones: not one size.")
        column = column.flatten()
        kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise ValueError(f"The column {name} holds {kind}, expected numbers.")
    flat = column.to_numpy(zero_copy_only=False)
    if table.num_rows == 0 or flat.size % table.num_rows:
        raise ValueError(f"The column {name} holds {flat.size} numbers in {table.num_rows} rows: not one size.")
    return np.asarray(flat).reshape(table.num_rows, -1)


def _broken(path: Path, error: Exception) -> ValueError:
    return ValueError(f"'{path}' is truncated or not a parquet file ({_brief(error)}).")


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
