"""What becomes of orders and holdings whose market has ended, or rests.

A listing ends with its `valid_to` and no successor, or its exchange's list says that it does not
trade. Entries are cancelled at once. What is held waits, with its stop and target, because venues
halt symbols and take them up again; after GRACE it is settled at the last price that is known, as a
venue settles the contracts that it gives up, and what still works for it is cancelled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog

from collectors import clock
from collectors.marketdata import duration, last_closed, to_ms
from collectors.models import Ohlcv
from collectors.selectors import off_market
from trading.models import (
    ENTRY_LEGS,
    Account,
    Fill,
    Order,
    OrderLeg,
    OrderStatus,
    PendingSignal,
    Position,
)
from trading.selectors import holding_of
from trading.services.accounts import locked_account
from trading.services.booking import Hit, book_fill
from trading.services.placing import Ticket, place_order
from trading.services.quotes import current_offer
from trading.services.venues import holding_venue
from trading.ticks import level_ticks

log = structlog.get_logger(__name__)

# The exchanges' lists are asked for once a day: three of them have to agree.
GRACE = timedelta(hours=72)
DELISTED = "delisted"
OFF_MARKET = "it is not traded any more"

Key = tuple[str, int]  # exchange, instrument's id


def settle_delisted() -> int:
    """See which markets have ended or rest, cancel entries there, and settle what has been held
    there for GRACE; the number of positions settled. Three queries where all is well.

    Reads Redis, so never in a transaction. One account's trouble holds up no other.
    """
    now = clock.now()
    held = list(
        Position.objects.exclude(quantity_steps=0)
        .select_related("account", "instrument")
        .order_by("account", "pk")
    )
    entries = Order.objects.filter(status=OrderStatus.WORKING, leg__in=ENTRY_LEGS).order_by()
    waiting = set(entries.values_list("account", "exchange", "instrument"))
    closed = off_market(
        keys={_key(row) for row in held} | {(exchange, pk) for _, exchange, pk in waiting}, at=now
    )
    _cancel_entries({row for row in waiting if row[1:] in closed}, now)
    return sum(_look_at(row, now, is_closed=_key(row) in closed) for row in held)


def _key(position: Position) -> Key:
    return position.account.exchange, position.instrument_id


def _cancel_entries(waiting: Iterable[tuple[int, str, int]], now: datetime) -> None:
    by_account: defaultdict[int, set[int]] = defaultdict(set)
    for account_id, _, instrument_id in waiting:
        by_account[account_id].add(instrument_id)
    for account_id, instruments in by_account.items():
        with locked_account(account_id):
            Order.objects.filter(
                account=account_id,
                instrument__in=instruments,
                status=OrderStatus.WORKING,
                leg__in=ENTRY_LEGS,
            ).update(status=OrderStatus.CANCELLED, reason=OFF_MARKET, ended_at=now)


def _look_at(position: Position, now: datetime, *, is_closed: bool) -> bool:
    """Note that what is held is not traded, or is again; whether it was settled."""
    since = position.off_market_since
    if is_closed == (since is not None) and not _is_over(since, now):
        return False
    try:
        if not is_closed or since is None:
            with locked_account(position.account_id):
                still = Position.objects.filter(pk=position.pk).exclude(quantity_steps=0)
                still.update(off_market_since=now if is_closed else None)
            log.warning("held_off_market", position=position.pk, is_closed=is_closed)
            return False
        offer = current_offer(account=position.account, instrument=position.instrument, since=None)
        if offer.quote is not None:
            return False  # whatever the list says, somebody trades it
        with locked_account(position.account_id) as account:
            return _settle(account, position.pk, now) is not None
    except Exception:
        log.exception("not_settled", position=position.pk)
        return False


def _is_over(since: datetime | None, now: datetime) -> bool:
    return since is not None and now - since >= clock.current().widen(GRACE)


def _settle(account: Account, position_id: int, now: datetime) -> Fill | None:
    """Close a position at the last known price, as far as it is still held."""
    position = Position.objects.select_related("instrument", "entry_signal").get(pk=position_id)
    if not position.quantity_steps or not _is_over(position.off_market_since, now):
        return None
    PendingSignal.objects.filter(account=account, instrument=position.instrument).delete()
    Order.objects.filter(
        account=account, instrument=position.instrument, status=OrderStatus.WORKING
    ).update(status=OrderStatus.CANCELLED, reason=OFF_MARKET, ended_at=now)
    ticks, record = _last_price(account, position)
    order = place_order(
        account=account,
        instrument=position.instrument,
        venue=holding_venue(position=position, exchange=account.exchange, at=now),
        ticket=Ticket(
            leg=OrderLeg.CLOSE,
            side=-position.direction,
            steps=abs(position.quantity_steps),
            key=f"{DELISTED}:{position.pk}:{to_ms(position.off_market_since or now)}",
            reason=DELISTED,
        ),
        at=now,
    )
    return book_fill(
        account=account,
        position=position,
        order=order,
        hit=Hit(
            steps=order.quantity_steps,
            ticks=ticks,
            reference_ticks=ticks,
            slippage_bps=0.0,
            trigger=DELISTED,
            at=now,
            bar=last_closed(now, account.timeframe),
            quote={"settled_at": record},
        ),
    )


def _last_price(account: Account, position: Position) -> tuple[int, Mapping[str, Any]]:
    """The last price in ticks of the position, and where it is from: the newest candle, else what
    the position cost."""
    holding = holding_of(position=position)
    candles = Ohlcv.objects.filter(instrument=position.instrument, timeframe=account.timeframe)
    candle = candles.order_by("-open_time").first()
    if candle is None:
        return holding.cost_ticks, {"price": "what it cost"}
    return level_ticks(candle.close, holding.grid.tick_num, holding.grid.tick_den), {
        "price": "the last close",
        "close": candle.close,
        "closed_at": (candle.open_time + duration(candle.timeframe)).isoformat(),
        "source": candle.source,
        "is_sampled": candle.is_sampled,
    }
