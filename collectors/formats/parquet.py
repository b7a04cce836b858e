"""Tables as Parquet: typed columns, moments in UTC microseconds, read and written in batches.

pyarrow is imported where it works: the processes that never read a file do without it.
https://parquet.apache.org/docs/file-format/
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from collectors.formats import FormatError, SchemaError
from collectors.formats.schema import Column, Row, RowReader, WrongCell
from collectors.marketdata import EPOCH

SUFFIXES = (".parquet",)
BATCH = 20_000


def read_header(path: Path) -> list[str]:
    """The names of the columns. Raises FormatError."""
    import pyarrow.parquet

    with _file_errors(path):
        return list(pyarrow.parquet.read_schema(path).names)


def read_metadata(path: Path) -> dict[str, str]:
    """What its writer wrote about the file. Raises FormatError."""
    import pyarrow.parquet

    with _file_errors(path):
        pairs = pyarrow.parquet.read_schema(path).metadata or {}
    return {key.decode(): value.decode() for key, value in pairs.items()}


def read_rows(
    path: Path,
    columns: Sequence[Column],
    *,
    defaults: Mapping[str, Any],
    aliases: Mapping[str, str],
) -> Iterator[tuple[str, Row]]:
    """Every row with its place in the file. Raises FormatError and SchemaError."""
    import pyarrow.parquet

    with _file_errors(path), pyarrow.parquet.ParquetFile(path) as file:
        found = list(file.schema_arrow.names)
        reader = RowReader(columns, found, place=str(path), defaults=defaults, aliases=aliases)
        number = 0
        for batch in file.iter_batches(BATCH):
            cells = [_as_python(array) for array in batch.columns]
            for raw in zip(*cells, strict=True):
                number += 1
                place = f"{path}, row {number}"
                try:
                    row = reader.read(raw)
                except WrongCell as problem:
                    raise SchemaError(f"{place}, {problem}") from None
                yield place, row


def write_rows(
    path: Path,
    columns: Sequence[Column],
    rows: Iterable[Row],
    *,
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Write the rows to the file; gives their number. Raises OSError."""
    import pyarrow
    import pyarrow.parquet

    types: dict[str, Callable[[], Any]] = {
        "text": pyarrow.string,
        "integer": pyarrow.int64,
        "double": pyarrow.float64,
        "moment": lambda: pyarrow.timestamp("us", tz="UTC"),
        "day": pyarrow.date32,
        "flag": pyarrow.bool_,
    }
    schema = pyarrow.schema(
        [(column.name, types[column.kind]()) for column in columns], metadata=dict(metadata or {})
    )
    written = 0
    remaining = iter(rows)
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(itertools.islice(remaining, BATCH)):
            arrays = [
                pyarrow.array(cells, type=field.type)
                for cells, field in zip(zip(*batch, strict=True), schema, strict=True)
            ]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
            written += len(batch)
    return written


def _as_python(array: Any) -> list[Any]:
    """The array's values. Moments by way of whole numbers: Arrow's own are ten times slower."""
    import pyarrow

    if not pyarrow.types.is_timestamp(array.type):
        values: list[Any] = array.to_pylist()
        return values
    numbers = array.cast(pyarrow.timestamp("us", tz=array.type.tz)).cast(pyarrow.int64())
    return [
        None if number is None else EPOCH + timedelta(microseconds=number)
        for number in numbers.to_pylist()
    ]


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a file is read into a FormatError."""
    import pyarrow

    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise FormatError(f"{path}: {error.strerror or error}") from None
    except (pyarrow.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FormatError(f"{path}: is no readable Parquet ({reason})") from None
