"""Which orders wait, and for what: sweeps that bring working orders and the market together.

A sweep looks without a lock first, and takes an account's lock only where something would change.
Bars that closed meanwhile come before the newest quote, oldest first. An order meets the prices of
the symbol that its instrument has now: venues rename what is held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby

import structlog
from django.db.models import Q

from collectors import clock
from collectors.marketdata import Quote, duration, last_closed
from collectors.models import Listing, Ohlcv
from collectors.selectors import latest_tops, symbols_at
from signals.models import BarRun
from trading.encounters import BookMet, QuoteMet
from trading.models import Account, Order, OrderKind, OrderStatus
from trading.services.latebars import bar_met, judge_late_bars, remember_missed
from trading.services.matching import expire_orders, work_orders, would_change
from trading.services.quotes import is_plausible, is_usable, met_at_quote, met_now, with_facts

log = structlog.get_logger(__name__)

MANY_BARS = 1000  # of one instrument, in one look


def work_account(*, account_id: int) -> int:
    """Let all working orders of an account meet what the market has done; the number of fills.

    One look in the tables where nothing waits. Raises Account.DoesNotExist.
    """
    account = Account.objects.get(pk=account_id)
    waiting = _waiting(account)
    if not waiting:
        return 0
    judge_late_bars(account=account)
    fills = _catch_up(account)
    waiting = _waiting(account) if fills else waiting
    fills += _meet_tops(waiting, _symbols(waiting))
    now = clock.now()
    if any(row.expires_at is not None and row.expires_at <= now for row in waiting):
        expire_orders(account_id=account_id, at=now)
    return fills


def work_instrument(*, exchange: str, symbol: str, quotes: Sequence[Quote] = ()) -> int:
    """Let the working orders of every account on one symbol meet `quotes` that somebody saw, oldest
    first, and then the newest one, all after the bars that closed before; the number of fills."""
    key, now = (exchange, symbol), clock.now()
    accounts = {row.account_id: row.account for row in _waiting_for(exchange, symbol)}
    fills = 0
    for account in accounts.values():
        try:
            fills += _catch_up(account)
        except Exception:
            # One account's trouble holds up no other.
            log.exception("bars_not_met", account=account.pk)
    if quotes:
        [(newest, book)] = latest_tops([key])
        for quote in quotes:
            if is_plausible(quote, now):
                met = met_at_quote(quote, newest, book)
                rows = _waiting_for(exchange, symbol)
                fills += _meet(rows, {row.pk: met for row in rows})
    rows = _waiting_for(exchange, symbol)
    return fills + _meet_tops(rows, dict.fromkeys((row.pk for row in rows), key))


def _waiting_for(exchange: str, symbol: str) -> list[Order]:
    listed = Listing.objects.filter(exchange=exchange, symbol=symbol).values("instrument")
    rows = Order.objects.filter(
        Q(symbol=symbol) | Q(instrument__in=listed), exchange=exchange, status=OrderStatus.WORKING
    ).select_related("account", "instrument")
    found = list(rows.order_by("account", "instrument", "id"))
    names = _symbols(found)
    return [row for row in found if names[row.pk] == (exchange, symbol)]


def _symbols(rows: Sequence[Order]) -> dict[int, tuple[str, str]]:
    """Where each order, by its id, meets prices now: as its instrument is called there, else as it
    was when the order was placed."""
    named = symbols_at(instrument_ids=[row.instrument_id for row in rows], at=clock.now())
    return {
        row.pk: (row.exchange, named.get((row.exchange, row.instrument_id), row.symbol))
        for row in rows
    }


def work_bars(*, account: Account, until: datetime, is_last_look: bool = False) -> int:
    """Let the working orders of an account meet the bars that closed since the last one that it
    worked off, up to the one that opened at `until`; the number of fills.

    Bars built from samples decide nothing: their high and low are not true. With `is_last_look`
    the account is about to leave these bars behind: what lacks its true candle is remembered.
    """
    rows = [row for row in _waiting(account) if row.kind != OrderKind.MARKET]
    if not rows:
        return 0
    instruments = {row.instrument_id: row.instrument for row in rows}
    first = until
    if account.processed_bar is not None:
        first = min(until, account.processed_bar + duration(account.timeframe))
    candles = Ohlcv.objects.filter(
        instrument__in=instruments,
        timeframe=account.timeframe,
        open_time__gte=first,
        open_time__lte=until,
        is_sampled=False,
    ).order_by("open_time", "instrument__coin_id")
    found = list(candles[: MANY_BARS * len(instruments)])
    if is_last_look:
        remember_missed(account=account, waiting=rows, there=found, first=first, until=until)
    fills = 0
    for candle in found:
        met = bar_met(candle, account.timeframe)
        waiting = [row for row in rows if row.instrument_id == candle.instrument_id]
        if would_change(account=account, orders=waiting, met=met):
            instrument = instruments[candle.instrument_id]
            met = with_facts(met, instrument=instrument, at=met.open_time)
            fills += len(work_orders(account_id=account.pk, instrument=instrument, met=met))
            rows = [row for row in _waiting(account) if row.kind != OrderKind.MARKET]
    return fills


def _catch_up(account: Account) -> int:
    """Bars that closed before now and that no bar run brought. One behind a bar run that is not
    worked off waits for it: the signals of that come first."""
    step = duration(account.timeframe)
    until = last_closed(clock.now(), account.timeframe)
    if account.processed_bar is None or account.processed_bar >= until:
        return 0
    pending = (
        BarRun.objects.filter(
            timeframe=account.timeframe,
            bar_open_time__gt=account.processed_bar,
            bar_open_time__lt=until,
        )
        .order_by("bar_open_time")
        .first()
    )
    if pending is not None:
        until = pending.bar_open_time
    if account.processed_bar + step > until:
        return 0
    return work_bars(account=account, until=until)


def _meet_tops(rows: Sequence[Order], named: Mapping[int, tuple[str, str]]) -> int:
    """The orders meet the newest prices of the symbols that they are `named` by."""
    names = sorted(set(named.values()))
    now = clock.now()
    tops = {
        key: met_now(quote, book)
        for key, (quote, book) in zip(names, latest_tops(names), strict=True)
        if quote is not None and is_usable(quote, since=None, now=now)
    }
    return _meet(rows, {pk: tops[key] for pk, key in named.items() if key in tops})


def _meet(rows: Sequence[Order], tops: Mapping[int, QuoteMet | BookMet]) -> int:
    """The orders, sorted by account and instrument, meet the prices that there are for each."""
    fills = 0
    for _, group in groupby(rows, key=lambda row: (row.account_id, row.instrument_id)):
        waiting = list(group)
        top = tops.get(waiting[0].pk)
        try:
            fills += 0 if top is None else _meet_top(waiting, top)
        except Exception:
            # The orders of one instrument of an account hold up no others.
            log.exception("orders_not_worked", order=waiting[0].pk)
    return fills


def _meet_top(waiting: Sequence[Order], top: QuoteMet | BookMet) -> int:
    """The orders of one account and instrument meet the prices there."""
    first = waiting[0]
    if not would_change(account=first.account, orders=waiting, met=top):
        return 0
    # What is known of the market only says how much slippage there is.
    top = with_facts(top, instrument=first.instrument, at=top.at)
    return len(work_orders(account_id=first.account_id, instrument=first.instrument, met=top))


def _waiting(account: Account) -> list[Order]:
    rows = Order.objects.filter(account=account, status=OrderStatus.WORKING)
    return list(rows.select_related("account", "instrument").order_by("instrument", "id"))
