"""Better sources take over what worse ones gave while they were away.

A bar is asked for at each better source until that source has answered: what it does not have is
remembered as a SourceGap and not asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from collectors import clock, spans
from collectors.exchange import ProviderError
from collectors.marketdata import duration, floor_time, from_ms, to_ms
from collectors.models import Instrument, Ohlcv, SourceGap
from collectors.selectors.expressions import EpochSeconds
from collectors.services.candles import source_chain, source_ranking, store_candles
from collectors.services.search import (
    Coverage,
    Search,
    ask_source,
    fresh_from,
    servable_sources,
    step_ms,
)

# How far back a repair looks for such bars (market time); a backfill looks at its own span.
RECENT = timedelta(days=7)
# A better source may still be about to have the bar that a worse one had first.
SETTLED_AFTER = timedelta(minutes=15)


@dataclass(frozen=True)
class WorseBars:
    """Stored bars (open times in ms) and the places of their sources in the ranking; the place of
    a source that is not in it is the ranking's length."""

    bars: spans.Bars
    ranks: np.ndarray


def recent_from(timeframe: str) -> datetime:
    """From when on a repair looks for bars of worse sources."""
    return floor_time(clock.now() - RECENT, timeframe)


def worse_bars(
    instrument: Instrument, timeframe: str, start: datetime, end: datetime
) -> WorseBars | None:
    """The bars of [start, end) that a better source may have and was not asked for; None when
    there are none. One query when all are from the best source."""
    ranking, allowed = source_ranking(instrument), source_chain(instrument)
    if not allowed:
        return None
    candles = Ohlcv.objects.filter(
        instrument=instrument,
        timeframe=timeframe,
        open_time__gte=start,
        open_time__lt=min(end, from_ms(_settled_before(timeframe))),
    )
    rows = (
        candles.exclude(source__in=ranking[: min(map(ranking.index, allowed)) + 1])
        .order_by("open_time")
        .annotate(seconds=EpochSeconds("open_time"))
        .values_list("seconds", "source")
    )
    places = {name: place for place, name in enumerate(ranking)}
    pairs = [(seconds * 1000, places.get(source, len(ranking))) for seconds, source in rows]
    if not pairs:
        return None
    table = np.array(pairs, dtype=np.int64)
    worse = WorseBars(table[:, 0], table[:, 1])
    for source, _, valid in servable_sources(instrument):
        if len(_askable(worse, instrument, timeframe, source, places[source], valid)):
            return worse
    return None


def upgrade_bars(
    instrument: Instrument,
    timeframe: str,
    worse: WorseBars,
    result: Coverage,
    down: dict[str, ProviderError],
) -> None:
    """Ask the sources that are better than the bars' own, best first, and store what they have.

    A source that is `down` is left for the next time. What a source does not have is remembered.
    """
    ranking = source_ranking(instrument)
    taken = Search(worse.bars)
    unheard: dict[str, set[int]] = {}
    for source, symbol, valid in servable_sources(instrument):
        bars = taken.without_found(
            _askable(worse, instrument, timeframe, source, ranking.index(source), valid)
        )
        if len(bars) == 0 or source in down:
            continue
        search = Search(bars, down=down)
        ask_source(source, symbol, instrument, timeframe, bars, search, result)
        taken.found.update(search.found)
        stored = store_candles(
            instrument=instrument, timeframe=timeframe, candles=search.found.values()
        )
        result.replaced += stored.replaced
        # A source may know the bar by another symbol, which comes later in the chain.
        lacking = unheard.setdefault(source, set())
        lacking.update(search.without_found(bars).tolist())
        lacking.difference_update(search.unanswered, search.found)
    for source, absent in unheard.items():
        _remember(instrument, timeframe, source, np.array(sorted(absent), dtype=np.int64))


def _settled_before(timeframe: str) -> int:
    return fresh_from(timeframe, clock.current().widen(SETTLED_AFTER))


def _askable(
    worse: WorseBars,
    instrument: Instrument,
    timeframe: str,
    source: str,
    place: int,
    valid: spans.Span,
) -> spans.Bars:
    """Those of the bars whose source is worse than `source`, which may have them."""
    bars = worse.bars[
        (worse.ranks > place) & (worse.bars >= valid.start) & (worse.bars < valid.end)
    ]
    if len(bars) == 0:
        return bars
    gaps = SourceGap.objects.filter(
        instrument=instrument,
        timeframe=timeframe,
        source=source,
        start__lte=from_ms(int(bars[-1])),
        end__gte=from_ms(int(bars[0])),
    ).values_list("start", "end")
    step = step_ms(timeframe)
    return spans.without(bars, [spans.Span(to_ms(a), to_ms(b) + step) for a, b in gaps])


def _remember(instrument: Instrument, timeframe: str, source: str, bars: spans.Bars) -> None:
    """Keep which bars the source answered that it does not have."""
    step = duration(timeframe)
    SourceGap.objects.bulk_create(
        (
            SourceGap(
                instrument=instrument,
                timeframe=timeframe,
                source=source,
                start=from_ms(span.start),
                end=from_ms(span.end) - step,
                seen_at=clock.now(),
            )
            for span in spans.spans_of(bars, step=step_ms(timeframe))
        ),
        ignore_conflicts=True,
    )
