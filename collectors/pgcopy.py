"""PostgreSQL's binary COPY format as numpy records. Pure.

A COPY in this format is a header, one record for each row and a trailer; a record is its number of
fields, and for each field its length and its bytes in network order (PostgreSQL documentation,
COPY, "Binary Format"). Rows whose fields all have fixed lengths are an array of one numpy type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
HEADER = SIGNATURE + bytes(8)  # no flags, no extension
TRAILER = b"\xff\xff"
# Moments are microseconds since 2000-01-01 UTC.
EPOCH_US = 946_684_800_000_000
# Records of so many rows stay in a core's cache while each of their columns is copied out.
BLOCK = 4096

Records = NDArray[np.void]


class CopyFormatError(ValueError):
    """What PostgreSQL sent is not a COPY of such rows."""


def decode(content: bytes | memoryview, fields: Sequence[tuple[str, str]]) -> Records:
    """The rows of a binary COPY, (N,) with the named fields (name, numpy type, network order).

    No field may be null. Raises CopyFormatError.
    """
    rows = _records(content, fields)
    _check(rows, fields)
    return rows


def decode_columns(
    content: bytes | memoryview, fields: Sequence[tuple[str, str]]
) -> dict[str, NDArray[Any]]:
    """The columns of a binary COPY by name, each (N,) in one piece and in the machine's order.
    Fields and errors are those of `decode`."""
    rows = _records(content, fields)
    columns = {name: np.empty(len(rows), np.dtype(kind).newbyteorder("=")) for name, kind in fields}
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        _check(block, fields)
        for name, column in columns.items():
            column[start : start + BLOCK] = block[name]
    return columns


def encode(values: Mapping[str, NDArray[np.generic] | bytes | None], rows: int) -> bytes:
    """The records of `rows` rows: for each column, in order, its values in network order, one
    value for all rows, or null for all. HEADER and TRAILER belong around them."""
    fields: list[tuple[str, str]] = []
    for name, column in values.items():
        if isinstance(column, bytes):
            fields.append((name, f"V{len(column)}"))
        else:
            fields.append((name, "" if column is None else column.dtype.str))
    records = np.empty(rows, _kind(fields))
    records["fields"] = len(fields)
    for (name, kind), column in zip(fields, values.values(), strict=True):
        records[f"{name} length"] = np.dtype(kind).itemsize if kind else -1
        if isinstance(column, bytes):
            records[name] = np.void(column)
        elif column is not None:
            records[name] = column
    return records.tobytes()


def _records(content: bytes | memoryview, fields: Sequence[tuple[str, str]]) -> Records:
    kind = _kind(fields)
    body = len(content) - len(HEADER) - len(TRAILER)
    if bytes(content[: len(SIGNATURE)]) != SIGNATURE or body < 0 or body % kind.itemsize:
        raise CopyFormatError(f"{len(content)} bytes are no rows of {kind.itemsize} bytes")
    return np.frombuffer(content, kind, body // kind.itemsize, len(HEADER))


def _check(rows: Records, fields: Sequence[tuple[str, str]]) -> None:
    if not (rows["fields"] == len(fields)).all():
        raise CopyFormatError(f"rows that do not have {len(fields)} fields")


def _kind(fields: Sequence[tuple[str, str]]) -> np.dtype[np.void]:
    parts: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in fields:
        parts.append((f"{name} length", ">i4"))
        if kind:
            parts.append((name, kind))
    return np.dtype(parts)
