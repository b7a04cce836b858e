"""Working off bar runs: exits on the bar, the signals of its close, the mark, in that order.

Each step is safe to repeat and to be done by several workers at once: the account's lock orders
them, `processed_bar` moves on only after everything of the bar, and every row has its unique key.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime

from collectors.marketdata import duration
from collectors.models import Ohlcv
from signals.models import BarRun
from trading import simulator
from trading.accounting import roll_marks
from trading.fields import from_units, to_units
from trading.models import Account, EquityPoint, OrderLeg, PendingSignal, Position
from trading.orders import SLIPPAGE_BPS
from trading.selectors import (
    account_worth,
    due_runs,
    holding_of,
    open_positions,
    signals_to_execute,
    usable_candle,
)
from trading.services.accounts import locked_account
from trading.services.execution import execute_signal
from trading.services.fills import Occasion, Venue, close_whole_position
from trading.services.quotes import venue_of


def advance_account(*, account_id: int) -> int:
    """Bring an account up to the newest finished bar run; the number of runs worked off.

    Works off each due run, then retries what waits for a quote: in this order a newer signal
    overtakes a waiting one before that could trade. Raises Account.DoesNotExist.
    """
    account = Account.objects.get(pk=account_id)
    if not account.is_active:
        return 0
    runs = due_runs(account=account)
    for run in runs:
        _exit_positions(account, run)
        for signal in signals_to_execute(account=account, run=run):
            execute_signal(account=account, signal=signal, run_bar=run.bar_open_time)
        _finish_run(account, run)
    retry_pending(account=account)
    return len(runs)


def retry_pending(*, account: Account) -> None:
    """Try again each signal that met no usable quote; none of them holds up another."""
    waiting = PendingSignal.objects.filter(account=account).select_related("signal__instrument")
    for pending in waiting.order_by("id"):
        execute_signal(account=account, signal=pending.signal, run_bar=None)


def _exit_positions(account: Account, run: BarRun) -> None:
    for position in open_positions(account_id=account.pk):
        candle = usable_candle(
            instrument=position.instrument,
            timeframe=account.timeframe,
            open_time=run.bar_open_time,
        )
        if candle is not None:
            with locked_account(account.pk) as current:
                _exit_position(current, position.pk, candle)


def _exit_position(account: Account, position_id: int, candle: Ohlcv) -> None:
    bar = candle.open_time
    position = Position.objects.select_related("instrument", "entry_signal").get(pk=position_id)
    is_worked_off = account.processed_bar is not None and account.processed_bar >= bar
    is_before_entry = position.exits_from is not None and bar < position.exits_from
    if is_worked_off or is_before_entry or not position.quantity_steps:
        return
    holding = holding_of(position=position)
    leg, price = simulator.protective_exit(
        holding.direction,
        holding.stop_loss,
        holding.take_profit,
        candle.open,
        candle.high,
        candle.low,
    )
    if leg == simulator.NO_EXIT:
        return
    grid = holding.grid
    ticks = simulator.exit_ticks(
        leg, -holding.direction, price, SLIPPAGE_BPS, grid.tick_num, grid.tick_den
    )
    leg_name = OrderLeg.STOP_LOSS if leg == simulator.STOP_HIT else OrderLeg.TAKE_PROFIT
    closes_at = bar + duration(account.timeframe)
    # A waiting close of this position has nothing left to close: it finds it flat.
    close_whole_position(
        account=account,
        position=position,
        venue=_exit_venue(account, position, closes_at),
        ticks=ticks,
        occasion=Occasion(
            at=closes_at,
            bar=bar,
            leg=leg_name,
            reason=leg_name.value,
            quote=_recorded_candle(candle, holding.stop_loss, holding.take_profit),
            trigger_bar=bar,
        ),
    )


def _exit_venue(account: Account, position: Position, at: datetime) -> Venue:
    """The venue of an exit; the grid is the position's own, and the symbol may have ended."""
    venue = venue_of(instrument=position.instrument, exchange=account.exchange, at=at)
    if venue is None:
        venue = Venue(
            exchange=account.exchange,
            symbol=position.instrument.symbol,
            tick_size=position.tick_size,
            quantity_step=position.quantity_step,
            min_notional=0.0,
        )
    return venue.on_grid_of(position)


def _recorded_candle(candle: Ohlcv, stop_loss: float, take_profit: float) -> dict[str, object]:
    return {
        "candle": {
            "open_time": candle.open_time.isoformat(),
            "open": candle.open,
            "high": candle.high,
            "low": candle.low,
            "close": candle.close,
            "source": candle.source,
        },
        "stop_loss": None if math.isnan(stop_loss) else stop_loss,
        "take_profit": None if math.isnan(take_profit) else take_profit,
        "slippage_bps": SLIPPAGE_BPS,
    }


def _finish_run(account: Account, run: BarRun) -> None:
    """Mark the account at the bar's closes, roll its day, and move `processed_bar` on."""
    bar = run.bar_open_time
    with locked_account(account.pk) as current:
        if current.processed_bar is not None and current.processed_bar >= bar:
            return
        at = bar + duration(current.timeframe)
        equity, exposure = account_worth(account=current, bar=bar)
        EquityPoint.objects.update_or_create(
            account=current,
            at=at,
            defaults={
                "equity": from_units(equity),
                "cash": current.cash,
                "gross_exposure": from_units(exposure),
            },
        )
        high_water_mark, day_start, day = roll_marks(
            equity,
            at.astimezone(UTC).toordinal(),
            to_units(current.high_water_mark),
            to_units(current.day_start_equity),
            current.day.toordinal(),
        )
        current.high_water_mark = from_units(high_water_mark)
        current.day_start_equity = from_units(day_start)
        current.day = date.fromordinal(day)
        current.processed_bar = bar
        current.save(update_fields=["high_water_mark", "day_start_equity", "day", "processed_bar"])
