"""What the trading workers do. Each task looks in the tables for all that is due, so a lost or
doubled message changes nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from celery import shared_task

from collectors.marketdata import Quote
from collectors.turns import Turns
from trading import services
from trading.models import Account, Order, OrderStatus
from trading.selectors import accounts_at_work

log = structlog.get_logger(__name__)
_turns = Turns()
_marking = Turns()
_reconciling = Turns()
_sweeping = Turns()
_outside_turns = Turns()


@shared_task  # type: ignore[untyped-decorator]
def advance_accounts() -> None:
    """Work off the due bar runs of every account at work; one that fails holds up no other."""
    with _turns.turn() as is_ours:
        if is_ours:
            _advance_accounts()


def _advance_accounts() -> None:
    for account_id in accounts_at_work():
        try:
            services.advance_account(account_id=account_id)
        except Exception:
            log.exception("account_failed", account=account_id)


@shared_task  # type: ignore[untyped-decorator]
def execute_outside_signals() -> None:
    """Give the signals from outside their turn; an account that fails holds up no other."""
    with _outside_turns.turn() as is_ours:
        if not is_ours:
            return
        for account_id in Account.objects.filter(is_active=True).values_list("pk", flat=True):
            try:
                services.execute_outside_signals(account_id=account_id)
            except Exception:
                log.exception("outside_signals_failed", account=account_id)


@shared_task  # type: ignore[untyped-decorator]
def work_quotes(exchange: str, symbol: str, quotes: list[dict[str, Any]]) -> int:
    """Let working orders meet quotes that have reached one of them; gives the number of fills."""
    seen = [msgspec.convert(quote, Quote) for quote in quotes]
    return services.work_instrument(exchange=exchange, symbol=symbol, quotes=seen)


@shared_task  # type: ignore[untyped-decorator]
def sweep_orders() -> None:
    """Let what waits for the market meet what it has done meanwhile, and cancel entries that a
    switch has left working."""
    with _sweeping.turn() as is_ours:
        if not is_ours:
            return
        services.sweep_entries()
        waiting = Order.objects.filter(status=OrderStatus.WORKING).order_by("account")
        for account_id in waiting.values_list("account", flat=True).distinct():
            try:
                services.work_account(account_id=account_id)
            except Exception:
                log.exception("orders_not_worked", account=account_id)


@shared_task  # type: ignore[untyped-decorator]
def mark_accounts() -> None:
    """Mark every account that holds something, and do what its worth asks for."""
    with _marking.turn() as is_ours:
        if is_ours:
            services.mark_accounts()


@shared_task  # type: ignore[untyped-decorator]
def pay_funding(instrument_ids: list[int] | None = None) -> int:
    """Book the funding that is due, of some instruments or (recent settlements) of all; gives the
    number of payments."""
    return services.pay_funding(instrument_ids=instrument_ids, recent=instrument_ids is None)


@shared_task  # type: ignore[untyped-decorator]
def reconcile_accounts() -> None:
    """Recompute every account from its ledger; a mismatch halts it."""
    with _reconciling.turn() as is_ours:
        if not is_ours:
            return
        for account_id in Account.objects.values_list("pk", flat=True):
            try:
                services.reconcile(account_id=account_id)
            except Exception:
                log.exception("not_reconciled", account=account_id)


@shared_task  # type: ignore[untyped-decorator]
def watch_trading_state() -> None:
    """Let entries wait while too many prices are old, and cancel those that a switch left."""
    services.watch_staleness()
    services.sweep_entries()


@shared_task  # type: ignore[untyped-decorator]
def settle_delisted() -> int:
    """Deal with what is held or ordered where nothing is traded any more; gives how many positions
    were settled."""
    return services.settle_delisted()


@shared_task  # type: ignore[untyped-decorator]
def run_backtest(backtest_id: int) -> None:
    """Run one backtest unless somebody else does."""
    services.execute_backtest(backtest_id=backtest_id)


@shared_task  # type: ignore[untyped-decorator]
def sweep_backtests() -> None:
    """Offer again the backtests whose message or worker was lost."""
    for backtest_id in services.expired_backtests():
        run_backtest.delay(backtest_id)


@shared_task  # type: ignore[untyped-decorator]
def forget_attempts() -> int:
    """Delete the executions that nobody asks about any more; gives how many."""
    return services.forget_attempts()


@shared_task  # type: ignore[untyped-decorator]
def write_daily_reports() -> None:
    """The reports of the day that has ended, unless they are there."""
    services.write_daily_reports()
