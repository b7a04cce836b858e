"""What the exchange's history of funding has to be asked for: what is due and nobody has, what
lies between stored settlements, and what only the stream has said."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from collectors import clock, selectors
from collectors.models import FundingRate, Instrument
from collectors.services.candles import source_chain
from collectors.settlements import LONGEST_INTERVAL

USUAL_INTERVAL = timedelta(hours=8)
# A venue publishes a settlement some seconds after it (market time).
SETTLING = timedelta(seconds=30)
MINUTE = timedelta(minutes=1)
# Where each symbol costs a call, its history is asked about on one day of so many.
CONFIRMED_EVERY = 7


@dataclass(frozen=True)
class Gap:
    """Settlements of one symbol that the history has to say: since <= funding_time < until.
    `due_at` is when the first of them should have been there."""

    instrument: Instrument
    symbol: str
    since: datetime
    until: datetime
    due_at: datetime


def followed_symbols(exchange: str, at: datetime) -> list[tuple[Instrument, str]]:
    """The collected instruments that an exchange lists at `at`, with its symbols."""
    found: list[tuple[Instrument, str]] = []
    for instrument in selectors.enabled_instruments():
        if exchange in source_chain(instrument):
            listing = selectors.listing_for(instrument=instrument, exchange=exchange, at=at)
            if listing is not None:
                found.append((instrument, listing.symbol))
    return found


def due_gaps(
    exchange: str,
    followed: Sequence[tuple[Instrument, str]],
    *,
    streamed: Collection[str],
    begin: datetime,
    at: datetime,
) -> list[Gap]:
    """From the newest settlement on, where another is due; from `begin` without one. What a
    symbol's stream is about to show is waited for."""
    newest = selectors.newest_funding(exchange=exchange)
    patience = clock.current().widen(SETTLING)
    gaps: list[Gap] = []
    for instrument, symbol in followed:
        last = newest.get(instrument.pk)
        if last is None:
            gaps.append(Gap(instrument, symbol, begin, at, begin))
            continue
        due_at = last.funding_time + _interval(last)
        if due_at + (patience if symbol in streamed else SETTLING) <= at:
            gaps.append(Gap(instrument, symbol, last.funding_time + MINUTE, at, due_at))
    return gaps


def holes(
    exchange: str, followed: Sequence[tuple[Instrument, str]], *, begin: datetime, at: datetime
) -> list[Gap]:
    """What lies between stored settlements since `begin`."""
    gaps: list[Gap] = []
    for instrument, symbol in followed:
        rates = FundingRate.objects.filter(
            instrument=instrument, exchange=exchange, funding_time__gte=begin
        )
        gaps += _between(instrument, symbol, begin - MINUTE, rates.order_by("funding_time"), at)
    return gaps


def recent_holes(
    exchange: str, followed: Sequence[tuple[Instrument, str]], *, begin: datetime, at: datetime
) -> list[Gap]:
    """What lies between the settlements that the stream has seen and those before them."""
    unconfirmed = selectors.unconfirmed_funding(exchange=exchange)
    if not unconfirmed:
        return []
    first = min(rates[0].funding_time for rates in unconfirmed.values())
    recent: dict[int, list[FundingRate]] = {}
    rows = FundingRate.objects.filter(
        exchange=exchange, instrument__in=unconfirmed, funding_time__gte=first - LONGEST_INTERVAL
    )
    for rate in rows.order_by("funding_time"):
        recent.setdefault(rate.instrument_id, []).append(rate)
    gaps: list[Gap] = []
    for instrument, symbol in followed:
        rates = recent.get(instrument.pk, [])
        if rates and rates[0].is_confirmed:
            gaps += _between(instrument, symbol, rates[0].funding_time, rates[1:], at)
        elif rates:
            before = _before(rates[0]) or begin - MINUTE
            gaps += _between(instrument, symbol, before, rates, at)
    return gaps


def confirmations(
    exchange: str,
    followed: Sequence[tuple[Instrument, str]],
    *,
    is_together: bool,
    at: datetime,
) -> list[Gap]:
    """What the stream has seen, where it is time to ask the history about it.

    Once a day, about what settled before the day, where one call answers for all symbols
    (`is_together`); else each symbol once a week, some on every day.
    """
    unconfirmed = selectors.unconfirmed_funding(exchange=exchange)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    # Who was not there on the symbol's day does not wait for another.
    overdue = midnight - timedelta(days=CONFIRMED_EVERY)
    gaps: list[Gap] = []
    for number, (instrument, symbol) in enumerate(followed):
        rates = unconfirmed.get(instrument.pk)
        if not rates:
            continue
        is_its_day = is_together or (at.toordinal() + number) % CONFIRMED_EVERY == 0
        oldest = rates[0].funding_time
        if oldest < (midnight if is_its_day else overdue):
            gaps.append(Gap(instrument, symbol, oldest, at, rates[-1].funding_time))
    return gaps


def _between(
    instrument: Instrument,
    symbol: str,
    before: datetime,
    rates: Iterable[FundingRate],
    at: datetime,
) -> list[Gap]:
    """What lies between a settlement and the one before it in the table, where that one is not
    the one it followed.

    From the first that only the stream has seen, without what came before it, everything is asked
    for: its interval is not known either, and whether it happened shows only in what came later.
    """
    gaps: list[Gap] = []
    for rate in rates:
        since, hours = before + MINUTE, rate.interval_hours
        if hours is None:
            lacks = not rate.is_confirmed
        else:
            lacks = since <= rate.funding_time - timedelta(hours=hours)
        if lacks and not rate.is_confirmed:
            return [*gaps, Gap(instrument, symbol, since, at, rate.funding_time)]
        if lacks:
            gaps.append(Gap(instrument, symbol, since, rate.funding_time, since))
        before = rate.funding_time
    return gaps


def _before(rate: FundingRate) -> datetime | None:
    """The settlement before in the table."""
    earlier = FundingRate.objects.filter(
        instrument=rate.instrument_id, exchange=rate.exchange, funding_time__lt=rate.funding_time
    )
    return earlier.order_by("-funding_time").values_list("funding_time", flat=True).first()


def _interval(rate: FundingRate) -> timedelta:
    return timedelta(hours=rate.interval_hours) if rate.interval_hours else USUAL_INTERVAL
