"""What a table of candles or macro observations holds: columns, and what may stand in them. Pure.

A value is read from what a format gives: text (CSV), typed values (Parquet), either (SQLite).
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from collectors.formats import SchemaError
from collectors.marketdata import EPOCH

Kind = Literal["text", "integer", "double", "moment", "day", "flag"]
Row = tuple[Any, ...]

# A number of this size or more counts milliseconds: as seconds it is the year 5138.
LEAST_MS = 100_000_000_000
COMPACT_DATE = len("20250131")
# So many different words of a column are remembered.
MOST_WORDS = 1_000


@dataclass(frozen=True)
class Column:
    """One column. `names` are those it may have in a file, the best first; ours is `name`.

    A column that is not `required` may be absent, if who reads knows what it would say.
    """

    name: str
    kind: Kind
    is_nullable: bool = False
    is_required: bool = True
    synonyms: tuple[str, ...] = ()
    longest: int = 0
    missing: tuple[str, ...] = ("",)

    @property
    def names(self) -> tuple[str, ...]:
        """What the column may be called, in lower case."""
        return (self.name, *self.synonyms)


COINS = ("coin_id", "crypto_id", "coin", "asset", "symbol", "cryptocurrency", "name")
TIMES = ("timestamp", "datetime", "date", "time")
CANDLE_COLUMNS = (
    Column("instrument", "text", is_required=False, synonyms=COINS, longest=64),
    Column("timeframe", "text", is_required=False, synonyms=("interval",), longest=4),
    Column("open_time", "moment", synonyms=TIMES),
    Column("open", "double"),
    Column("high", "double"),
    Column("low", "double"),
    Column("close", "double"),
    Column("volume", "double", is_nullable=True, is_required=False),
    Column("source", "text", is_required=False, longest=16),
    Column("is_sampled", "flag", is_required=False),
    Column("received_at", "moment", is_nullable=True, is_required=False),
)
MACRO_COLUMNS = (
    Column(
        "series",
        "text",
        is_required=False,
        synonyms=("series_id", "indicator", "indicator_id", "symbol", "name"),
        longest=25,
    ),
    Column("date", "day", synonyms=("observation_date", "timestamp", "datetime", "time")),
    # FRED writes "." or nothing where a day has no value.
    Column("value", "double", is_nullable=True, missing=("", ".")),
    Column("realtime_start", "day", is_nullable=True, is_required=False),
    Column("released_at", "moment", is_nullable=True, is_required=False),
    Column("is_release_assumed", "flag", is_nullable=True, is_required=False),
    Column("received_at", "moment", is_nullable=True, is_required=False),
)


class WrongCell(ValueError):
    """A value that its column cannot hold."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(f"column {column}: {reason}")


class RowReader:
    """Turns the rows of one file into rows of the `columns`.

    `found` are the file's columns, `aliases` further names of ours, `defaults` the values of
    columns that the file lacks. With `is_strict` a column that nobody asked for is an error.
    Raises SchemaError, starting with `place`.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        found: Sequence[str],
        *,
        place: str,
        defaults: Mapping[str, Any],
        aliases: Mapping[str, str] | None = None,
        is_strict: bool = True,
    ) -> None:
        names = [name.strip().lower() for name in found]
        others = {name.lower(): ours for name, ours in (aliases or {}).items()}
        named = ", ".join(found) or "none"
        self._cells: list[tuple[int, Column, Any]] = []
        taken: set[int] = set()
        for column in columns:
            wanted = (*column.names, *(name for name in names if others.get(name) == column.name))
            at = next((names.index(name) for name in wanted if name in names), -1)
            if at < 0 and (column.is_required or column.name not in defaults):
                also = f" (or {', '.join(column.synonyms)})" if column.synonyms else ""
                raise SchemaError(f"{place}: no column {column.name}{also}; columns: {named}")
            taken.add(at)
            self._cells.append((at, column, defaults.get(column.name)))
        unknown = [found[at] for at in range(len(found)) if at not in taken]
        if is_strict and unknown:
            known = ", ".join(column.name for column in columns)
            raise SchemaError(f"{place}: unknown column {unknown[0]!r}; known: {known}")

        # A default is read from an extra cell behind the row's own.
        self._defaults = tuple(default for at, _, default in self._cells if at < 0)
        places = itertools.count(len(found))
        self._readers = [
            (next(places), _as_it_is) if at < 0 else (at, _cell_reader(column))
            for at, column, _ in self._cells
        ]

    def read(self, raw: Sequence[Any]) -> Row:
        """One row, in the order of the columns. Raises WrongCell."""
        cells = (*raw, *self._defaults)
        try:
            return tuple([read(cells[at]) for at, read in self._readers])
        except (ValueError, OverflowError, TypeError):
            raise self._wrong(cells) from None

    def _wrong(self, cells: Sequence[Any]) -> WrongCell:
        """Which cell it was: not known before, as that would make every good row slower."""
        for (at, read), (_, column, _) in zip(self._readers, self._cells, strict=True):
            try:
                read(cells[at])
            except (ValueError, OverflowError, TypeError) as problem:
                return WrongCell(column.name, str(problem))
        raise ValueError("the row is right")


def _cell_reader(column: Column) -> Callable[[Any], Any]:
    """What reads the cells of one column."""
    read, missing = READERS[column.kind], column.missing

    def read_cell(cell: Any) -> Any:
        if cell is None or cell in missing or cell != cell:  # NaN is no number
            if not column.is_nullable:
                raise ValueError("is empty")
            return None
        return read(cell)

    if column.kind == "double":
        return _number_reader(read_cell)
    return _word_reader(read_cell, column.longest) if column.kind == "text" else read_cell


def _number_reader(read_cell: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The usual first, as nearly every cell is a good number: one that less itself is zero."""

    def read_number(cell: Any) -> Any:
        kind = cell.__class__
        if kind is str and "_" not in cell:
            try:
                value = float(cell)
            except ValueError:
                return read_cell(cell)
            if value - value == 0.0:
                return value
        elif kind is float and cell - cell == 0.0:
            return cell
        return read_cell(cell)

    return read_number


def _word_reader(read_cell: Callable[[Any], Any], longest: int) -> Callable[[Any], Any]:
    """The same few words stand in all rows: each is looked at once."""
    known: dict[Any, Any] = {}

    def read_word(cell: Any) -> Any:
        if cell in known:
            return known[cell]
        value = read_cell(cell)
        if value is not None and longest and len(value) > longest:
            raise ValueError(f"{value[:80]!r} is too long")
        if len(known) < MOST_WORDS:
            known[cell] = value
        return value

    return read_word


def _as_it_is(cell: Any) -> Any:
    return cell


def read_text(raw: Any) -> str:
    """Text as it stands, without spaces around it."""
    if not isinstance(raw, str) or not raw.strip() or "\0" in raw:
        raise ValueError(f"{_shown(raw)} is no text")
    return raw.strip()


def read_integer(raw: Any) -> int:
    """A whole number."""
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise ValueError(f"{_shown(raw)} is no whole number")
    return int(raw)


def read_double(raw: Any) -> float:
    """A finite double; text as Python and every other language writes it."""
    if type(raw) is float:
        value = raw
    elif isinstance(raw, bool) or (isinstance(raw, str) and "_" in raw):
        raise ValueError(f"{_shown(raw)} is no number")
    else:
        try:
            value = float(raw)
        except (TypeError, ValueError):
            raise ValueError(f"{_shown(raw)} is no number") from None
    if not math.isfinite(value):
        raise ValueError(f"{_shown(raw)} is no finite number")
    return value


def read_moment(raw: Any) -> datetime:
    """An aware UTC moment from ISO 8601 text (UTC where it names no zone), a datetime, a date, or
    an epoch in seconds or milliseconds."""
    if isinstance(raw, str):
        text = raw.strip()
        if not text.isdigit() or len(text) == COMPACT_DATE:
            try:
                return _in_utc(datetime.fromisoformat(text))
            except ValueError:
                raise ValueError(f"{_shown(raw)} is no ISO 8601 time") from None
        raw = int(text)
    if isinstance(raw, datetime):
        return _in_utc(raw)
    if isinstance(raw, date):
        return datetime.combine(raw, dt.time(), tzinfo=UTC)
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ValueError(f"{_shown(raw)} is no time")
    unit = timedelta(milliseconds=1) if abs(raw) >= LEAST_MS else timedelta(seconds=1)
    return EPOCH + raw * unit


def read_day(raw: Any) -> date:
    """A calendar day; of a moment, only midnight in UTC is one."""
    if isinstance(raw, date) and not isinstance(raw, datetime):
        return raw
    moment = read_moment(raw)
    if moment.time() != dt.time():
        raise ValueError(f"{_shown(raw)} is no day")
    return moment.date()


def read_flag(raw: Any) -> bool:
    """True or false, as a word or as 1 or 0."""
    word = str(raw).strip().lower()
    if word in {"true", "1"}:
        return True
    if word in {"false", "0"}:
        return False
    raise ValueError(f"{_shown(raw)} is neither true nor false")


READERS: dict[Kind, Callable[[Any], Any]] = {
    "text": read_text,
    "integer": read_integer,
    "double": read_double,
    "moment": read_moment,
    "day": read_day,
    "flag": read_flag,
}


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is UTC:
        return moment
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _shown(raw: Any) -> str:
    text = repr(raw)
    return text if len(text) <= 60 else text[:57] + "..."
