"""Reads of the books: what is due, what is held, what it is worth, whether it adds up."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery

from collectors import clock
from collectors.marketdata import duration
from collectors.models import Instrument, Ohlcv
from risk.portfolio import NO_RECORD, Portfolio, loss_fraction
from risk.selectors import state_in_force
from signals.models import BarRun, RunState, Signal
from trading.fields import from_units, to_units
from trading.holdings import Holding, marked_equity, marked_portfolio
from trading.models import (
    Account,
    AttemptOutcome,
    ExecutionAttempt,
    Fill,
    PendingSignal,
    Position,
)
from trading.orders import Grid
from trading.strategy_records import strategy_record
from trading.ticks import level_ticks


def due_runs(*, account: Account) -> list[BarRun]:
    """The finished bar runs that the account has not worked off, oldest first, none skipped.

    A run that is not finished holds back those after it. A new account begins with the first bar
    that closes when the account is made, or later.
    """
    if account.processed_bar is not None:
        newer = Q(bar_open_time__gt=account.processed_bar)
    else:
        newer = Q(bar_open_time__gte=account.created_at - duration(account.timeframe))
    due = []
    for run in BarRun.objects.filter(newer, timeframe=account.timeframe).order_by("bar_open_time"):
        if run.state != RunState.DONE:
            break
        due.append(run)
    return due


def accounts_at_work() -> list[int]:
    """The accounts that a bar matters to: active ones, and those that still hold something."""
    holding = Position.objects.filter(account=OuterRef("pk")).exclude(quantity_steps=0)
    working = Account.objects.filter(Q(is_active=True) | Exists(holding))
    return list(working.values_list("pk", flat=True))


def signals_to_execute(*, account: Account, run: BarRun) -> list[Signal]:
    """The run's signals of the account's subscriptions that nobody has worked off yet: closing ones
    first, then by instrument."""
    done = Exists(done_attempts(account=account, signal=OuterRef("pk")))
    signals = run.signals.filter(~done, strategy__in=account.subscriptions)
    signals = signals.select_related("instrument")
    return sorted(
        signals, key=lambda row: (row.direction != 0, row.instrument.coin_id, row.strategy)
    )


def done_attempts(*, account: Account, signal: Signal | OuterRef) -> QuerySet[ExecutionAttempt]:
    """The row that says that the account has done all that a signal asked for; none before."""
    return ExecutionAttempt.objects.filter(
        account=account, signal=signal, outcome=AttemptOutcome.DONE
    )


def open_positions(*, account_id: int) -> list[Position]:
    """The positions that are not flat, by instrument."""
    return list(
        Position.objects.filter(account_id=account_id)
        .exclude(quantity_steps=0)
        .select_related("instrument", "entry_signal")
        .order_by("instrument__coin_id")
    )


def holding_of(*, position: Position) -> Holding:
    """The position as the pure value."""
    return Holding(
        coin_id=position.instrument.coin_id,
        grid=Grid.of(position.tick_size, position.quantity_step),
        quantity=position.quantity_steps,
        total_cost=to_units(position.total_cost),
        stop_loss=math.nan if position.stop_loss is None else position.stop_loss,
        take_profit=math.nan if position.take_profit is None else position.take_profit,
    )


def marks_at(
    *, holdings: Iterable[Holding], timeframe: str, bar: datetime | None
) -> dict[str, int]:
    """Ticks by coin id to mark at: the newest close up to the bar, else the position's own cost.

    `bar` None means the newest candle there is.
    """
    held = list(holdings)
    if not held:
        return {}
    candles = Ohlcv.objects.filter(instrument=OuterRef("pk"), timeframe=timeframe)
    if bar is not None:
        candles = candles.filter(open_time__lte=bar)
    newest = Subquery(candles.order_by("-open_time").values("close")[:1])
    rows = Instrument.objects.filter(coin_id__in=[holding.coin_id for holding in held])
    closes = dict(rows.order_by().values_list("coin_id", newest))
    return {holding.coin_id: _mark(holding, closes.get(holding.coin_id)) for holding in held}


def account_portfolio(*, account: Account, bar: datetime | None, strategy: str = "") -> Portfolio:
    """The account as risk sees it, marked at the closes of a bar (None: the newest closes), with
    the record of the strategy that asks."""
    holdings, marks = _marked_holdings(account, bar)
    return marked_portfolio(
        cash=to_units(account.cash),
        holdings=holdings,
        marks=marks,
        high_water_mark=to_units(account.high_water_mark),
        day_start_equity=to_units(account.day_start_equity),
        record=strategy_record(account_id=account.pk, strategy=strategy) if strategy else NO_RECORD,
    )


# Every assessment asks it under the account's lock: the ORM would take longer to write it than the
# database to answer it.
HELD = f"""
    SELECT instrument.coin_id, held.tick_size, held.quantity_step, held.quantity_steps,
        held.total_cost, held.stop_loss, held.take_profit,
        (SELECT candle.close FROM {Ohlcv._meta.db_table} AS candle
         WHERE candle.instrument_id = held.instrument_id AND candle.timeframe = %s {{until}}
         ORDER BY candle.open_time DESC LIMIT 1)
    FROM {Position._meta.db_table} AS held
    JOIN {Instrument._meta.db_table} AS instrument ON instrument.id = held.instrument_id
    WHERE held.account_id = %s AND held.quantity_steps <> 0 ORDER BY instrument.coin_id
"""


def _marked_holdings(
    account: Account, bar: datetime | None
) -> tuple[list[Holding], dict[str, int]]:
    """What the account holds, and the ticks by coin id to mark it at, as `marks_at` says."""
    given: list[Any] = [account.timeframe]
    if bar is not None:
        given.append(connection.ops.adapt_datetimefield_value(bar))
    with connection.cursor() as cursor:
        query = HELD.format(until="" if bar is None else "AND candle.open_time <= %s")
        cursor.execute(query, [*given, account.pk])
        rows = cursor.fetchall()
    holdings, marks = [], {}
    for coin_id, tick, step, quantity, cost, stop_loss, take_profit, close in rows:
        holding = Holding(
            coin_id=coin_id,
            grid=Grid.of(tick, step),
            quantity=quantity,
            total_cost=cost,
            stop_loss=math.nan if stop_loss is None else stop_loss,
            take_profit=math.nan if take_profit is None else take_profit,
        )
        holdings.append(holding)
        marks[coin_id] = _mark(holding, close)
    return holdings, marks


def _mark(holding: Holding, close: float | None) -> int:
    grid = holding.grid
    if close is None:
        return holding.cost_ticks
    return level_ticks(close, grid.tick_num, grid.tick_den)


# Of hourly candles the newest may be late by minutes; three that are missing are an outage.
STALE_AFTER = timedelta(hours=3)


def candles_are_stale(*, instrument: Instrument, at: datetime) -> bool:
    """Whether nothing is known of an instrument's last hours at a market time, whatever is quoted:
    then nobody can say how it has moved, and what it trades."""
    candles = Ohlcv.objects.filter(instrument=instrument, timeframe="1h")
    newest = candles.order_by("-open_time").values_list("open_time", flat=True).first()
    if newest is None:
        return True
    return at - newest - duration("1h") > clock.current().widen(STALE_AFTER)


# After so many failures an opening is refused, and a close is tried at growing intervals.
MOST_TRIES = 5


@dataclass(frozen=True, kw_only=True)
class FailingClose:
    """A signal that has to close something and has raised so many times; `error` is the last."""

    account: Account
    signal: Signal
    tries: int
    error: str


def failing_closes() -> list[FailingClose]:
    """The closes that have raised MOST_TRIES times and are still to be done."""
    # Asked every few seconds: only the attempts of what waits are looked at.
    failed = (
        ExecutionAttempt.objects.filter(
            account=OuterRef("account"), signal=OuterRef("signal"), outcome=AttemptOutcome.FAILED
        )
        .order_by()
        .values("signal")
        .annotate(count=Count("pk"))
        .values("count")
    )
    rows = PendingSignal.objects.select_related("account", "signal__instrument")
    found = []
    for row in rows.annotate(tries=Subquery(failed)).filter(tries__gte=MOST_TRIES):
        last = row.account.attempts.filter(signal=row.signal).first()
        found.append(
            FailingClose(
                account=row.account,
                signal=row.signal,
                tries=row.tries,
                error=last.error if last is not None else "",
            )
        )
    return found


def account_worth(*, account: Account, bar: datetime | None) -> tuple[int, int]:
    """(equity, gross exposure) in money units, marked at the closes of a bar."""
    holdings, marks = _marked_holdings(account, bar)
    equity = marked_equity(cash=to_units(account.cash), holdings=holdings, marks=marks)
    return equity, sum(abs(holding.exposure(marks[holding.coin_id])) for holding in holdings)


def account_summary(*, account_id: int) -> dict[str, Any]:
    """What programs read of an account, at the newest closes; amounts are exact."""
    account = Account.objects.select_related("profile").get(pk=account_id)
    units, gross = account_worth(account=account, bar=None)
    equity = from_units(units)
    has_won = Q(pnl__gt=F("fees") - F("funding"))
    trades = account.trades.aggregate(count=Count("pk"), wins=Count("pk", filter=has_won))
    return {
        "id": account.pk,
        "name": account.name,
        "trading_state": state_in_force(profile=account.profile).state,
        "cash": account.cash,
        "equity": equity,
        "initial_capital": account.initial_capital,
        "total_return": float(equity) / float(account.initial_capital) - 1.0,
        "drawdown": loss_fraction(float(equity), float(account.high_water_mark)),
        "daily_pnl": equity - account.day_start_equity,
        "gross_exposure": from_units(gross),
        "open_positions": account.positions.exclude(quantity_steps=0).count(),
        "fill_count": account.fills.count(),
        "trade_count": trades["count"],
        "win_rate": trades["wins"] / trades["count"] if trades["count"] else None,
        "processed_bar": account.processed_bar,
    }


def position_json(position: Position, *, mark_ticks: int) -> dict[str, Any]:
    """An open position as programs read it, marked at a price of `mark_ticks`."""
    holding = holding_of(position=position)
    grid = holding.grid
    return {
        "instrument": holding.coin_id,
        "direction": "LONG" if holding.direction > 0 else "SHORT",
        "quantity": grid.quantity_text(position.quantity_steps),
        "total_cost": f"{position.total_cost:f}",
        "mark_price": grid.price_text(mark_ticks),
        "exposure": f"{from_units(holding.exposure(mark_ticks)):f}",
        "unrealised_pnl": f"{from_units(holding.unrealised(mark_ticks)):f}",
        "realised_pnl": f"{position.realised_pnl:f}",
        "stop_loss": position.stop_loss,
        "take_profit": position.take_profit,
        "strategy": position.entry_signal.strategy if position.entry_signal else "manual",
        "entered_at": position.entered_at.isoformat() if position.entered_at else None,
    }


def fill_json(fill: Fill) -> dict[str, Any]:
    """A fill as programs read it: amounts are decimal strings, times ISO 8601 UTC.

    `signal` is the id of the signal that caused it, null for an exit by stop or by hand; `bar` the
    open time of the bar of the signal or of the trigger.
    """
    order = fill.order
    return {
        "id": fill.pk,
        "account": fill.account_id,
        "instrument": order.instrument.coin_id,
        "exchange": order.exchange,
        "symbol": order.symbol,
        "order": order.pk,
        "signal": order.signal_id,
        "leg": order.leg,
        "side": order.side,
        "quantity": f"{fill.quantity_steps * Decimal(order.quantity_step):f}",
        "price": f"{fill.price_ticks * Decimal(order.tick_size):f}",
        "fee": f"{fill.fee:f}",
        "realised_pnl": f"{fill.realised_pnl:f}",
        "liquidity": fill.liquidity,
        "slippage": f"{fill.slippage:f}",
        "slippage_bps": fill.slippage_bps + 0.0,  # -0.0 is what no slippage of a sale comes to
        "bar": fill.bar_open_time.isoformat(),
        "at": fill.at.isoformat(),
    }
