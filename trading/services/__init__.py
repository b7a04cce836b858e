"""The services of trading, one file per noun; callers import them from here."""

from trading.services.accounts import (
    create_account,
    locked_account,
    reconcile,
    seed_account,
    update_account,
)
from trading.services.advance import advance_account
from trading.services.assessment import preview_assessment
from trading.services.backtest_requests import BacktestError, create_backtest
from trading.services.backtests import (
    cancel_backtest,
    execute_backtest,
    expired_backtests,
    run_inline,
)
from trading.services.execution import NoQuoteError, close_position

__all__ = [
    "BacktestError",
    "NoQuoteError",
    "advance_account",
    "cancel_backtest",
    "close_position",
    "create_account",
    "create_backtest",
    "execute_backtest",
    "expired_backtests",
    "locked_account",
    "preview_assessment",
    "reconcile",
    "run_inline",
    "seed_account",
    "update_account",
]
