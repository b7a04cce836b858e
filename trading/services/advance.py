"""Working off bar runs: the orders that meet the bar, the signals of its close, then the mark.

Each step is safe to repeat and to be done by several workers at once: the account's lock orders
them, `processed_bar` moves on only after everything of the bar, and every row has its unique key.
"""

from __future__ import annotations

from collections.abc import Sequence

from collectors.marketdata import duration
from risk.selectors import read_ahead
from signals.models import BarRun, Signal
from trading.models import Account
from trading.selectors import due_runs, open_positions, signals_to_execute
from trading.services.accounts import locked_account
from trading.services.attempts import ripe_signals
from trading.services.execution import execute_signal
from trading.services.marking import record_mark
from trading.services.sweeping import work_bars
from trading.services.trading_state import check_trips


def advance_account(*, account_id: int) -> int:
    """Bring an account up to the newest finished bar run; the number of runs worked off.

    Works off each due run, then retries what waits for a quote: in this order a newer signal
    overtakes a waiting one before that could trade. In an account that is switched off no signal
    does anything, and what protects its holdings works on. Raises Account.DoesNotExist.
    """
    account = Account.objects.get(pk=account_id)
    runs = due_runs(account=account)
    for run in runs:
        work_bars(account=account, until=run.bar_open_time, is_last_look=True)
        signals = signals_to_execute(account=account, run=run) if account.is_active else []
        _read_ahead(account, run, signals)
        for signal in signals:
            execute_signal(account=account, signal=signal, run_bar=run.bar_open_time)
        _finish_run(account, run)
        account.processed_bar = run.bar_open_time
    if account.is_active:
        retry_pending(account=account)
    return len(runs)


def _read_ahead(account: Account, run: BarRun, signals: Sequence[Signal]) -> None:
    """Read the market of all openings and of what is held at once, before any lock is held."""
    coin_ids = {signal.instrument.coin_id for signal in signals if signal.direction}
    if coin_ids:
        held = {row.instrument.coin_id for row in open_positions(account_id=account.pk)}
        at = run.bar_open_time + duration(account.timeframe)
        read_ahead(coin_ids=coin_ids | held, at=at)


def retry_pending(*, account: Account) -> None:
    """Try again each signal that met no usable quote; none of them holds up another."""
    for signal in ripe_signals(account=account):
        execute_signal(account=account, signal=signal, run_bar=None)


def _finish_run(account: Account, run: BarRun) -> None:
    """Mark the account at the bar's closes, roll its day, and move `processed_bar` on."""
    bar = run.bar_open_time
    with locked_account(account.pk) as current:
        if current.processed_bar is not None and current.processed_bar >= bar:
            return
        equity = record_mark(account=current, at=bar + duration(current.timeframe))
        current.processed_bar = bar
        current.save(update_fields=["processed_bar"])
        check_trips(account=current, equity=equity)
