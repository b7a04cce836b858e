"""How files become stored candles and macro observations: all of them read before the first row is
stored, then in chunks.

A file with a wrong column or value stores nothing. Each chunk is one transaction, so that a long
file holds no lock for long; who is killed between two leaves whole chunks, and the same command
goes on, as a row that is there changes nothing.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any

from collectors import clock
from collectors.formats import SchemaError
from collectors.formats.schema import CANDLE_COLUMNS, Row
from collectors.formats.tables import SOURCE, TableFile
from collectors.macro_registry import check_value
from collectors.marketdata import TIMEFRAMES, Candle, macro_key
from collectors.models import Instrument, MacroObservation, MacroSeries
from collectors.quality import Finding
from collectors.releases import CHICAGO, midnight_in_chicago, next_business_day
from collectors.services.candles import store_candles
from collectors.services.findings import keep_possible, record_findings
from collectors.services.macro import store_observations

# Rows in one transaction.
CHUNK = 20_000
SLUG = re.compile(r"[a-z0-9][a-z0-9_-]*")
CANDLE_FIELDS = tuple(column.name for column in CANDLE_COLUMNS[2:])
SERIES_ID = re.compile(r"[A-Z0-9]+")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which rows are taken: of these coins and series (none: all), of the timeframe, from `start`
    on and before `end`."""

    coins: frozenset[str] = frozenset()
    series: frozenset[str] = frozenset()
    timeframe: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    def takes(self, name: str, timeframe: str | None, moment: datetime) -> bool:
        """Whether a row is wanted; only candles have a timeframe."""
        names = self.series if timeframe is None else self.coins
        return (
            (not names or name in names)
            and (self.timeframe is None or timeframe in {None, self.timeframe})
            and (self.start is None or moment >= self.start)
            and (self.end is None or moment < self.end)
        )


@dataclass
class Imported:
    """What came of one table. Of its wanted `rows` some were new, replaced another, changed
    nothing, were impossible, came twice in the table, or had no value; those of `unknown` coins
    or series were left out, by name."""

    file: str
    kind: str
    rows: int = 0
    inserted: int = 0
    replaced: int = 0
    unchanged: int = 0
    rejected: int = 0
    repeated: int = 0
    missing: int = 0
    unknown: dict[str, int] = field(default_factory=dict)


@dataclass
class _Names:
    """What coins or series are called in files, and the rows that they are here."""

    known: dict[str, Any]
    tickers: dict[str, str] = field(default_factory=dict)

    def ours(self, name: str) -> str:
        """Our name: a coin's CoinGecko id, also for its ticker where only one coin has it."""
        if name in self.known:
            return name
        lower = name.lower()
        return lower if lower in self.known else self.tickers.get(name.upper(), name)


def import_tables(
    *,
    tables: Sequence[TableFile],
    wanted: Wanted,
    register: bool = False,
    on_progress: Progress | None = None,
) -> list[Imported]:
    """Store the wanted rows of the tables, which are read to their ends before any is stored.

    With `register`, coins and series that are unknown are made, disabled. `on_progress` is told
    the rows done and all of them. Raises FormatError and SchemaError, with nothing stored.
    """
    results = [_check(table, wanted, _names(table)) for table in tables]
    total, done = sum(result.rows for result in results), 0
    for table, result in zip(tables, results, strict=True):
        if register:
            _register(table, list(result.unknown))
        names = _names(table)
        result.unknown = {
            name: count for name, count in result.unknown.items() if name not in names.known
        }
        store = _store_macro if table.kind == "macro" else _store_candles
        rows = _taken(table, wanted, names, result)
        while chunk := list(itertools.islice(rows, CHUNK)):
            store([row for row in chunk if row[0] in names.known], names, result)
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, total)
    return results


def _names(table: TableFile) -> _Names:
    if table.kind == "macro":
        return _Names({series.series_id: series for series in MacroSeries.objects.all()})
    instruments = list(Instrument.objects.all())
    shared = Counter(item.symbol.upper() for item in instruments)
    tickers = {item.symbol.upper(): item.coin_id for item in instruments}
    return _Names(
        {item.coin_id: item for item in instruments},
        {ticker: coin_id for ticker, coin_id in tickers.items() if shared[ticker] == 1},
    )


def _register(table: TableFile, names: Sequence[str]) -> None:
    """Make what is unknown, as far as the name can be one; an operator completes and enables it."""
    for name in names:
        if table.kind == "macro" and SERIES_ID.fullmatch(name):
            MacroSeries.objects.get_or_create(
                series_id=name,
                defaults={"name": name, "units": "", "frequency": "", "is_enabled": False},
            )
        elif table.kind == "candles" and SLUG.fullmatch(name):
            Instrument.objects.get_or_create(
                coin_id=name,
                defaults={
                    "symbol": name[:16].upper(),
                    "name": name,
                    "sector": "unknown",
                    "is_enabled": False,
                    "is_strategy_enabled": False,
                },
            )


def _check(table: TableFile, wanted: Wanted, names: _Names) -> Imported:
    """Read all of it; all names that its wanted rows have are in `unknown`, each with its rows."""
    counted: Counter[str] = Counter()
    for row in _taken(table, wanted, names, Imported("", "")):
        counted[row[0]] += 1
    return Imported(
        str(table.path), table.kind, rows=counted.total(), unknown=dict(sorted(counted.items()))
    )


def _taken(table: TableFile, wanted: Wanted, names: _Names, result: Imported) -> Iterator[Row]:
    """The wanted rows under our names. Those of a series rise in time; of several for one moment
    the first counts, and the others are counted as repeated."""
    last: dict[Any, Any] = {}
    when = _macro_moment if table.kind == "macro" else _candle_moment
    for place, raw in table.rows():
        row = (names.ours(raw[0]), *raw[1:])
        try:
            series, at, moment = when(row)
        except ValueError as problem:
            raise SchemaError(f"{place}, {problem}") from None
        earlier = last.get(series)
        if earlier is not None and at < earlier:
            raise SchemaError(f"{place}, column {_row_time(table)}: does not rise")
        last[series] = at
        if not wanted.takes(*series, moment):
            continue
        if at == earlier:
            result.repeated += 1
            continue
        yield row


def _row_time(table: TableFile) -> str:
    """The column that orders the rows of a series."""
    return "date" if table.kind == "macro" else "open_time"


def _candle_moment(row: Row) -> tuple[tuple[str, str | None], Any, datetime]:
    """The series that a row belongs to, what orders it there, and its moment."""
    name, timeframe, open_time = row[:3]
    if timeframe not in TIMEFRAMES:
        known = ", ".join(TIMEFRAMES)
        raise ValueError(f"column timeframe: {timeframe!r} is unknown; known: {known}")
    return (name, timeframe), open_time, open_time


def _macro_moment(row: Row) -> tuple[tuple[str, str | None], Any, datetime]:
    name, day, _, realtime_start = row[:4]
    return (name, None), (day, realtime_start or day), datetime.combine(day, time(), tzinfo=UTC)


# -- Candles -----------------------------------------------------------------------------------


def _store_candles(rows: Sequence[Row], names: _Names, result: Imported) -> None:
    batches: dict[tuple[str, str], list[Candle]] = {}
    for row in rows:
        if None in row[3:7]:
            result.missing += 1
            continue
        candle = Candle(**dict(zip(CANDLE_FIELDS, row[2:], strict=True)))
        batches.setdefault((row[0], row[1]), []).append(candle)
    for (coin_id, timeframe), candles in batches.items():
        instrument = names.known[coin_id]
        possible, rejected = keep_possible(
            instrument=instrument, timeframe=timeframe, candles=candles
        )
        stored = store_candles(instrument=instrument, timeframe=timeframe, candles=possible)
        result.rejected += rejected + stored.rejected
        result.inserted += stored.inserted
        result.replaced += stored.replaced
        result.unchanged += stored.unchanged


# -- Macro -------------------------------------------------------------------------------------


def _store_macro(rows: Sequence[Row], names: _Names, result: Imported) -> None:
    batches: dict[str, list[MacroObservation]] = {}
    received_at = clock.wall_now()
    for row in rows:
        if row[2] is None:
            result.missing += 1
            continue
        batches.setdefault(row[0], []).append(_observation(row, received_at))
    for series_id, observations in batches.items():
        series = names.known[series_id]
        possible = _possible(series, observations)
        stored = store_observations(series=series, observations=_without_answered(series, possible))
        result.rejected += len(observations) - len(possible)
        result.inserted += stored
        result.unchanged += len(possible) - stored


def _possible(
    series: MacroSeries, observations: Sequence[MacroObservation]
) -> list[MacroObservation]:
    """The observations whose values the series can have; the others are recorded as findings."""
    reasons = [check_value(series.series_id, item.value) for item in observations]
    findings = [
        Finding(
            verdict="rejected",
            reason=reason,
            at=datetime.combine(item.date, time(), tzinfo=UTC),
            source=SOURCE,
            values={"value": item.value, "realtime_start": item.realtime_start.isoformat()},
        )
        for item, reason in zip(observations, reasons, strict=True)
        if reason is not None
    ]
    subject = macro_key(series.series_id)
    record_findings(subject=subject, findings=findings, macro_series=series)
    return [item for item, reason in zip(observations, reasons, strict=True) if reason is None]


def _observation(row: Row, received_at: datetime) -> MacroObservation:
    """A row as a vintage. Where it tells no release, the next business day is assumed."""
    _, day, value, realtime_start, released_at, is_assumed, received = row
    if realtime_start is None and released_at is None:
        released_at, is_assumed = midnight_in_chicago(next_business_day(day)), True
        realtime_start = day
    elif realtime_start is None:
        realtime_start = released_at.astimezone(CHICAGO).date() - timedelta(days=1)
    elif released_at is None:
        released_at = midnight_in_chicago(realtime_start + timedelta(days=1))
    return MacroObservation(
        date=day,
        value=value,
        realtime_start=realtime_start,
        released_at=released_at,
        is_release_assumed=bool(is_assumed),
        received_at=received or received_at,
    )


def _without_answered(
    series: MacroSeries, observations: Sequence[MacroObservation]
) -> list[MacroObservation]:
    """The observations without those of an assumed release whose day has a vintage already: an
    assumption may be earlier than the release was, and must not tell a value before it."""
    if not observations:
        return []
    days = [item.date for item in observations]
    stored = series.observations.filter(date__gte=min(days), date__lte=max(days))
    known = set(stored.exclude(is_release_assumed=True).order_by().values_list("date", flat=True))
    return [item for item in observations if not (item.is_release_assumed and item.date in known)]
