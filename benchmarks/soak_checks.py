"""What must be true after a long run of the streams, against the sandbox's own truth.

Truth is asked of a second sandbox of the same seed, which nobody else asks: its candles and its
funding are functions of the seed and the moment alone, and the product's calls stay uncounted.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

STEPS = {"15m": timedelta(minutes=15), "1h": timedelta(hours=1)}
BYBIT_INTERVALS = {"15m": "15", "1h": "60"}
EXCHANGES = ("binance", "bybit")
MOST_SHOWN = 5
# Bybit gives at most this many settlements in one answer.
BYBIT_SETTLEMENTS = 200
ANSWER_TIMEOUT_S = 60.0

NUMBER = re.compile(r"\d+(?:\.\d+)?")

Bar = tuple[float, ...]  # open, high, low, close, volume


@dataclass
class Law:
    """Something that must hold: over how many things it was looked at, and what broke it."""

    name: str
    looked_at: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def is_kept(self) -> bool:
        """Nothing broke it; a law that was looked at nowhere is not kept."""
        return self.looked_at > 0 and not self.broken

    def told(self) -> dict[str, Any]:
        """For people and programs."""
        return {
            "law": self.name,
            "is_kept": self.is_kept,
            "looked_at": self.looked_at,
            "broken": len(self.broken),
            "examples": self.broken[:MOST_SHOWN],
        }


@dataclass(frozen=True)
class Span:
    """From the start of market time to the last moment whose bars and settlements are due."""

    since: datetime
    until: datetime


def check_candles(database: Path, truth: str, span: Span) -> list[Law]:
    """Every closed bar of every streamed instrument and timeframe is there, and is what the
    exchange says that it was."""
    there = Law("every closed bar is stored")
    equal = Law("stored candles are the exchange's own")
    for coin_id, timeframe, symbols, rows in _series(database, span):
        expected = set(_opens(span, STEPS[timeframe]))
        there.looked_at += len(expected)
        there.broken += [
            f"{coin_id} {timeframe} {missing:%m-%d %H:%M}"
            for missing in sorted(expected - rows.keys())
        ]
        known = {
            source: _klines(truth, source, symbols[source], timeframe, span)
            for source in {source for source, _ in rows.values()} & symbols.keys()
        }
        for opened, (source, bar) in sorted(rows.items()):
            equal.looked_at += 1
            said = known.get(source, {}).get(opened)
            if said != bar:
                where = f"{coin_id} {timeframe} {opened:%m-%d %H:%M} {source}"
                equal.broken.append(f"{where}: {bar}, not {said}")
    return [there, equal]


def check_funding(database: Path, truth: str, span: Span) -> list[Law]:
    """Each settlement of each streamed perpetual once, with the rate of the exchange's history."""
    once = Law("each settlement is stored once")
    equal = Law("stored rates are the exchange's history")
    with closing(_open(database)) as connection:
        rows = connection.execute(
            "SELECT exchange, symbol, funding_time, rate FROM collectors_fundingrate"
        ).fetchall()
        followed = _listings(connection)
    stored: dict[tuple[str, str], dict[datetime, list[float]]] = {}
    for exchange, symbol, moment, rate in rows:
        at = _moment(moment)
        if span.since <= at <= span.until:
            stored.setdefault((exchange, symbol), {}).setdefault(at, []).append(rate)
    for exchange, symbol in sorted({(item[1], item[2]) for item in followed}):
        said = _settlements(truth, exchange, symbol, span)
        found = stored.get((exchange, symbol), {})
        for at in sorted(said.keys() | found.keys()):
            where = f"{exchange} {symbol} {at:%m-%d %H:%M}"
            rates = found.get(at, [])
            once.looked_at += 1
            if at not in said or len(rates) != 1:
                once.broken.append(f"{where}: {len(rates)} times")
                continue
            equal.looked_at += 1
            if rates != [said[at]]:
                equal.broken.append(f"{where}: {rates[0]}, not {said[at]}")
    return [once, equal]


def downtimes(database: Path, *, now: datetime) -> list[dict[str, Any]]:
    """By exchange and reason, and by exchange: how often books were withheld and for how long, in
    wall seconds. One that lasts is counted until `now`."""
    with closing(_open(database)) as connection:
        rows = connection.execute(
            "SELECT exchange, reason, began_at, ended_at FROM collectors_bookdowntime"
        ).fetchall()
    lengths: dict[tuple[str, str], list[float]] = {}
    for exchange, reason, began, ended in rows:
        seconds = ((_moment(ended) if ended else now) - _moment(began)).total_seconds()
        # What a reason says of one message alone is left out.
        for name in ("all", NUMBER.sub("N", reason.split(":")[0])):
            lengths.setdefault((exchange, name), []).append(seconds)
    return [
        {"exchange": exchange, "reason": reason, "count": len(values)}
        | {"total_s": round(sum(values), 2), "longest_s": round(max(values), 3)}
        | {
            name: round(_at(sorted(values), share), 3)
            for name, share in (("p50", 0.5), ("p99", 0.99))
        }
        for (exchange, reason), values in sorted(lengths.items())
    ]


def book_messages(database: Path) -> int:
    """How many messages of books were taken in the hours that are stored."""
    with closing(_open(database)) as connection:
        total = connection.execute("SELECT sum(messages) FROM collectors_bookhour").fetchone()[0]
    return int(total or 0)


def answer_of(address: str, path: str, **params: object) -> Any:
    """A sandbox's answer; it is asked again while it cannot be reached or refuses for a moment."""
    url = f"{address}{path}" + (f"?{urlencode(params)}" if params else "")
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)


def _series(
    database: Path, span: Span
) -> Iterator[tuple[str, str, dict[str, str], dict[datetime, tuple[str, Bar]]]]:
    """Each streamed series: coin id, timeframe, its symbols by exchange, and its stored bars."""
    with closing(_open(database)) as connection:
        symbols: dict[int, dict[str, str]] = {}
        for instrument, exchange, symbol in _listings(connection):
            symbols.setdefault(instrument, {})[exchange] = symbol
        instruments = connection.execute(
            "SELECT id, coin_id, timeframes FROM collectors_instrument WHERE is_enabled ORDER BY id"
        ).fetchall()
        for key, coin_id, timeframes in instruments:
            for timeframe in json.loads(timeframes):
                if key not in symbols:
                    continue
                found = connection.execute(
                    "SELECT open_time, source, open, high, low, close, volume FROM collectors_ohlcv"
                    " WHERE instrument_id = ? AND timeframe = ? AND open_time >= ?",
                    (key, timeframe, span.since.strftime("%Y-%m-%d %H:%M:%S")),
                ).fetchall()
                rows = {
                    _moment(opened): (source, tuple(values)) for opened, source, *values in found
                }
                due = set(_opens(span, STEPS[timeframe]))
                kept = {opened: row for opened, row in rows.items() if opened in due}
                yield coin_id, timeframe, symbols[key], kept


def _listings(connection: sqlite3.Connection) -> list[tuple[int, str, str]]:
    """Instrument, exchange and symbol of everything that is streamed."""
    marks = ", ".join("?" * len(EXCHANGES))
    return connection.execute(
        "SELECT instrument_id, exchange, collectors_listing.symbol FROM collectors_listing"
        " JOIN collectors_instrument ON collectors_instrument.id = instrument_id"
        f" WHERE is_enabled AND is_trading AND valid_to IS NULL AND exchange IN ({marks})",
        EXCHANGES,
    ).fetchall()


def _opens(span: Span, step: timedelta) -> Iterator[datetime]:
    opened = span.since
    while opened + step <= span.until:
        yield opened
        opened += step


def _klines(
    truth: str, exchange: str, symbol: str, timeframe: str, span: Span
) -> dict[datetime, Bar]:
    """The exchange's own bars; volume is the base asset's, as it is stored."""
    first = _ms(span.since)
    step_ms = int(STEPS[timeframe].total_seconds() * 1000)
    found: dict[datetime, Bar] = {}
    while first < _ms(span.until):
        last = min(first + 999 * step_ms, _ms(span.until))
        for row in _kline_rows(truth, exchange, symbol, timeframe, first, last):
            opened, *values = row[:6]
            found[_from_ms(opened)] = tuple(float(value) for value in values)
        first = last + 1
    return found


def _kline_rows(
    truth: str, exchange: str, symbol: str, timeframe: str, first: int, last: int
) -> Sequence[Sequence[Any]]:
    if exchange == "binance":
        asked = {"interval": timeframe, "startTime": first, "endTime": last, "limit": 1000}
        rows: list[Any] = answer_of(truth, "/binance/fapi/v1/klines", symbol=symbol, **asked)
        return rows
    asked = {"interval": BYBIT_INTERVALS[timeframe], "start": first, "end": last, "limit": 1000}
    body = answer_of(truth, "/bybit/v5/market/kline", category="linear", symbol=symbol, **asked)
    rows = body["result"]["list"]
    return rows


def _settlements(truth: str, exchange: str, symbol: str, span: Span) -> dict[datetime, float]:
    asked = {"symbol": symbol, "startTime": _ms(span.since), "endTime": _ms(span.until)}
    if exchange == "binance":
        rows = answer_of(truth, "/binance/fapi/v1/fundingRate", limit=1000, **asked)
        return {_from_ms(row["fundingTime"]): float(row["fundingRate"]) for row in rows}
    asked |= {"category": "linear", "limit": BYBIT_SETTLEMENTS}
    rows = answer_of(truth, "/bybit/v5/market/funding/history", **asked)["result"]["list"]
    return {_from_ms(row["fundingRateTimestamp"]): float(row["fundingRate"]) for row in rows}


def _open(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _from_ms(ms: int | str) -> datetime:
    return datetime.fromtimestamp(int(ms) / 1000, UTC)


def _at(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))]
