"""What the sources of an instrument say about the bars that the table lacks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import structlog
from django.conf import settings

from collectors import clock, coingecko, selectors, spans
from collectors.exchange import (
    MalformedPayload,
    OutsidePlan,
    ProviderError,
    RequestRefused,
    RetryableError,
    UnknownSymbol,
)
from collectors.marketdata import Candle, duration, from_ms, to_ms
from collectors.models import Instrument
from collectors.services.candles import source_chain
from collectors.services.findings import keep_possible
from collectors.services.providers import candle_source
from collectors.services.samples import sample_bars
from collectors.sources import VENUES

log = structlog.get_logger(__name__)

# How long a bar run waits for a missing candle (market time, widened at high speed).
BAR_RUN_PATIENCE = timedelta(seconds=30)
# Short requests over what lies between two gaps are joined up to this many bars: from 500 on a
# page of Binance weighs more than twice as much.
JOIN_BARS = 499
# No source has candles before: the first exchange of today's kind opened in that year.
EARLIEST = datetime(2017, 1, 1, tzinfo=UTC)
# CoinGecko's plans below pro end 365 days ago and refuse a request that begins earlier; a day
# less, because market time goes on while one waits for one's turn.
FREE_HISTORY = timedelta(days=364)


@dataclass
class Coverage:
    """How one series stands after `ensure_coverage`, in bars.

    `stored` were new, `awaited` may still appear at a source, the other three are the labels of
    holes. `replaced` came from a better source than what was stored. `is_busy`: somebody else is
    asking the providers for this series right now. `response_ms` are the wall times of the
    answers, in order.
    """

    coin_id: str
    timeframe: str
    stored: int = 0
    replaced: int = 0
    awaited: int = 0
    pending: int = 0
    no_trade: int = 0
    unrepairable: int = 0
    requests: int = 0
    rejected: int = 0
    is_busy: bool = False
    errors: list[str] = field(default_factory=list)
    response_ms: list[float] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to ask for."""
        return not (self.is_busy or self.awaited or self.pending or self.errors)


@dataclass
class Search:
    """What the sources said about the lacking `bars` (open times in ms).

    `unanswered` names the problem of each bar that a source could not be asked about;
    `answered_by_venue` are the bars about which an exchange gave an answer. `beside` are candles
    of bars that are stored already, which came with the others and may correct them. `down` are
    the sources that would fail again: they are not asked any more. `may_recover`: a source failed
    that may have what the others do not.
    """

    bars: spans.Bars
    found: dict[int, Candle] = field(default_factory=dict)
    unanswered: dict[int, str] = field(default_factory=dict)
    answered_by_venue: set[int] = field(default_factory=set)
    beside: list[Candle] = field(default_factory=list)
    down: dict[str, ProviderError] = field(default_factory=dict)
    may_recover: bool = False

    def fail(self, source: str, bars: spans.Bars, error: ProviderError) -> None:
        """Record that the source could not be asked about the bars."""
        self.unanswered.update(dict.fromkeys(bars.tolist(), str(error)))
        # A refusal that nobody can read is no answer about the bars either.
        is_passing = isinstance(error, RetryableError | RequestRefused)
        self.may_recover = self.may_recover or is_passing
        # One page that does not parse and one symbol that is refused say nothing of the rest.
        if not isinstance(error, MalformedPayload | RequestRefused):
            self.down[source] = error

    def without_found(self, bars: spans.Bars) -> spans.Bars:
        """The bars that were not found."""
        return np.array([bar for bar in bars.tolist() if bar not in self.found], dtype=np.int64)


def ask_sources(
    instrument: Instrument,
    timeframe: str,
    bars: spans.Bars,
    result: Coverage,
    down: dict[str, ProviderError],
) -> Search:
    """Ask the instrument's sources in their order until every bar is found or all were asked.

    What each said is in the answer; requests, errors and impossible candles are counted in
    `result`. Sources that are `down` are left out, and those that turn out to be are added. Raises
    nothing that a provider does.
    """
    search = Search(bars, down=down)
    fresh = fresh_from(timeframe, clock.current().widen(BAR_RUN_PATIENCE) / 2)
    remaining = bars
    asked: set[int] = set()
    for source, symbol, valid in servable_sources(instrument):
        todo = remaining[(remaining >= valid.start) & (remaining < valid.end)]
        # A fresh bar is the best source's alone for a while: a worse source that is a moment
        # faster must not decide what a strategy sees.
        todo = todo[[bar < fresh or bar not in asked for bar in todo.tolist()]]
        asked.update(todo.tolist())
        ask_source(source, symbol, instrument, timeframe, todo, search, result)
        remaining = search.without_found(remaining)
        if len(remaining) == 0:
            break
    return search


def served_from(instrument: Instrument) -> datetime:
    """The moment before which no source of the instrument can have candles."""
    starts = [valid.start for _, _, valid in servable_sources(instrument)]
    return from_ms(min(starts)) if starts else EARLIEST


def servable_sources(instrument: Instrument) -> Iterator[tuple[str, str, spans.Span]]:
    """(source, symbol, when that symbol is valid) in the order of the chain."""
    always = spans.Span(to_ms(EARLIEST), 2**62)
    for source in source_chain(instrument):
        if source not in VENUES:
            is_limited = settings.ENV.coingecko_plan != "pro"
            since = to_ms(clock.now() - FREE_HISTORY) if is_limited else always.start
            yield source, instrument.coin_id, spans.Span(since, always.end)
            continue
        for listing in selectors.listings_at(instrument=instrument, exchange=source):
            yield (
                source,
                listing.symbol,
                spans.Span(
                    to_ms(listing.valid_from) if listing.valid_from else always.start,
                    to_ms(listing.valid_to) if listing.valid_to else always.end,
                ),
            )


def source_names(instrument: Instrument) -> list[str]:
    """The instrument's sources, each with all that decides which bars it can be asked about."""
    names: list[str] = []
    for source in source_chain(instrument):
        if source not in VENUES:
            names.append(f"{source} {settings.ENV.coingecko_plan}")
            continue
        for listing in selectors.listings_at(instrument=instrument, exchange=source):
            limits = (listing.valid_from, listing.valid_to)
            since, until = ("" if at is None else at.isoformat() for at in limits)
            names.append(f"{source} {listing.symbol} {since}/{until}")
    return names


def ask_source(
    source: str,
    symbol: str,
    instrument: Instrument,
    timeframe: str,
    bars: spans.Bars,
    search: Search,
    result: Coverage,
) -> None:
    """Ask one source for the bars; what it said goes into `search`."""
    if source in search.down and len(bars):
        search.fail(source, bars, search.down[source])
        return
    step = step_ms(timeframe)
    wanted = set(bars.tolist())
    for span in spans.spans_of(bars, step=step, longest=JOIN_BARS):
        first, last = np.searchsorted(bars, (span.start, span.end))
        inside = bars[first:last].tolist()
        started = time.monotonic()
        try:
            if source == coingecko.NAME:
                sampling = sample_bars(instrument=instrument, timeframe=timeframe, bars=inside)
                candles = sampling.candles
                result.requests += sampling.requests
            else:
                result.requests += 1
                candles = candle_source(source).fetch_candles(
                    symbol, timeframe, from_ms(span.start), from_ms(span.end)
                )
            result.response_ms.append((time.monotonic() - started) * 1000)
        except UnknownSymbol:
            return
        except OutsidePlan:
            continue
        except ProviderError as error:
            # What one request met, the next would meet too: the rest waits for the next tick.
            problem = f"{source} {symbol} {timeframe}: {error}"
            log.warning("source_failed", instrument=result.coin_id, problem=problem)
            result.errors.append(problem)
            search.fail(source, bars, error)
            return
        for bar in inside if not search.may_recover else ():
            search.unanswered.pop(bar, None)
        if source in VENUES:
            search.answered_by_venue.update(inside)
        possible, rejected = keep_possible(
            instrument=instrument, timeframe=timeframe, candles=candles
        )
        result.rejected += rejected
        for candle in possible:
            at = to_ms(candle.open_time)
            if at in wanted:
                search.found[at] = candle
            else:
                search.beside.append(candle)


def step_ms(timeframe: str) -> int:
    """The length of a bar in milliseconds."""
    return duration(timeframe) // timedelta(milliseconds=1)


def fresh_from(timeframe: str, age: timedelta) -> int:
    """The first open time (ms) of the bars that closed less than `age` ago, market time."""
    return to_ms(clock.now() - age) - step_ms(timeframe)
