"""What the other apps may read of the collected data, and how it stands."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import redis
from django.conf import settings
from django.db import connection
from django.db.models import BigIntegerField as BigInteger
from django.db.models import BooleanField, Case, Exists, Func, OuterRef, Q, Value, When
from django.db.models.functions import Coalesce
from numpy.typing import NDArray

from collectors import spans
from collectors.marketdata import CandleMatrix, Quote, duration, to_ms
from collectors.models import (
    CandleHole,
    CollectionState,
    HoleLabel,
    Instrument,
    Listing,
    MacroObservation,
    Ohlcv,
    Series,
    Tier,
)

FINAL_LABELS = (HoleLabel.NO_TRADE, HoleLabel.UNREPAIRABLE)
_quotes = msgspec.json.Decoder(Quote)


class EpochSeconds(Func):
    """A stored moment as whole seconds since the epoch: many times cheaper to read than a
    datetime, and every open time is a whole second."""

    output_field = BigInteger()

    def as_sql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        """PostgreSQL's spelling."""
        return super().as_sql(
            compiler, connection, template="EXTRACT(EPOCH FROM %(expressions)s)::bigint", **extra
        )

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        """SQLite keeps moments as text in UTC."""
        return super().as_sql(
            compiler,
            connection,
            template="CAST(strftime('%%%%s', %(expressions)s) AS INTEGER)",
            **extra,
        )


@functools.cache
def redis_client() -> redis.Redis:
    """This process's client of the shared Redis; safe to use from several threads."""
    return redis.Redis.from_url(settings.REDIS_URL)


# -- Instruments -------------------------------------------------------------------------------


def enabled_instruments(*, tier: str | None = None) -> list[Instrument]:
    """The instruments that are collected, high-frequency ones first."""
    instruments = Instrument.objects.filter(is_enabled=True).prefetch_related("listings")
    if tier is not None:
        instruments = instruments.filter(tier=tier)
    return sorted(instruments, key=lambda item: (item.tier != Tier.HIGH_FREQUENCY, item.coin_id))


def strategy_instruments(*, at: datetime) -> list[Instrument]:
    """The instruments offered to strategies: enabled for them, and listed somewhere at `at`.

    A coin that only CoinGecko knows cannot be traded, and its candles have no true extremes.
    """
    listed = Listing.objects.filter(_valid(at), instrument=OuterRef("pk"))
    instruments = Instrument.objects.filter(
        Exists(listed), is_enabled=True, is_strategy_enabled=True
    )
    return list(instruments.order_by("coin_id"))


def instrument_by_coin_id(coin_id: str) -> Instrument:
    """The instrument. Raises Instrument.DoesNotExist."""
    return Instrument.objects.get(coin_id=coin_id)


def listing_for(*, instrument: Instrument, exchange: str, at: datetime) -> Listing | None:
    """The symbol that is valid at `at`; where two are, the one that is valid longest."""
    listings = [
        listing
        for listing in instrument.listings.all()
        if listing.exchange == exchange
        and (listing.valid_from is None or listing.valid_from <= at)
        and (listing.valid_to is None or at < listing.valid_to)
    ]
    listings.sort(key=lambda item: (item.valid_to is None, item.valid_to or at), reverse=True)
    return listings[0] if listings else None


def _valid(at: datetime) -> Q:
    return (Q(valid_from=None) | Q(valid_from__lte=at)) & (Q(valid_to=None) | Q(valid_to__gt=at))


# -- Candles -----------------------------------------------------------------------------------


def candle_matrix(
    *, coin_ids: Sequence[str], timeframe: str, start: datetime, end: datetime
) -> CandleMatrix:
    """Every bar of [start, end) for the coins, in their order. `start` and `end` are on the grid.

    Raises ValueError for an unknown timeframe, Instrument.DoesNotExist for an unknown coin.
    """
    step = duration(timeframe) // duration("1m") * 60
    first = to_ms(start) // 1000
    seconds = np.arange(first, to_ms(end) // 1000, step, dtype=np.int64)
    ids = _instrument_ids(coin_ids)
    shape = (len(seconds), len(coin_ids))
    columns = np.full((5, *shape), np.nan)
    valid = np.zeros(shape, dtype=bool)
    sampled = np.zeros(shape, dtype=bool)
    rows = _candle_rows(ids, timeframe, start, end)
    if len(rows):
        bar = (rows[:, 1].astype(np.int64) - first) // step
        order = np.argsort(ids)
        column = order[np.searchsorted(ids, rows[:, 0].astype(np.int64), sorter=order)]
        columns[:, bar, column] = rows[:, 2:7].T
        valid[bar, column] = True
        sampled[bar, column] = rows[:, 7] != 0.0
    _fill_holes(columns, valid, _closes_before(ids, timeframe, start, valid))
    opens, high, low, close, volume = columns
    return CandleMatrix(
        timeframe=timeframe,
        coin_ids=tuple(coin_ids),
        open_time=seconds * 1000,
        open=opens,
        high=high,
        low=low,
        close=close,
        volume=volume,
        valid=valid,
        sampled=sampled,
    )


def _instrument_ids(coin_ids: Sequence[str]) -> NDArray[np.int64]:
    ids = dict(Instrument.objects.filter(coin_id__in=coin_ids).values_list("coin_id", "pk"))
    for coin_id in coin_ids:
        if coin_id not in ids:
            raise Instrument.DoesNotExist(f"unknown instrument {coin_id!r}")
    return np.array([ids[coin_id] for coin_id in coin_ids], dtype=np.int64)


def _candle_rows(
    ids: NDArray[np.int64], timeframe: str, start: datetime, end: datetime
) -> NDArray[np.float64]:
    """(N, 8): instrument, open time in seconds, open, high, low, close, volume, sampled.

    All as doubles, which hold the integers exactly; a volume that is null is zero.
    """
    rows = (
        Ohlcv.objects.filter(
            instrument_id__in=ids.tolist(),
            timeframe=timeframe,
            open_time__gte=start,
            open_time__lt=end,
        )
        .order_by()
        .annotate(
            seconds=EpochSeconds("open_time"),
            volume_or_zero=Coalesce("volume", 0.0),
            sampled=Case(When(is_sampled=True, then=Value(1)), default=Value(0)),
        )
        .values_list(
            "instrument_id", "seconds", "open", "high", "low", "close", "volume_or_zero", "sampled"
        )
    )
    # The cursor's own rows: the ORM's row by row iteration doubles the cost of a big read.
    sql, parameters = rows.query.get_compiler(connection=connection).as_sql()
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        flat = itertools.chain.from_iterable(cursor.fetchall())
        return np.fromiter(flat, dtype=np.float64).reshape(-1, 8)


def _closes_before(
    ids: NDArray[np.int64], timeframe: str, start: datetime, valid: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(K,): the last close before `start` of instruments that lack the first bar, else NaN."""
    closes = np.full(len(ids), np.nan)
    for column in np.flatnonzero(~valid[0]) if len(valid) else ():
        earlier = Ohlcv.objects.filter(
            instrument_id=int(ids[column]), timeframe=timeframe, open_time__lt=start
        )
        close = earlier.order_by("-open_time").values_list("close", flat=True).first()
        if close is not None:
            closes[column] = close
    return closes


def _fill_holes(
    columns: NDArray[np.float64], valid: NDArray[np.bool_], before: NDArray[np.float64]
) -> None:
    """Fill what is not valid in (5, B, K) prices and volumes, in place."""
    opens, _, _, close, volume = columns
    bars, width = valid.shape
    if bars == 0:
        return
    row = np.where(valid, np.arange(bars)[:, None], -1)
    last = np.maximum.accumulate(row, axis=0)
    first = np.where(valid.any(axis=0), opens[valid.argmax(axis=0), np.arange(width)], 1.0)
    lead = np.where(np.isnan(before), first, before)
    carried = np.where(last >= 0, np.take_along_axis(close, np.maximum(last, 0), axis=0), lead)
    for prices in columns[:4]:
        np.copyto(prices, carried, where=~valid)
    volume[~valid] = 0.0


def candle_at(*, instrument: Instrument, timeframe: str, open_time: datetime) -> Ohlcv | None:
    """The stored candle of one bar, or None."""
    return Ohlcv.objects.filter(
        instrument=instrument, timeframe=timeframe, open_time=open_time
    ).first()


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
        if open_time < history_from or not has_candles:
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

    With `retry_labelled` the labels do not count. One count when nothing is lacking.
    """
    step = duration(timeframe)
    candles = Ohlcv.objects.filter(
        instrument=instrument, timeframe=timeframe, open_time__gte=start, open_time__lt=end
    )
    labelled = [] if retry_labelled else _labelled_spans(instrument, timeframe, start, end)
    expected = max((end - start) // step, 0)
    known = sum(span.end - span.start for span in labelled) // (step // duration("1m") * 60_000)
    if candles.count() + known >= expected:
        return np.empty(0, dtype=np.int64)
    bars = spans.grid(to_ms(start), to_ms(end), step // duration("1m") * 60_000)
    stored = candles.order_by().annotate(seconds=EpochSeconds("open_time"))
    have = np.fromiter(stored.values_list("seconds", flat=True), dtype=np.int64) * 1000
    return spans.without(np.setdiff1d(bars, have, assume_unique=True), labelled)


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


# -- Macro -------------------------------------------------------------------------------------


def macro_known_at(
    *, series_ids: Sequence[str], moments_ms: NDArray[np.int64]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.bool_]]]:
    """For each series, the value known at each moment and whether one was.

    Known is the newest vintage of the newest observation date that had been released by then.
    Before the first release the first value stands in, with known false; zeros without any.
    """
    values: dict[str, NDArray[np.float64]] = {}
    known: dict[str, NDArray[np.bool_]] = {}
    for series_id in series_ids:
        moments, steps = _release_steps(series_id)
        at = np.searchsorted(moments, moments_ms, side="right") - 1
        known[series_id] = at >= 0
        values[series_id] = (
            steps[np.maximum(at, 0)] if len(steps) else np.zeros(len(moments_ms), dtype=np.float64)
        )
    return values, known


def _release_steps(series_id: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """When the known value of a series changed (epoch ms, ascending), and to what."""
    rows = (
        MacroObservation.objects.filter(series__series_id=series_id)
        .order_by("released_at", "date", "realtime_start")
        .annotate(seconds=EpochSeconds("released_at"))
        .values_list("seconds", "date", "realtime_start", "value")
    )
    moments: list[int] = []
    steps: list[float] = []
    newest = None
    for seconds, date, realtime_start, value in rows:
        if newest is None or (date, realtime_start) >= newest:
            newest = (date, realtime_start)
            moments.append(seconds * 1000)
            steps.append(value)
    return np.array(moments, dtype=np.int64), np.array(steps, dtype=np.float64)


# -- Revisions and quotes ----------------------------------------------------------------------


def revisions(*, keys: Iterable[str]) -> dict[str, int]:
    """The revision of each series; 0 for one that has never been stored."""
    wanted = list(keys)
    found = dict(Series.objects.filter(key__in=wanted).values_list("key", "revision"))
    return {key: found.get(key, 0) for key in wanted}


def quote_key(exchange: str, symbol: str) -> str:
    """The Redis key of a top of book."""
    return f"orderbook:{exchange}:{symbol}"


def latest_quote(*, exchange: str, symbol: str) -> Quote | None:
    """The newest top of book that the stream has written, or None."""
    raw: Any = redis_client().get(quote_key(exchange, symbol))
    return None if raw is None else _quotes.decode(raw)


def last_candles(*, coin_ids: Sequence[str]) -> Mapping[tuple[str, str], datetime]:
    """The newest open time of each (coin id, timeframe) that has candles."""
    newest: dict[tuple[str, str], datetime] = {}
    for item in Instrument.objects.filter(coin_id__in=coin_ids):
        for timeframe in item.timeframes:
            candle = item.candles.filter(timeframe=timeframe).order_by("-open_time").first()
            if candle is not None:
                newest[item.coin_id, timeframe] = candle.open_time
    return newest
