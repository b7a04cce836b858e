"""Accounts as they are at this moment: marked at the newest quotes, for whoever watches them.

A position is marked at the mid price of its venue, without a quote at the newest close, and without
any candle at what it cost. Nothing here decides anything: risk and the books mark at closes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from django.db.models import Count, Prefetch, Q, Sum

from collectors import clock
from collectors.models import Listing
from collectors.selectors import listing_for, live_books
from risk.selectors import read_desk, state_in_force
from trading.fields import from_units, to_units
from trading.holdings import marked_equity, marked_portfolio
from trading.models import ENTRY_LEGS, Account, Order, OrderStatus, Position
from trading.selectors import holding_of, marks_at, position_json
from trading.ticks import level_ticks

QUOTE = "quote"
CLOSE = "close"


def live_accounts(*, account_ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """What each account holds and is worth now, by its id; those that do not exist are left out.

    Amounts are decimal strings in quote units, shares are fractions. A handful of queries and one
    look at Redis, however many accounts. Raises DatabaseError.
    """
    accounts = list(
        Account.objects.filter(pk__in=list(account_ids)).select_related("profile").order_by("pk")
    )
    ids = [account.pk for account in accounts]
    positions = _open_positions(ids)
    marks = _quoted_marks(positions)
    realised = dict(
        Position.objects.filter(account__in=ids)
        .order_by()
        .values_list("account")
        .annotate(total=Sum("realised_pnl"))
    )
    orders = {
        row["account"]: row
        for row in Order.objects.filter(account__in=ids, status=OrderStatus.WORKING)
        .order_by()
        .values("account")
        .annotate(working=Count("id"), entries=Count("id", filter=Q(leg__in=ENTRY_LEGS)))
    }
    desk = read_desk()
    found = {}
    for account in accounts:
        held = [row for row in positions if row.account_id == account.pk]
        counted = orders.get(account.pk, {"working": 0, "entries": 0})
        found[account.pk] = {
            "name": account.name,
            "is_active": account.is_active,
            "trading_state": state_in_force(profile=account.profile, desk=desk).state,
            **_worth(account, held, marks, realised.get(account.pk) or Decimal(0)),
            "working_orders": counted["working"],
            "working_entries": counted["entries"],
        }
    return found


def live_account(*, account_id: int) -> dict[str, Any]:
    """One account of `live_accounts`. Raises Account.DoesNotExist."""
    found = live_accounts(account_ids=[account_id])
    if account_id not in found:
        raise Account.DoesNotExist
    return found[account_id]


def closing_pnl(*, positions: Sequence[Position]) -> dict[int, int]:
    """What each open position would realise at the newest quote, in money units, by its id; those
    without a quote are left out. One look at Redis."""
    held = [row for row in positions if row.quantity_steps]
    marks = _quoted_marks(held)
    return {
        row.pk: holding_of(position=row).unrealised(marks[row.pk])
        for row in held
        if row.pk in marks
    }


def _open_positions(account_ids: Sequence[int]) -> list[Position]:
    return list(
        Position.objects.filter(account__in=account_ids)
        .exclude(quantity_steps=0)
        .select_related("account", "instrument", "entry_signal")
        .prefetch_related(Prefetch("instrument__listings", Listing.objects.all()))
        .order_by("instrument__coin_id")
    )


def _quoted_marks(positions: Sequence[Position]) -> dict[int, int]:
    """Ticks by position, of those whose venue shows a price."""
    now = clock.now()
    listings = {}
    for row in positions:
        listing = listing_for(instrument=row.instrument, exchange=row.account.exchange, at=now)
        if listing is not None:
            listings[row.pk] = (listing.exchange, listing.symbol)
    symbols = list(dict.fromkeys(listings.values()))
    books = dict(zip(symbols, live_books(symbols), strict=True))
    marks = {}
    for row in positions:
        book = books.get(listings.get(row.pk, ("", "")))
        if book is None or book.best_bid is None or book.best_ask is None:
            continue
        grid = holding_of(position=row).grid
        middle = (book.best_bid + book.best_ask) / 2.0
        marks[row.pk] = level_ticks(middle, grid.tick_num, grid.tick_den)
    return marks


def _worth(
    account: Account, positions: Sequence[Position], quoted: Mapping[int, int], realised: Decimal
) -> dict[str, Any]:
    holdings = [holding_of(position=row) for row in positions]
    pairs = list(zip(positions, holdings, strict=True))
    marks = {held.coin_id: quoted[row.pk] for row, held in pairs if row.pk in quoted}
    unquoted = [held for row, held in pairs if row.pk not in quoted]
    marks |= marks_at(holdings=unquoted, timeframe=account.timeframe, bar=None)
    cash = to_units(account.cash)
    equity = marked_equity(cash=cash, holdings=holdings, marks=marks)
    portfolio = marked_portfolio(
        cash=cash,
        holdings=holdings,
        marks=marks,
        high_water_mark=max(to_units(account.high_water_mark), equity),
        day_start_equity=to_units(account.day_start_equity),
    )
    gross = sum(abs(holding.exposure(marks[holding.coin_id])) for holding in holdings)
    return {
        "equity": _text(equity),
        "cash": _text(cash),
        "initial_capital": f"{account.initial_capital:f}",
        "realised_pnl": f"{realised:f}",
        "unrealised_pnl": _text(equity - cash),
        "daily_pnl": _text(equity - to_units(account.day_start_equity)),
        "total_pnl": _text(equity - to_units(account.initial_capital)),
        "drawdown": portfolio.drawdown,
        "gross_exposure": _text(gross),
        "exposure_share": gross / equity if equity > 0 else None,
        "positions": [
            {
                **position_json(row, mark_ticks=marks[row.instrument.coin_id]),
                "marked_at": QUOTE if row.pk in quoted else CLOSE,
            }
            for row in positions
        ],
    }


def _text(units: int) -> str:
    return f"{from_units(units):f}"
