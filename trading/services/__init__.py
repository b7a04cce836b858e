"""The services of trading, one file per noun; callers import them from here."""

from trading.services.accounts import (
    create_account,
    locked_account,
    seed_account,
    update_account,
)
from trading.services.advance import advance_account
from trading.services.assessment import preview_assessment
from trading.services.attempts import forget_attempts
from trading.services.backtest_requests import BacktestError, create_backtest
from trading.services.backtests import (
    cancel_backtest,
    execute_backtest,
    expired_backtests,
    run_inline,
)
from trading.services.closing import NoQuoteError, close_position
from trading.services.delisting import settle_delisted
from trading.services.funding import pay_funding, review_funding
from trading.services.hand_orders import (
    Flattening,
    HandOutcome,
    cancel_working_order,
    flatten,
    place_hand_order,
    read_offer,
    read_offers,
    record_invalid_order,
)
from trading.services.liquidation import liquidate_if_due
from trading.services.marking import Worth, live_worths, mark_accounts
from trading.services.matching import work_orders
from trading.services.outside import execute_outside_signals
from trading.services.reconciliation import reconcile
from trading.services.refusals import keep_refused_request
from trading.services.reports import write_daily_reports, write_report
from trading.services.staleness import watch_staleness
from trading.services.sweeping import work_account, work_instrument
from trading.services.tickets import HandOrder, Terms
from trading.services.trading_state import (
    StillAtWorkError,
    check_trips,
    set_desk_state,
    set_trading_state,
    sweep_entries,
)

__all__ = [
    "BacktestError",
    "Flattening",
    "HandOrder",
    "HandOutcome",
    "NoQuoteError",
    "StillAtWorkError",
    "Terms",
    "Worth",
    "advance_account",
    "cancel_backtest",
    "cancel_working_order",
    "check_trips",
    "close_position",
    "create_account",
    "create_backtest",
    "execute_backtest",
    "execute_outside_signals",
    "expired_backtests",
    "flatten",
    "forget_attempts",
    "keep_refused_request",
    "liquidate_if_due",
    "live_worths",
    "locked_account",
    "mark_accounts",
    "pay_funding",
    "place_hand_order",
    "preview_assessment",
    "read_offer",
    "read_offers",
    "reconcile",
    "record_invalid_order",
    "review_funding",
    "run_inline",
    "seed_account",
    "set_desk_state",
    "set_trading_state",
    "settle_delisted",
    "sweep_entries",
    "update_account",
    "watch_staleness",
    "work_account",
    "work_instrument",
    "work_orders",
    "write_daily_reports",
    "write_report",
]
