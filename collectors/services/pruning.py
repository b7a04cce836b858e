"""How candles are forgotten: the oldest first, in short transactions, and not fetched again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.db import transaction

from collectors.marketdata import TIMEFRAMES, candle_key, duration, floor_time
from collectors.models import CandleHole, CollectionState, Instrument, Ohlcv
from collectors.services.candles import lock_series, raise_revisions

CHUNK = 5_000


def prune_candles(*, before: datetime, newest_id: int | None = None) -> int:
    """Delete the candles that open before a moment, and gives how many; those with an id above
    `newest_id` stay.

    The history of a series that loses candles begins at `before` from then on, so that what was
    deleted is no hole and is asked for by nobody but a backfill that names it. Every chunk raises
    the series' revision, as a change of earlier rows, under the series' lock.
    """
    deleted = 0
    for instrument in Instrument.objects.all():
        for timeframe in TIMEFRAMES:
            deleted += sum(_chunks(instrument, timeframe, before, newest_id))
    return deleted


def _chunks(
    instrument: Instrument, timeframe: str, before: datetime, newest_id: int | None
) -> Iterator[int]:
    """Delete one chunk after the other, each in a transaction of its own."""
    old = Ohlcv.objects.filter(instrument=instrument, timeframe=timeframe, open_time__lt=before)
    if newest_id is not None:
        old = old.filter(pk__lte=newest_id)
    while old.exists():
        with transaction.atomic():
            key = candle_key(instrument.coin_id, timeframe)
            lock_series(key)
            _begin_history(instrument, timeframe, before)
            chunk = list(old.order_by("open_time").values_list("pk", flat=True)[:CHUNK])
            Ohlcv.objects.filter(pk__in=chunk).delete()
            raise_revisions(changed=[key], rewritten=[key])
        yield len(chunk)


def _begin_history(instrument: Instrument, timeframe: str, before: datetime) -> None:
    """Require nothing before the moment, and forget the holes there."""
    step = duration(timeframe)
    first = floor_time(before - step, timeframe) + step
    state, _ = CollectionState.objects.get_or_create(instrument=instrument, timeframe=timeframe)
    if state.history_from is None or state.history_from < first:
        CollectionState.objects.filter(pk=state.pk).update(history_from=first)
    holes = CandleHole.objects.filter(instrument=instrument, timeframe=timeframe)
    holes.filter(end__lt=first).delete()
    holes.filter(start__lt=first).update(start=first)
