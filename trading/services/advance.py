"""Working off bar runs: exits on the bar, the signals of its close, the mark, in that order.

Each step is safe to repeat and to be done by several workers at once: the account's lock orders
them, `processed_bar` moves on only after everything of the bar, and every row has its unique key.
"""

from __future__ import annotations

import math
from datetime import UTC, date

from collectors.marketdata import duration, to_ms
from collectors.models import Ohlcv
from signals.models import BarRun
from trading import protection
from trading.accounting import roll_marks
from trading.fields import from_units, to_units
from trading.models import (
    PROTECTIVE_LEGS,
    Account,
    EquityPoint,
    Liquidity,
    Order,
    OrderLeg,
    OrderStatus,
    PendingSignal,
    Position,
)
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
from trading.services.booking import Hit, book_fill
from trading.services.execution import execute_signal
from trading.services.trading_state import check_trips


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
    if is_worked_off or not position.quantity_steps:
        return
    resting = {
        order.leg: order
        for order in Order.objects.filter(
            account=account,
            instrument=position.instrument,
            status=OrderStatus.WORKING,
            leg__in=PROTECTIVE_LEGS,
            judged_from__lte=bar,
        )
    }
    if not resting:
        return
    holding = holding_of(position=position)
    leg, match = protection.protective_exit(
        holding.direction,
        abs(holding.quantity),
        holding.stop_loss if OrderLeg.STOP_LOSS in resting else math.nan,
        holding.take_profit if OrderLeg.TAKE_PROFIT in resting else math.nan,
        candle.open,
        candle.high,
        candle.low,
        SLIPPAGE_BPS,
        holding.grid,
    )
    if leg == protection.NO_EXIT:
        return
    is_stop = leg == protection.STOP_HIT
    order = resting[OrderLeg.STOP_LOSS if is_stop else OrderLeg.TAKE_PROFIT]
    # A waiting close of this position has nothing left to close: it finds it flat.
    book_fill(
        account=account,
        position=position,
        order=order,
        hit=Hit(
            steps=match.steps,
            ticks=match.ticks,
            reference_ticks=match.reference_ticks,
            slippage_bps=SLIPPAGE_BPS if is_stop else 0.0,
            trigger=f"candle:{to_ms(bar)}",
            at=bar + duration(account.timeframe),
            bar=bar,
            quote=_recorded_candle(candle, holding.stop_loss, holding.take_profit),
            liquidity=Liquidity.TAKER if is_stop else Liquidity.MAKER,
        ),
    )


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
        check_trips(account=current, equity=equity)
