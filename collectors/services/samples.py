"""Candles of coins that CoinGecko serves: made from stored price samples, and made again from
them.

Samples come from two calls: one `coins/markets` for all coins just before their bars close, and
`market_chart` for what is missing. Both end in the same table, so a candle that was lost is made
again as it was, without a call, and one that was made from a few samples becomes better when more
are known.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import transaction

from collectors import clock, selectors
from collectors.coingecko import NAME, Sample, sampled_candles, windows
from collectors.exchange import MalformedPayload, RequestRefused, UnknownSymbol
from collectors.marketdata import Candle, duration, floor_time, from_ms, to_ms
from collectors.models import Instrument, PriceSample
from collectors.quality import Finding, check_bar
from collectors.services.candles import source_chain, store_candles
from collectors.services.findings import record_findings
from collectors.services.providers import coingecko
from collectors.sources import VENUES
from collectors.venues import END_OF_TIME_MS

log = structlog.get_logger(__name__)

# Samples that lie further apart say nothing about a quarter of an hour between them: past days
# are known by the hour only. Polls are a quarter of an hour apart, give or take their lateness.
DENSE_WITHIN = timedelta(minutes=20)
HOUR = timedelta(hours=1)
FINE_DEPTH = timedelta(hours=24)
# How long before its bar's end a sample may be taken, and of an hour at most, however fast the
# clock: a poll earlier than the one a minute before the end.
BEFORE_END = timedelta(minutes=7, seconds=30)
LONGEST_BEFORE_END = timedelta(minutes=20)


@dataclass
class Sampling:
    """Candles for the bars that were asked for, and what asking cost."""

    candles: list[Candle]
    requests: int


def sampled_instruments(*, at: datetime) -> list[Instrument]:
    """The collected instruments whose first source is CoinGecko at `at`: no allowed exchange that
    their chain names before it lists them."""
    return [item for item in selectors.enabled_instruments() if _is_sampled(item, at)]


def _is_sampled(instrument: Instrument, at: datetime) -> bool:
    for source in source_chain(instrument):
        if source not in VENUES:
            return True
        if selectors.listing_for(instrument=instrument, exchange=source, at=at) is not None:
            return False
    return False


# -- Asking ------------------------------------------------------------------------------------


def poll_samples() -> int:
    """Take one sample of every instrument that CoinGecko serves first and that has none from the
    end of its current bar yet; gives how many were new.

    One call for all; none when nothing is due. Bars are quarters of an hour while any of the
    instruments is collected in them, else hours. On a fast clock the minute before an hour's end
    is over before a task can have begun, so the poll before may take the sample, as a missed one
    costs a call of each coin. Raises ProviderError.
    """
    now = clock.now()
    instruments = sampled_instruments(at=now)
    is_fine = any("15m" in item.timeframes for item in instruments)
    timeframe = "15m" if is_fine else "1h"
    late = floor_time(now, timeframe) + duration(timeframe) - _before_end(timeframe)
    if now < late:
        return 0
    known = PriceSample.objects.filter(instrument__in=instruments, at__gte=late)
    sampled = set(known.values_list("instrument_id", flat=True))
    due = {item.coin_id: item for item in instruments if item.pk not in sampled}
    if not due:
        return 0
    rows = coingecko().fetch_markets(coin_ids=sorted(due))
    vanished = due.keys() - {row.id for row in rows}
    if vanished:
        log.warning("coins_vanished", source=NAME, coins=sorted(vanished))
    return sum(
        store_samples(
            instrument=due[row.id], samples=[Sample(to_ms(row.last_updated), row.current_price)]
        )
        for row in rows
        if row.id in due and row.last_updated is not None
    )


def _before_end(timeframe: str) -> timedelta:
    """How long before its bar's end a sample may be taken (market time)."""
    if duration(timeframe) < HOUR:
        return BEFORE_END
    return min(clock.current().widen(BEFORE_END), LONGEST_BEFORE_END)


def refine_samples() -> int:
    """Ask for the last day's five-minute samples of every instrument that CoinGecko serves first,
    so that candles made from polls alone get their shape; gives how many samples were new.

    One call for each; a coin that is unknown or refused stops no other. Raises ProviderError for
    what the next coin would meet, too.
    """
    new = 0
    for item in sampled_instruments(at=clock.now()):
        try:
            samples = coingecko().fetch_recent_samples(item.coin_id, days=1)
        except (UnknownSymbol, RequestRefused, MalformedPayload) as error:
            log.warning("samples_not_refined", instrument=item.coin_id, problem=str(error))
            continue
        new += store_samples(instrument=item, samples=samples)
    return new


def sample_bars(*, instrument: Instrument, timeframe: str, bars: Sequence[int]) -> Sampling:
    """The candles of the bars (open times in ms, ascending), from stored samples, else from
    CoinGecko. Raises ProviderError.

    Timeframes below an hour are asked for within the last day only: of days before, samples are
    an hour apart.
    """
    candles = stored_sample_candles(instrument=instrument, timeframe=timeframe, bars=bars)
    made = {to_ms(candle.open_time) for candle in candles}
    oldest = to_ms(clock.now() - FINE_DEPTH) if duration(timeframe) < HOUR else 0
    missing = [bar for bar in bars if bar not in made and bar >= oldest]
    if not missing:
        return Sampling(candles, 0)
    start, end = from_ms(missing[0]), from_ms(missing[-1]) + duration(timeframe)
    samples = coingecko().fetch_samples(instrument.coin_id, start, end)
    store_samples(instrument=instrument, samples=samples, apart_from=(timeframe, set(missing)))
    found = stored_sample_candles(instrument=instrument, timeframe=timeframe, bars=missing)
    requests = len(list(windows(start, end)))
    return Sampling(sorted(candles + found, key=lambda candle: candle.open_time), requests)


# -- Keeping -----------------------------------------------------------------------------------


def store_samples(
    *,
    instrument: Instrument,
    samples: Iterable[Sample],
    apart_from: tuple[str, Collection[int]] = ("", ()),
) -> int:
    """Store the samples that are new and make the closed candles anew that hold them; gives how
    many were new.

    Of two samples of one moment the first that was stored counts. `apart_from` are a timeframe's
    bars (ms) whose candles the caller makes himself. A null is what the source does not know and
    no sample; one that cannot be is rejected with a finding.
    """
    now = clock.now()
    usable: dict[datetime, float] = {}
    impossible: list[Finding] = []
    for item in samples:
        reason = _reason_to_reject(item, now)
        if reason is not None:
            impossible.append(_rejected(item, reason, now))
        elif item.price is not None:
            usable[from_ms(item.at)] = item.price
    record_findings(
        subject=f"samples:{instrument.coin_id}", findings=impossible, instrument=instrument
    )
    if not usable:
        return 0
    with transaction.atomic():
        stored = PriceSample.objects.filter(
            instrument=instrument, at__gte=min(usable), at__lte=max(usable)
        )
        known = set(stored.order_by().values_list("at", flat=True))
        new = {at: price for at, price in usable.items() if at not in known}
        PriceSample.objects.bulk_create(
            [
                PriceSample(
                    instrument=instrument,
                    at=at,
                    price=price,
                    source=NAME,
                    received_at=clock.wall_now(),
                )
                for at, price in new.items()
            ],
            ignore_conflicts=True,
            batch_size=2000,
        )
        for timeframe in instrument.timeframes if new else ():
            _make_again(instrument, timeframe, new, apart_from, now)
    return len(new)


def _reason_to_reject(sample: Sample, now: datetime) -> str | None:
    if not 0 <= sample.at < END_OF_TIME_MS:
        return "no time"
    if from_ms(sample.at) > now + clock.current().widen(timedelta(0)):
        return "of a time to come"
    if sample.price is not None and not math.isfinite(sample.price):
        return "price is not finite"
    if sample.price is not None and sample.price <= 0:
        return "price is not positive"
    return None


def _rejected(sample: Sample, reason: str, now: datetime) -> Finding:
    is_dated = 0 <= sample.at < END_OF_TIME_MS
    return Finding(
        verdict="rejected",
        reason=reason,
        at=from_ms(sample.at) if is_dated else now,
        source=NAME,
        values={"at": sample.at, "price": str(sample.price)},
    )


def _make_again(
    instrument: Instrument,
    timeframe: str,
    moments: Iterable[datetime],
    apart_from: tuple[str, Collection[int]],
    now: datetime,
) -> None:
    step = duration(timeframe)
    theirs = apart_from[1] if apart_from[0] == timeframe else ()
    opens = {floor_time(at, timeframe) for at in moments}
    bars = sorted(to_ms(at) for at in opens if at + step <= now and to_ms(at) not in theirs)
    candles = stored_sample_candles(instrument=instrument, timeframe=timeframe, bars=bars)
    if candles:
        store_candles(instrument=instrument, timeframe=timeframe, candles=candles)


def stored_sample_candles(
    *, instrument: Instrument, timeframe: str, bars: Sequence[int]
) -> list[Candle]:
    """The candles that the stored samples give for the bars (open times in ms, ascending).

    A bar below an hour is left out where samples are too far apart to tell it.
    """
    if not bars:
        return []
    step = duration(timeframe)
    rows = PriceSample.objects.filter(
        instrument=instrument,
        at__gte=from_ms(bars[0]) - DENSE_WITHIN,
        at__lt=from_ms(bars[-1]) + step + DENSE_WITHIN,
    ).order_by("at")
    samples = [Sample(to_ms(at), price) for at, price in rows.values_list("at", "price")]
    if step < HOUR:
        samples = _dense(samples)
    wanted = set(bars)
    return [
        candle
        for candle in sampled_candles(samples, timeframe)
        if to_ms(candle.open_time) in wanted and check_bar(candle, timeframe=timeframe) is None
    ]


def _dense(samples: Sequence[Sample]) -> list[Sample]:
    """The samples that have another one near."""
    reach = DENSE_WITHIN // timedelta(milliseconds=1)
    near: set[Sample] = set()
    for earlier, later in itertools.pairwise(samples):
        if later.at - earlier.at <= reach:
            near |= {earlier, later}
    return [sample for sample in samples if sample in near]
