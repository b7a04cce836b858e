"""Which of many series may lack something, in a few looks at all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db.models import Count

from collectors.marketdata import duration, floor_time
from collectors.models import CandleHole, CollectionState, HoleLabel, Instrument, Ohlcv

# The bars that a tick looks at: a day of hours, with one to spare at each end.
RECENT_BARS = 26


def series_that_lack(
    *, series: Iterable[tuple[Instrument, str]], until: datetime
) -> list[tuple[Instrument, str]]:
    """The series, in their order, that do not have all of their newest RECENT_BARS candles closed
    at `until` (market time), whose last collection failed or never was, or of which a hole is
    pending.

    Three queries for each timeframe, however many series there are.
    """
    wanted = list(series)
    well: dict[str, set[int]] = {
        timeframe: _complete(
            [item.pk for item, frame in wanted if frame == timeframe], timeframe, until
        )
        for timeframe in {frame for _, frame in wanted}
    }
    return [(item, frame) for item, frame in wanted if item.pk not in well[frame]]


def _complete(instrument_ids: Sequence[int], timeframe: str, until: datetime) -> set[int]:
    end = floor_time(until, timeframe)
    counts = (
        Ohlcv.objects.filter(
            instrument__in=instrument_ids,
            timeframe=timeframe,
            open_time__gte=end - RECENT_BARS * duration(timeframe),
            open_time__lt=end,
        )
        .order_by()
        .values_list("instrument_id")
        .annotate(bars=Count("pk"))
    )
    full = {pk for pk, bars in counts if bars == RECENT_BARS}
    states = CollectionState.objects.filter(
        timeframe=timeframe, consecutive_failures=0, last_success_at__isnull=False
    )
    healthy = set(states.values_list("instrument_id", flat=True))
    pending = CandleHole.objects.filter(timeframe=timeframe, label=HoleLabel.PENDING)
    return (full & healthy) - set(pending.order_by().values_list("instrument_id", flat=True))
