"""How books become rows: samples of the newest, what their hours were like, their downtimes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction

from collectors import clock, selectors
from collectors.bookhours import Depth, Downtime, HourPart
from collectors.livebook import LiveBook
from collectors.models import BookDowntime, BookHour, BookSample, Instrument
from collectors.services.streaming import stream_subscriptions

# A book that has not moved for longer is not what trading would cost now (market time).
OLDEST = timedelta(hours=1)
REASON_LENGTH = 200
BPS = 10_000.0
CHUNK = 200


def sample_books() -> int:
    """Store the newest state of every book that is streamed; gives how many were new.

    A state is named by the exchange's own time: one that has not changed since the last look is
    stored once, and a book that is silent, or has not moved for an hour, gets no row.
    """
    now = clock.now()
    followed = stream_subscriptions(at=now)
    books = selectors.live_books([(item.exchange, item.symbol) for item in followed])
    oldest = now - clock.current().widen(OLDEST)
    samples = (
        _sample(item.instrument, book, oldest) for item, book in zip(followed, books, strict=True)
    )
    found = [sample for sample in samples if sample is not None]
    if not found:
        return 0
    around = BookSample.objects.filter(at__gte=min(sample.at for sample in found))
    before = around.count()
    BookSample.objects.bulk_create(found, ignore_conflicts=True)
    return around.count() - before


def _sample(instrument: Instrument, book: LiveBook, oldest: datetime) -> BookSample | None:
    """None of a book whose best prices are not known, or older than that."""
    bid, ask, at = book.best_bid, book.best_ask, book.event_time
    bid_quantity, ask_quantity = book.bid_quantity, book.ask_quantity
    if bid is None or ask is None or bid_quantity is None or ask_quantity is None:
        return None
    if at is None or book.received_at is None or at < oldest:
        return None
    mid_price = (bid + ask) / 2
    depth = {name: sides or (None, None) for name, sides in book.depth_bps.items()}
    near, far = (
        depth.get(bps, (None, None)) if book.is_synced else (None, None) for bps in ("10", "50")
    )
    return BookSample(
        instrument=instrument,
        exchange=book.exchange,
        symbol=book.symbol,
        at=at,
        best_bid=bid,
        bid_quantity=bid_quantity,
        best_ask=ask,
        ask_quantity=ask_quantity,
        spread_bps=(ask - bid) / mid_price * BPS,
        is_synced=book.is_synced,
        mid_price=mid_price,
        imbalance=book.imbalance if book.is_synced else None,
        bid_depth_10_bps=near[0],
        ask_depth_10_bps=near[1],
        bid_depth_50_bps=far[0],
        ask_depth_50_bps=far[1],
        received_at=book.received_at,
    )


# -- Hours -------------------------------------------------------------------------------------


def store_book_hours(parts: Sequence[tuple[Instrument, HourPart]]) -> None:
    """Add the parts to the rows of their hours, which are made where they are missing: all of
    them, or on an error none."""
    with transaction.atomic():
        for first in range(0, len(parts), CHUNK):
            _add_parts(parts[first : first + CHUNK])


def _add_parts(parts: Sequence[tuple[Instrument, HourPart]]) -> None:
    rows = [_empty(instrument, part) for instrument, part in parts]
    # Who makes the same row at the same moment waits here, and adds to it afterwards.
    BookHour.objects.bulk_create(rows, ignore_conflicts=True)
    locked = BookHour.objects.select_for_update().filter(
        instrument__in={row.instrument_id for row in rows}, hour__in={row.hour for row in rows}
    )
    known = {_name(row): row for row in locked.order_by("pk")}
    changed: dict[int, BookHour] = {}
    for row, (_, part) in zip(rows, parts, strict=True):
        found = known[_name(row)]
        _add(found, part)
        found.changed_at = row.changed_at
        changed[found.pk] = found
    for row in changed.values():  # many times as fast as bulk_update, with so many columns
        row.save(update_fields=ADDED)


ADDED = (
    "synced_s", "withheld_s", "spread_bps_mean", "spread_bps_min", "spread_bps_max",
    "bid_depth_10_bps", "ask_depth_10_bps", "depth_10_bps_s",
    "bid_depth_50_bps", "ask_depth_50_bps", "depth_50_bps_s",
    "messages", "gaps", "resyncs", "changed_at",
)  # fmt: skip


def _name(row: BookHour) -> tuple[int, str, str, datetime]:
    return row.instrument_id, row.exchange, row.symbol, row.hour


def _empty(instrument: Instrument, part: HourPart) -> BookHour:
    return BookHour(
        instrument=instrument,
        exchange=part.exchange,
        symbol=part.symbol,
        hour=part.hour,
        synced_s=0.0,
        withheld_s=0.0,
        depth_10_bps_s=0.0,
        depth_50_bps_s=0.0,
        messages=0,
        gaps=0,
        resyncs=0,
        changed_at=clock.wall_now(),
    )


def _add(row: BookHour, part: HourPart) -> None:
    row.spread_bps_mean = _mean(row.spread_bps_mean, row.synced_s, part.spread, part.synced_s)
    lows = [value for value in (row.spread_bps_min, part.spread_min) if value is not None]
    highs = [value for value in (row.spread_bps_max, part.spread_max) if value is not None]
    row.spread_bps_min = min(lows, default=None)
    row.spread_bps_max = max(highs, default=None)
    row.synced_s += part.synced_s
    row.withheld_s += part.withheld_s
    _add_depth(row, 10, part.depth_10_bps)
    _add_depth(row, 50, part.depth_50_bps)
    row.messages += part.messages
    row.gaps += part.gaps
    row.resyncs += part.resyncs


def _add_depth(row: BookHour, bps: int, depth: Depth) -> None:
    weight = f"depth_{bps}_bps_s"
    seconds: float = getattr(row, weight)
    for name, total in ((f"bid_depth_{bps}_bps", depth.bid), (f"ask_depth_{bps}_bps", depth.ask)):
        setattr(row, name, _mean(getattr(row, name), seconds, total, depth.seconds))
    setattr(row, weight, seconds + depth.seconds)


def _mean(mean: float | None, weight: float, total: float, more: float) -> float | None:
    """The mean of `weight` and the `more` that add up to `total`; None of nothing."""
    if not more:
        return mean
    return ((mean or 0.0) * weight + total) / (weight + more)


# -- Downtimes ---------------------------------------------------------------------------------


def store_downtimes(downtimes: Sequence[tuple[Instrument, Downtime]]) -> None:
    """Open and close downtimes, in the order in which they were told.

    A book is down once at a time: an earlier downtime that is still open, as the process that told
    of it has died, ends where the next begins.
    """
    with transaction.atomic():
        for instrument, item in downtimes:
            _store_downtime(instrument, item)


def _store_downtime(instrument: Instrument, item: Downtime) -> None:
    now = clock.wall_now()
    ended_at = None if item.ended_at is None else max(item.ended_at, item.began_at)
    mine = BookDowntime.objects.filter(
        instrument=instrument, exchange=item.exchange, symbol=item.symbol
    )
    mine.filter(ended_at=None, began_at__lt=item.began_at).update(
        ended_at=item.began_at, changed_at=now
    )
    row, is_new = mine.get_or_create(
        began_at=item.began_at,
        defaults={
            "instrument": instrument,
            "exchange": item.exchange,
            "symbol": item.symbol,
            "at": clock.current().market(item.began_at),
            "ended_at": ended_at,
            "reason": item.reason[:REASON_LENGTH],
            "changed_at": now,
        },
    )
    if not is_new and row.ended_at is None and ended_at is not None:
        mine.filter(pk=row.pk).update(ended_at=ended_at, changed_at=now)
