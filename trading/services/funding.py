"""Funding: what the exchanges' own settlements bring or cost whoever held the instrument then.

A settlement is booked as soon as it is known, whoever told of it: the exchange's history confirms
what the stream has seen only after a day or a week, and equity must not wait for that. What turns
out to have been otherwise is booked as a difference, never by changing what is written.

Everything is found by rows: the settlements within the time that something was held, less those
that are paid. A message only says when to look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Sum, Value

from collectors import clock
from collectors.marketdata import duration, last_closed
from collectors.models import FundingRate, Ohlcv
from trading.accounting import PRICE_PARTS, RATE_PARTS, count_of, funding_cash
from trading.fields import from_units, to_units
from trading.models import (
    Account,
    Book,
    Fill,
    FundingPayment,
    MarkSource,
    Position,
    Side,
    Trade,
    TransactionKind,
)
from trading.orders import Grid
from trading.services.accounts import locked_account
from trading.services.ledger import post_transaction

log = structlog.get_logger(__name__)

# A bar that ends at the funding time may have closed the position before it, and is worked off
# shortly after. To be widened by the clock.
WAIT_FOR_BAR = timedelta(minutes=5)
# What the sweep looks through; older settlements come with a message, or with the reconciliation.
RECENT = timedelta(days=2)
# How long after a payment a fill from before it may still be booked.
LATE_FILLS = timedelta(hours=6)
# The account's lock is not held for longer than these take.
CHUNK = 50


def pay_funding(*, instrument_ids: Sequence[int] | None = None, recent: bool = False) -> int:
    """Book what is due and correct what has changed; the number of payments that were written.

    `instrument_ids` narrows the instruments, `recent` the time to what a sweep looks through.
    """
    since = clock.now() - clock.current().widen(RECENT) if recent else None
    wanted: defaultdict[int, set[int]] = defaultdict(set)
    for rows in (*_unpaid(since), _outdated(since)):
        if instrument_ids is not None:
            rows = rows.filter(instrument__in=instrument_ids)
        for account_id, settlement_id in rows.values_list("account_id", "due"):
            wanted[account_id].add(settlement_id)
    written = 0
    for account_id, ids in wanted.items():
        try:
            written += _settle(account_id, ids)
        except Exception:
            # One account's trouble holds up no other; what is due stays due.
            log.exception("funding_failed", account=account_id)
    return written


def review_funding(*, account_id: int) -> int:
    """Pay what is due of an account, and reckon those of its newest payments again before which
    fills were booked since; the number of payments that were written."""
    wanted: set[int] = set()
    for rows in (*_unpaid(), _outdated()):
        wanted |= set(rows.filter(account=account_id).values_list("due", flat=True))
    return _settle(account_id, wanted | _overtaken(account_id))


# -- What is due -------------------------------------------------------------------------------


def _unpaid(since: datetime | None = None) -> Iterable[QuerySet[Any]]:
    """Rows of (account, due: a settlement) within the open rounds and within the closed trades, of
    settlements since a moment."""
    paid = FundingPayment.objects.filter(
        account=OuterRef("account"), settlement=OuterRef("instrument__funding")
    )
    settlement: dict[str, Any] = {
        "instrument__funding__exchange": F("account__exchange"),
        "instrument__funding__funding_time__gte": F("entered_at"),
    }
    trades = Trade.objects.all()
    if since is not None:
        settlement["instrument__funding__funding_time__gt"] = Value(since)
        # What ended before paid nothing since: most of all trades, so the database is told.
        trades = trades.filter(exited_at__gt=since)
    yield (
        Position.objects.filter(**settlement)
        .exclude(quantity_steps=0)
        .annotate(due=F("instrument__funding"))
        .filter(~Exists(paid))
        .order_by()
    )
    yield (
        trades.filter(**settlement, instrument__funding__funding_time__lt=F("exited_at"))
        .annotate(due=F("instrument__funding"))
        .filter(~Exists(paid))
        .order_by()
    )


def _outdated(since: datetime | None = None) -> QuerySet[Any]:
    """The newest payments that were reckoned with another rate or price than the settlement now
    says, of settlements since a moment."""
    payments = FundingPayment.objects.all()
    if since is not None:
        payments = payments.filter(at__gt=since)
    newer = FundingPayment.objects.filter(
        account=OuterRef("account"),
        settlement=OuterRef("settlement"),
        revision__gt=OuterRef("revision"),
    )
    is_other_price = Q(settlement__mark_price__isnull=False) & ~Q(
        mark_price=F("settlement__mark_price")
    )
    return (
        payments.filter(~Q(rate=F("settlement__rate")) | is_other_price)
        .filter(~Exists(newer))
        .annotate(due=F("settlement"), instrument=F("position__instrument"))
        .order_by()
    )


def _overtaken(account_id: int) -> set[int]:
    """The settlements paid lately before which fills were made that came to be known later."""
    since = clock.now() - clock.current().widen(LATE_FILLS)
    fills: defaultdict[int, list[tuple[datetime, datetime]]] = defaultdict(list)
    rows = Fill.objects.filter(account=account_id, at__gte=since)
    for instrument_id, at, recorded_at in rows.values_list(
        "order__instrument", "at", "recorded_at"
    ):
        fills[instrument_id].append((at, recorded_at))
    paid = FundingPayment.objects.filter(account=account_id, at__gte=since)
    return {
        settlement_id
        for settlement_id, instrument_id, paid_for, paid_at in paid.values_list(
            "settlement", "position__instrument", "at", "recorded_at"
        )
        if any(at <= paid_for and known > paid_at for at, known in fills[instrument_id])
    }


# -- Booking it --------------------------------------------------------------------------------


def _settle(account_id: int, settlement_ids: Iterable[int]) -> int:
    rows = FundingRate.objects.filter(pk__in=settlement_ids)
    settlements = sorted(rows, key=lambda row: (row.funding_time, row.pk))
    written = 0
    for begin in range(0, len(settlements), CHUNK):
        chunk = settlements[begin : begin + CHUNK]
        with locked_account(account_id) as account:
            held = _Holdings(account, chunk)
            for settlement in chunk:
                if _has_passed(account, settlement.funding_time):
                    written += _settle_one(account, settlement, held)
    return written


def _has_passed(account: Account, moment: datetime) -> bool:
    """Whether the books have come past a moment: what bars had to say about the time before it is
    booked, or it has had its time to be."""
    bar = account.processed_bar
    if bar is not None and bar >= last_closed(moment, account.timeframe):
        return True
    return clock.now() - moment >= clock.current().widen(WAIT_FOR_BAR)


def _settle_one(account: Account, settlement: FundingRate, held: _Holdings) -> bool:
    """Book what the settlement comes to beyond what was booked; whether there was anything."""
    position = held.position(settlement.instrument_id)
    if position is None:
        return False
    quantity, grid = held.at(position, settlement.funding_time)
    payments = FundingPayment.objects.filter(account=account, settlement=settlement)
    last = payments.order_by("-revision").first()
    if last is None and quantity == 0:
        return False
    price, source = _mark(account, position, settlement, last)
    if last is not None and (last.rate, last.mark_price, last.quantity_steps) == (
        settlement.rate, price, quantity,
    ):  # fmt: skip
        return False
    due = funding_cash(
        quantity,
        count_of(price, PRICE_PARTS),
        count_of(settlement.rate, RATE_PARTS),
        grid.step_num,
        grid.step_den,
    )
    booked = payments.aggregate(total=Sum("amount"))["total"] or from_units(0)
    payment = FundingPayment.objects.create(
        account=account,
        position=position,
        settlement=settlement,
        revision=0 if last is None else last.revision + 1,
        quantity_steps=quantity,
        mark_price=price,
        mark_source=source,
        rate=settlement.rate,
        amount=from_units(due - to_units(booked)),
        at=settlement.funding_time,
        recorded_at=clock.wall_now(),
    )
    post_transaction(
        account=account,
        kind=TransactionKind.FUNDING,
        key=f"funding:{payment.pk}",
        counter_amounts={Book.FUNDING: -to_units(payment.amount)},
        at=clock.now() if payment.revision else payment.at,
    )
    _credit_round(position, payment)
    log.info("funding_paid", account=account.pk, payment=payment.pk, amount=str(payment.amount))
    return True


def _mark(
    account: Account, position: Position, settlement: FundingRate, last: FundingPayment | None
) -> tuple[float, str]:
    """The price of the settlement: its own, else the last close of the account's bars by the
    funding time, else what was paid on average. One that was fallen back on once stays."""
    if settlement.mark_price is not None and settlement.mark_price > 0.0:
        return settlement.mark_price, MarkSource.SETTLEMENT
    if last is not None:
        return last.mark_price, last.mark_source
    closes = Ohlcv.objects.filter(
        instrument=position.instrument_id,
        timeframe=account.timeframe,
        open_time__lte=settlement.funding_time - duration(account.timeframe),
    )
    close = closes.order_by("-open_time").values_list("close", flat=True).first()
    if close is not None:
        return close, MarkSource.CANDLE
    return _average_cost(position, settlement.funding_time), MarkSource.COST


def _average_cost(position: Position, moment: datetime) -> float:
    if position.quantity_steps and position.entered_at and position.entered_at <= moment:
        grid = Grid.of(position.tick_size, position.quantity_step)
        return abs(float(position.total_cost) / grid.quantity(position.quantity_steps))
    trade = _trade_at(position, moment)
    return 0.0 if trade is None else trade.entry_price


def _credit_round(position: Position, payment: FundingPayment) -> None:
    """Add the payment to the round trip that held at its time, which may be over by now."""
    is_open = position.quantity_steps != 0 and position.entered_at is not None
    trade = None
    if not is_open or position.entered_at > payment.at:  # type: ignore[operator]
        trade = _trade_at(position, payment.at)
    if trade is not None:
        Trade.objects.filter(pk=trade.pk).update(funding=trade.funding + payment.amount)
    else:
        position.round_funding += payment.amount
        position.save(update_fields=["round_funding"])


def _trade_at(position: Position, moment: datetime) -> Trade | None:
    """The trade that held at a moment; else the one that ended last before it: a fill that ended it
    came to be known after its funding was booked."""
    trades = Trade.objects.filter(account=position.account_id, instrument=position.instrument_id)
    covering = trades.filter(entered_at__lte=moment, exited_at__gt=moment)
    return (
        covering.order_by("exited_at", "pk").first()
        or trades.filter(exited_at__lte=moment).order_by("-exited_at", "-pk").first()
    )


class _Holdings:
    """What an account held at the times of some settlements: what it holds now, less the fills
    since. Made and asked inside the account's lock."""

    def __init__(self, account: Account, settlements: Sequence[FundingRate]) -> None:
        instruments = {row.instrument_id for row in settlements}
        self._positions = {
            row.instrument_id: row
            for row in Position.objects.filter(account=account, instrument__in=instruments)
        }
        fills = Fill.objects.filter(
            account=account,
            at__gt=min(row.funding_time for row in settlements),
            order__instrument__in=instruments,
        )
        self._fills: defaultdict[int, list[tuple[datetime, int, str, str]]] = defaultdict(list)
        for instrument_id, at, steps, side, tick_size, quantity_step in fills.values_list(
            "order__instrument", "at", "quantity_steps", "order__side", "order__tick_size",
            "order__quantity_step",
        ):  # fmt: skip
            signed = steps if side == Side.BUY else -steps
            self._fills[instrument_id].append((at, signed, tick_size, quantity_step))

    def position(self, instrument_id: int) -> Position | None:
        """The account's row of the instrument."""
        return self._positions.get(instrument_id)

    def at(self, position: Position, moment: datetime) -> tuple[int, Grid]:
        """Signed steps, and the grid that they count on; a fill at the very moment is counted.

        Only a flat position changes its grid, so on all grids but one the fills sum to nothing.
        """
        now = (position.tick_size, position.quantity_step)
        held = defaultdict(int, {now: position.quantity_steps})
        for at, steps, tick_size, quantity_step in self._fills[position.instrument_id]:
            if at > moment:
                held[tick_size, quantity_step] -= steps
        sizes = next((key for key, steps in held.items() if steps), now)
        return held[sizes], Grid.of(*sizes)
