"""The SQLite database `crypto_data.db` of an earlier tool: tables crypto_ohlcv, macro_indicators.

Its columns are found by their names, the obvious synonyms included, and its times may be epochs in
seconds or milliseconds or ISO 8601 text; they are taken as open times. Without a timeframe column a
coin's timeframe is the most frequent distance of its times. The file is opened read-only.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from collectors.formats import FormatError, SchemaError
from collectors.formats.schema import (
    CANDLE_COLUMNS,
    MACRO_COLUMNS,
    Column,
    Row,
    RowReader,
    WrongCell,
    read_moment,
    read_text,
)
from collectors.marketdata import TIMEFRAMES

SUFFIXES = (".db", ".sqlite", ".sqlite3")
CANDLE_TABLE = "crypto_ohlcv"
MACRO_TABLE = "macro_indicators"
# So many times of a coin tell its timeframe.
SPACING_SAMPLE = 5_000
PRICES = ("open", "high", "low", "close")
OURS_ALONE = ("source", "is_sampled", "received_at")


def tables(path: Path) -> list[str]:
    """Which of the two tables the database has. Raises FormatError when it has neither."""
    with _opened(path) as database:
        found = [
            name
            for (name,) in database.execute(
                "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name"
            )
        ]
    ours = [name for name in (CANDLE_TABLE, MACRO_TABLE) if name in found]
    if not ours:
        named = ", ".join(found) or "none"
        raise FormatError(
            f"{path}: neither {CANDLE_TABLE} nor {MACRO_TABLE} is there; tables: {named}"
        )
    return ours


def read_candle_rows(
    path: Path, *, timeframe: str | None, trust_volume: bool, defaults: Mapping[str, Any]
) -> Iterator[tuple[str, Row]]:
    """The rows of crypto_ohlcv in the order of CANDLE_COLUMNS, coin by coin, rising in time.

    The volume of such a table is a rolling figure, which is null here unless it is to be trusted.
    A price that the table lacks is None, and a bar without any range says that it is made of
    samples. Raises FormatError and SchemaError.
    """
    columns = [
        dataclasses.replace(column, is_nullable=column.name in (*PRICES, "volume"))
        for column in CANDLE_COLUMNS
        if column.name not in OURS_ALONE and (trust_volume or column.name != "volume")
    ]
    values = {"volume": None, "timeframe": timeframe}
    with _opened(path) as database:
        found = _columns(database, CANDLE_TABLE)
        places = _places(columns, found)
        place = f"{path}, {CANDLE_TABLE}"
        reader = RowReader(columns, found, place=place, defaults=values, is_strict=False)
        coin, time = (found[places[name]] for name in ("instrument", "open_time"))
        names = [row[0] for row in database.execute(_distinct(CANDLE_TABLE, coin))]
        if not all(isinstance(name, str) for name in names):
            raise SchemaError(f"{place}, column {coin}: {names[0]!r} is no text")
        spacing: dict[str, str] = {}
        if "timeframe" not in places and timeframe is None:
            spacing = _timeframes(database, place, coin, time, names)
        order = [column.name for column in columns]
        for number, raw in _rows(database, CANDLE_TABLE, (coin, time)):
            row = dict(zip(order, _read(reader, raw, place, number), strict=True))
            row["timeframe"] = row["timeframe"] or spacing[row["instrument"]]
            row["is_sampled"] = len({row[name] for name in PRICES}) == 1
            full = {**defaults, **values, **row}
            yield f"{place}, row {number}", tuple(full[c.name] for c in CANDLE_COLUMNS)


def read_macro_rows(path: Path, *, defaults: Mapping[str, Any]) -> Iterator[tuple[str, Row]]:
    """The rows of macro_indicators in the order of MACRO_COLUMNS, series by series, rising in
    time. Raises FormatError and SchemaError."""
    with _opened(path) as database:
        found = _columns(database, MACRO_TABLE)
        places = _places(MACRO_COLUMNS, found)
        place = f"{path}, {MACRO_TABLE}"
        without_series = {name: value for name, value in defaults.items() if name != "series"}
        reader = RowReader(
            MACRO_COLUMNS, found, place=place, defaults=without_series, is_strict=False
        )
        order = (found[places["series"]], found[places["date"]])
        for number, raw in _rows(database, MACRO_TABLE, order):
            yield f"{place}, row {number}", _read(reader, raw, place, number)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    if not path.is_file():
        raise FormatError(f"{path}: there is no such file")
    database = None
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        yield database
    except sqlite3.Error as error:
        raise FormatError(f"{path}: cannot be read as a SQLite database ({error})") from None
    finally:
        if database is not None:
            database.close()


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def _places(columns: Sequence[Column], found: Sequence[str]) -> dict[str, int]:
    """Where the table has each of our columns, of those that it has."""
    names = [name.lower() for name in found]
    places = {}
    for column in columns:
        at = next((names.index(name) for name in column.names if name in names), -1)
        if at >= 0:
            places[column.name] = at
    return places


def _read(reader: RowReader, raw: Sequence[Any], place: str, number: int) -> Row:
    try:
        return reader.read(raw)
    except WrongCell as problem:
        raise SchemaError(f"{place}, row {number}, {problem}") from None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _distinct(table: str, column: str) -> str:
    name = _quoted(column)
    return f"SELECT DISTINCT {name} FROM {table} WHERE {name} IS NOT NULL ORDER BY 1"


def _rows(
    database: sqlite3.Connection, table: str, order: Sequence[str]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Every row with its number in the order asked for; the rowid where the table has one."""
    ordered = ", ".join(_quoted(name) for name in order)
    rows = database.execute(f"SELECT * FROM {table} ORDER BY {ordered}")
    return enumerate(rows, start=1)


def _timeframes(
    database: sqlite3.Connection, place: str, coin: str, time: str, names: Sequence[str]
) -> dict[str, str]:
    """Each coin's timeframe by the distance of its times; a coin with a single row is taken to be
    as most others are."""
    durations = {length: name for name, length in TIMEFRAMES.items()}
    found: dict[str, str] = {}
    for name in names:
        query = (
            f"SELECT {_quoted(time)} FROM {CANDLE_TABLE} WHERE {_quoted(coin)} = ? "
            f"ORDER BY 1 LIMIT {SPACING_SAMPLE}"
        )
        step = _most_frequent_step(place, time, [row[0] for row in database.execute(query, [name])])
        if step is None:
            continue
        if step not in durations:
            raise SchemaError(
                f"{place}: the times of {name!r} are {step} apart, which is no timeframe"
            )
        found[read_text(name)] = durations[step]
    if not found and names:
        raise SchemaError(f"{place}: no column timeframe, and too few rows to tell it")
    usual = collections.Counter(found.values()).most_common(1)
    return {read_text(name): found.get(read_text(name), usual[0][0]) for name in names}


def _most_frequent_step(place: str, column: str, raw: Sequence[Any]) -> timedelta | None:
    try:
        moments: list[datetime] = [read_moment(value) for value in raw]
    except (ValueError, OverflowError) as problem:
        raise SchemaError(f"{place}, column {column}: {problem}") from None
    steps = collections.Counter(
        later - earlier for earlier, later in itertools.pairwise(moments) if later > earlier
    )
    return steps.most_common(1)[0][0] if steps else None
