"""Tables as CSV, plain or packed (.gz): a header, then one line per row.

Doubles are written so that reading them gives the same double, moments as ISO 8601 in UTC, null as
nothing. RFC 4180.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from collectors.formats import FormatError, SchemaError
from collectors.formats.schema import Column, Row, RowReader, WrongCell

SUFFIXES = (".csv", ".csv.gz")
WORDS = {True: "true", False: "false"}


def read_header(path: Path) -> list[str]:
    """The names in the first line. Raises FormatError."""
    for _, cells in _lines(path):
        return [cell.strip() for cell in cells]
    raise FormatError(f"{path}: is empty")


def read_rows(
    path: Path,
    columns: Sequence[Column],
    *,
    defaults: Mapping[str, Any],
    aliases: Mapping[str, str],
) -> Iterator[tuple[str, Row]]:
    """Every row with its place in the file. Raises FormatError and SchemaError."""
    lines = _lines(path)
    _, found = next(lines, (0, []))
    reader = RowReader(columns, found, place=f"{path}, line 1", defaults=defaults, aliases=aliases)
    for number, cells in lines:
        if not cells:
            continue
        place = f"{path}, line {number}"
        if len(cells) != len(found):
            raise SchemaError(f"{place}: {len(cells)} fields under {len(found)} columns")
        try:
            yield place, reader.read(cells)
        except WrongCell as problem:
            raise SchemaError(f"{place}, {problem}") from None


def write_rows(
    path: Path, columns: Sequence[Column], rows: Iterable[Row], *, is_packed: bool
) -> int:
    """Write header and rows to the file; gives the number of rows. Raises OSError."""
    written = 0
    # The header of a packed file holds neither a time nor the part's name.
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) if is_packed else raw as stream,
    ):
        text = _Encoder(stream)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([column.name for column in columns])
        moments = [at for at, column in enumerate(columns) if column.kind in {"moment", "day"}]
        flags = [at for at, column in enumerate(columns) if column.kind == "flag"]
        for row in rows:
            cells = list(row)
            for at in moments:
                if cells[at] is not None:
                    cells[at] = cells[at].isoformat()
            for at in flags:
                if cells[at] is not None:
                    cells[at] = WORDS[cells[at]]
            writer.writerow(cells)
            written += 1
        text.flush()
    return written


class _Encoder:
    """Gathers text and writes it in blocks, as packing single lines is slow."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._lines: list[str] = []

    def write(self, line: str) -> None:
        self._lines.append(line)
        if len(self._lines) >= 4096:
            self.flush()

    def flush(self) -> None:
        self._stream.write("".join(self._lines).encode())
        self._lines.clear()


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells; a line that goes on is named by its last one."""
    try:
        packed = path.suffix.lower() == ".gz"
        opened = gzip.open if packed else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            for cells in reader:
                yield reader.line_num, cells
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from None
    except (EOFError, zlib.error) as error:
        raise FormatError(f"{path}: cannot be unpacked ({error})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path}: is no CSV ({error})") from None
