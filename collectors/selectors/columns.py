"""Whole series as columns: from the mapped store, or from the database into it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import structlog
from django.conf import settings
from django.db import connection, transaction

from collectors import pgcopy
from collectors.columns import CandleColumns, Codes, Doubles, Flags, Integers, joined
from collectors.marketdata import candle_key, from_ms
from collectors.models import Ohlcv, Series
from collectors.sources import VOLUME_CODES
from collectors.store import MappedSeries, Version, find_series, write_series

log = structlog.get_logger(__name__)

PRICES = ("open", "high", "low", "close")
COPIED_FIELDS = [
    ("instrument", ">i8"),
    ("open_time", ">i8"),
    *((name, ">f8") for name in (*PRICES, "volume")),
    ("mark", "i1"),
]
ALWAYS = np.iinfo(np.int64).min
# What is known of a row beside its values, as one byte: the code of its source, or that it was
# sampled, when nobody measured a volume. A field for each would cost a tenth of the reading.
SAMPLED = -1
MARK = "(CASE WHEN is_sampled THEN {sampled} ELSE CASE source {codes} ELSE {none} END END)"
BYTE = '::"char"'


def series_columns(*, ids: Mapping[str, int], timeframe: str) -> dict[str, CandleColumns]:
    """All stored candles of the coins (`ids` are their instruments' keys in the database).

    Read from the store at the revision that the database has; what the store lacks is read from
    the database, in one snapshot with the revision, and put there. In a transaction, which may be
    rolled back, nothing is put there.
    """
    keys = {coin_id: candle_key(coin_id, timeframe) for coin_id in ids}
    found = _look(keys)
    lacking = {coin_id for coin_id, (series, mapped) in found.items() if not _is(series, mapped)}
    columns = {
        coin_id: mapped.columns
        for coin_id, (_, mapped) in found.items()
        if mapped is not None and coin_id not in lacking
    }
    if not lacking:
        return columns
    with _snapshot() as is_kept:
        states = _look({coin_id: keys[coin_id] for coin_id in sorted(lacking)})
        if not is_kept:
            states = {coin_id: (series, None) for coin_id, (series, _) in states.items()}
        read = _read({coin_id: ids[coin_id] for coin_id in states}, timeframe, states)
    for coin_id, (series, _) in states.items():
        if is_kept and series is not None:
            columns[coin_id] = _kept(series, read[coin_id])
        else:
            columns[coin_id] = read[coin_id]
    return columns


State = tuple[Series | None, MappedSeries | None]


def _look(keys: Mapping[str, str]) -> dict[str, State]:
    """Each coin's series, and what the store has of it."""
    rows = {series.key: series for series in Series.objects.filter(key__in=keys.values())}
    return {
        coin_id: (
            rows.get(key),
            find_series(_folder(), key, _version(rows[key])) if key in rows else None,
        )
        for coin_id, key in keys.items()
    }


def _is(series: Series | None, mapped: MappedSeries | None) -> bool:
    """Whether the mapped series is the one in the database."""
    return series is not None and mapped is not None and mapped.version == _version(series)


def _version(series: Series) -> Version:
    return Version(series.identity.hex, series.revision)


def _folder() -> Path:
    folder: Path = settings.DATA_DIR / "store"
    return folder


def _kept(series: Series, columns: CandleColumns) -> CandleColumns:
    """The columns, put into the store unless it takes nothing. Those in memory are given on: to
    read them is cheaper than to read a new mapping."""
    try:
        write_series(_folder(), series.key, _version(series), columns)
    except OSError as problem:
        log.warning("series_not_kept", series=series.key, problem=str(problem))
    return columns


@contextlib.contextmanager
def _snapshot() -> Iterator[bool]:
    """Let all reads within see one state of the database; false inside a transaction, which has
    its own rules and may have written what nobody else will ever see."""
    if connection.in_atomic_block:
        yield False
    elif connection.vendor == "postgresql":
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield True
    else:
        # Not by atomic(), which would take the only writer's turn.
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
        try:
            yield True
        finally:
            with connection.cursor() as cursor:
                cursor.execute("COMMIT")


def _read(
    ids: Mapping[str, int], timeframe: str, states: Mapping[str, State]
) -> dict[str, CandleColumns]:
    """The coins' candles; of a series that the store has at a revision since which it was only
    appended to, no more than what came since is read."""
    bases: dict[str, CandleColumns] = {}
    for coin_id, (series, mapped) in states.items():
        if series is None or mapped is None or len(mapped.columns) == 0:
            continue
        if series.rewritten_revision <= mapped.version.revision:
            bases[coin_id] = mapped.columns
    read = {
        coin_id: _rows([ids[coin_id]], timeframe, ALWAYS)[1]
        for coin_id in ids
        if coin_id not in bases
    }
    if bases:
        newest = {coin_id: int(columns.open_time[-1]) for coin_id, columns in bases.items()}
        owners, rows = _rows([ids[each] for each in bases], timeframe, min(newest.values()))
        for coin_id, base in bases.items():
            own = (owners == ids[coin_id]) & (rows.open_time > newest[coin_id])
            new = CandleColumns(**{name: getattr(rows, name)[own] for name in vars(rows)})
            read[coin_id] = joined([base, new])
    return read


def _rows(instruments: Sequence[int], timeframe: str, after: int) -> tuple[Integers, CandleColumns]:
    """The instruments' candles that open after a moment (ms), ordered by open time, and whose each
    is."""
    marks = ", ".join(["%s"] * len(instruments))
    where = f"instrument_id IN ({marks}) AND timeframe = %s"
    parameters: list[str | int] = [*instruments, timeframe]
    if after != ALWAYS:
        where += " AND open_time > %s"
        parameters.append(str(connection.ops.adapt_datetimefield_value(from_ms(after))))
    read = _copied if connection.vendor == "postgresql" else _fetched
    owners, columns = read(where, parameters, len(instruments) > 1)
    if owners is None:
        owners = np.full(len(columns), instruments[0], dtype=np.int64)
    if (columns.open_time[1:] < columns.open_time[:-1]).any():
        order = np.argsort(columns.open_time, kind="stable")
        columns = CandleColumns(**{name: each[order] for name, each in vars(columns).items()})
        owners = owners[order]
    return owners, columns


def _copied(
    where: str, parameters: Sequence[str | int], has_owners: bool
) -> tuple[Integers | None, CandleColumns]:
    fields = COPIED_FIELDS if has_owners else COPIED_FIELDS[1:]
    query = (
        f"SELECT {'instrument_id,' if has_owners else ''} open_time, open, high, low, close,"
        f" coalesce(volume, 'NaN'), {_mark(BYTE)} FROM {Ohlcv._meta.db_table} WHERE {where}"
    )
    content = BytesIO()
    with connection.cursor() as cursor:
        sql = cursor.mogrify(query, parameters).decode()
        cursor.copy_expert(f"COPY ({sql}) TO STDOUT (FORMAT binary)", content)
    columns = pgcopy.decode_columns(content.getbuffer(), fields)
    owners = columns.pop("instrument", None)
    columns["open_time"] += pgcopy.EPOCH_US
    columns["open_time"] //= 1000
    volume_source, sampled = _marked(columns.pop("mark"), columns["volume"])
    return owners, CandleColumns(volume_source=volume_source, sampled=sampled, **columns)


def _fetched(
    where: str, parameters: Sequence[str | int], has_owners: bool
) -> tuple[Integers | None, CandleColumns]:
    # No stored volume is negative; the cursor's own rows, because an iteration by the ORM would
    # double the cost.
    query = (
        "SELECT instrument_id, CAST(strftime('%%s', open_time) AS INTEGER), open, high, low, close,"
        f" coalesce(volume, -1.0), {_mark()} FROM {Ohlcv._meta.db_table} WHERE {where}"
    )
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        flat = itertools.chain.from_iterable(cursor.fetchall())
        rows = np.fromiter(flat, dtype=np.float64).reshape(-1, 8)
    columns = np.ascontiguousarray(rows.T)  # doubles hold these integers exactly
    volume = columns[6]
    volume[volume < 0] = np.nan
    volume_source, sampled = _marked(columns[7].astype(np.int8), volume)
    return columns[0].astype(np.int64), CandleColumns(
        open_time=columns[1].astype(np.int64) * 1000,
        **dict(zip(PRICES, columns[2:6], strict=True)),
        volume=volume,
        volume_source=volume_source,
        sampled=sampled,
    )


def _mark(cast: str = "") -> str:
    """The expression for a row's mark, its numbers cast to a type of one byte."""
    codes = " ".join(f"WHEN '{name}' THEN {code}{cast}" for name, code in VOLUME_CODES.items())
    return MARK.format(sampled=f"({SAMPLED}){cast}", codes=codes, none=f"0{cast}")


def _marked(marks: Codes, volume: Doubles) -> tuple[Codes, Flags]:
    """The codes of the volumes' sources, 0 where there is no volume, and what is sampled."""
    sampled = marks == SAMPLED
    marks[sampled | np.isnan(volume)] = 0
    return marks, sampled
