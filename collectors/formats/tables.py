"""Which file holds which table: the format by its suffix, the kind by its columns, what its rows
do not say by its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from collectors.formats import FormatError, delimited, parquet, reference
from collectors.formats.files import split_suffix, write_new_file
from collectors.formats.schema import CANDLE_COLUMNS, MACRO_COLUMNS, Column, Row
from collectors.marketdata import TIMEFRAMES

TableKind = Literal["candles", "macro"]
KINDS: tuple[TableKind, ...] = ("candles", "macro")
SUFFIXES = (*delimited.SUFFIXES, *parquet.SUFFIXES)
SOURCE = "import"
CANDLE_NAME = re.compile(rf"([a-z0-9-]+)_({'|'.join(TIMEFRAMES)})(_\d+)?")
SERIES_NAME = re.compile(r"([A-Z][A-Z0-9]{1,24})(_\d+)?")


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """One table to be read. `instrument` and `timeframe` are said where its rows do not say them;
    `trust_volume` matters to the reference database alone."""

    path: Path
    kind: TableKind
    instrument: str | None = None
    timeframe: str | None = None
    trust_volume: bool = False

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Every row, in the order of the kind's columns, with its place for messages. Raises
        FormatError and SchemaError."""
        suffix = split_suffix(self.path)[1]
        if suffix in reference.SUFFIXES:
            if self.kind == "macro":
                return reference.read_macro_rows(self.path, defaults=self._defaults())
            return reference.read_candle_rows(
                self.path,
                timeframe=self.timeframe,
                trust_volume=self.trust_volume,
                defaults=self._defaults(),
            )
        read = delimited.read_rows if suffix in delimited.SUFFIXES else parquet.read_rows
        return read(
            self.path, columns_of(self.kind), defaults=self._defaults(), aliases=self._aliases()
        )

    def _defaults(self) -> dict[str, Any]:
        stem = split_suffix(self.path)[0]
        if self.kind == "macro":
            names = ("realtime_start", "released_at", "is_release_assumed", "received_at")
            values: dict[str, Any] = dict.fromkeys(names)
            named = SERIES_NAME.fullmatch(stem)
            return values | ({"series": named[1]} if named else {})
        values = {"volume": None, "source": SOURCE, "is_sampled": False, "received_at": None}
        named = CANDLE_NAME.fullmatch(stem)
        instrument = self.instrument or (named[1] if named else None)
        timeframe = self.timeframe or (named[2] if named else None)
        values |= {"instrument": instrument} if instrument else {}
        return values | ({"timeframe": timeframe} if timeframe else {})

    def _aliases(self) -> Mapping[str, str]:
        """FRED's own files call the column of the values as the series."""
        named = SERIES_NAME.fullmatch(split_suffix(self.path)[0])
        return {named[1]: "value"} if named and self.kind == "macro" else {}


def columns_of(kind: TableKind) -> tuple[Column, ...]:
    """The columns of a kind of table."""
    return CANDLE_COLUMNS if kind == "candles" else MACRO_COLUMNS


def find_tables(path: Path, kind: TableKind | None = None) -> list[TableFile]:
    """The tables in a file, of one kind or of any. Raises FormatError when there is none."""
    suffix = split_suffix(path)[1]
    if suffix in reference.SUFFIXES:
        kinds: Mapping[str, TableKind] = {
            reference.CANDLE_TABLE: "candles",
            reference.MACRO_TABLE: "macro",
        }
        found = [kinds[name] for name in reference.tables(path)]
        if kind is not None and kind not in found:
            raise FormatError(f"{path}: has no table of {kind}")
        return [TableFile(path=path, kind=item) for item in found if kind in {None, item}]
    if suffix not in SUFFIXES:
        known = ", ".join((*SUFFIXES, *reference.SUFFIXES))
        raise FormatError(f"{path}: is no table by its name; known: {known}")
    read_header = delimited.read_header if suffix in delimited.SUFFIXES else parquet.read_header
    header = read_header(path)
    guessed: TableKind = "candles" if "open" in map(str.lower, header) else "macro"
    return [TableFile(path=path, kind=kind or guessed)]


def write_table(path: Path, kind: TableKind, rows: Iterable[Row]) -> tuple[Path, int]:
    """Write the rows to a new file, its format by its suffix; gives its name, which has a number
    where `path` is taken, and the number of rows. Raises FormatError and OSError."""
    suffix = split_suffix(path)[1]
    if suffix not in SUFFIXES:
        raise FormatError(f"{path}: is no table by its name; known: {', '.join(SUFFIXES)}")
    columns = columns_of(kind)
    fill: Callable[[Path], int]
    if suffix in delimited.SUFFIXES:
        is_packed = suffix.endswith(".gz")

        def fill(part: Path) -> int:
            return delimited.write_rows(part, columns, rows, is_packed=is_packed)

    else:

        def fill(part: Path) -> int:
            return parquet.write_rows(part, columns, rows)

    written: list[int] = []
    target = write_new_file(path, lambda part: written.append(fill(part)))
    return target, written[0]
