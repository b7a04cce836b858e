"""Which candles are missing, and which of them may still come."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import datetime, timedelta

import numpy as np
from django.db.models import BooleanField, Case, Exists, Max, OuterRef, Value, When

from collectors import spans
from collectors.marketdata import duration, to_ms
from collectors.models import CandleHole, CollectionState, HoleLabel, Instrument, Ohlcv
from collectors.selectors.expressions import EpochSeconds

MILLISECOND, SECOND = timedelta(milliseconds=1), timedelta(seconds=1)
READ_AT_ONCE = 20_000
FINAL_LABELS = (HoleLabel.NO_TRADE, HoleLabel.UNREPAIRABLE)


def missing_at(
    *, instruments: Iterable[Instrument], timeframe: str, open_time: datetime
) -> list[str]:
    """The coin ids whose candle of that bar is not there and may still come.

    Excused are bars in a hole labelled no_trade or unrepairable, bars before the first candle
    that any source has, and instruments that no source has any candle of yet.
    """
    waited = {item.pk: item.coin_id for item in instruments}
    candles = Ohlcv.objects.filter(instrument__in=waited, timeframe=timeframe)
    for pk in candles.filter(open_time=open_time).values_list("instrument_id", flat=True):
        waited.pop(pk, None)
    if not waited:
        return []
    holes = CandleHole.objects.filter(
        instrument__in=waited,
        timeframe=timeframe,
        label__in=FINAL_LABELS,
        start__lte=open_time,
        end__gte=open_time,
    )
    states = CollectionState.objects.filter(
        instrument__in=waited, timeframe=timeframe, history_from__isnull=False
    ).annotate(
        has_candles=Case(
            When(Exists(candles.filter(instrument=OuterRef("instrument"))), then=Value(True)),
            default=Value(False),
            output_field=BooleanField(),
        )
    )
    excused = set(holes.values_list("instrument_id", flat=True))
    for pk, history_from, has_candles in states.values_list(
        "instrument_id", "history_from", "has_candles"
    ):
        if not has_candles or (history_from and open_time < history_from):
            excused.add(pk)
    return sorted(coin_id for pk, coin_id in waited.items() if pk not in excused)


def lacking_bars(
    *,
    instrument: Instrument,
    timeframe: str,
    start: datetime,
    end: datetime,
    retry_labelled: bool = False,
) -> spans.Bars:
    """The open times in [start, end) that have neither a candle nor a final hole label.

    With `retry_labelled` the labels do not count. One count when nothing is lacking. Lean: a byte
    for each bar of the span, beside the answer.
    """
    step = duration(timeframe)
    candles = Ohlcv.objects.filter(
        instrument=instrument, timeframe=timeframe, open_time__gte=start, open_time__lt=end
    )
    labelled = [] if retry_labelled else _labelled_spans(instrument, timeframe, start, end)
    expected = max((end - start) // step, 0)
    known = sum(span.end - span.start for span in labelled) // (step // MILLISECOND)
    if candles.count() + known >= expected:
        return np.empty(0, dtype=np.int64)
    first, step_s = to_ms(start) // 1000, step // SECOND
    is_lacking = np.ones(expected, dtype=bool)
    stored = candles.order_by().annotate(seconds=EpochSeconds("open_time"))
    seconds = stored.values_list("seconds", flat=True).iterator(chunk_size=READ_AT_ONCE)
    while len(have := np.fromiter(itertools.islice(seconds, READ_AT_ONCE), dtype=np.int64)):
        is_lacking[(have - first) // step_s] = False
    for span in labelled:
        lower, upper = span.start // 1000 - first, span.end // 1000 - first
        is_lacking[lower // step_s : upper // step_s] = False
    return (first + np.flatnonzero(is_lacking) * step_s) * 1000


def given_up_bars(*, instrument: Instrument, timeframe: str, start: datetime) -> spans.Bars:
    """The open times from `start` on that have a final hole label."""
    step = duration(timeframe) // MILLISECOND
    last = CandleHole.objects.filter(instrument=instrument, timeframe=timeframe).aggregate(
        end=Max("end")
    )["end"]
    if last is None:
        return np.empty(0, dtype=np.int64)
    labelled = _labelled_spans(instrument, timeframe, start, last + duration(timeframe))
    parts = [spans.grid(span.start, span.end, step) for span in labelled]
    return np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)


def hole_counts(
    *, instrument: Instrument, timeframe: str, start: datetime, end: datetime
) -> dict[str, int]:
    """How many bars of [start, end) are missing, by the label of their hole."""
    step = duration(timeframe)
    counts = {label.value: 0 for label in HoleLabel}
    holes = CandleHole.objects.filter(
        instrument=instrument, timeframe=timeframe, start__lt=end, end__gte=start
    )
    for label, first, last in holes.values_list("label", "start", "end"):
        counts[label] += (min(last + step, end) - max(first, start)) // step
    return counts


def _labelled_spans(
    instrument: Instrument, timeframe: str, start: datetime, end: datetime
) -> list[spans.Span]:
    """The finally labelled holes within [start, end)."""
    holes = CandleHole.objects.filter(
        instrument=instrument,
        timeframe=timeframe,
        label__in=FINAL_LABELS,
        start__lt=end,
        end__gte=start,
    ).values_list("start", "end")
    step = duration(timeframe)
    return [
        spans.Span(to_ms(max(first, start)), to_ms(min(last + step, end))) for first, last in holes
    ]
