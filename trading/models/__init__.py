"""The paper account's books: accounts, orders, fills, ledger, positions, trades, backtests.

Prices are integer ticks and quantities integer steps of the listing; each order copies tick and
step, so old rows keep their meaning when a venue changes its grid.
"""

from trading.models.accounts import (
    Account,
    AttemptOutcome,
    EquityPoint,
    ExecutionAttempt,
    MissedBar,
    PendingSignal,
    default_subscriptions,
    validate_subscriptions,
)
from trading.models.backtests import Backtest, BacktestState
from trading.models.holdings import FundingPayment, MarkSource, Position, Trade
from trading.models.ledger import (
    Book,
    LedgerEntry,
    LedgerMismatch,
    LedgerTransaction,
    TransactionKind,
)
from trading.models.orders import (
    ENTRY_LEGS,
    PROTECTIVE_LEGS,
    Fill,
    Liquidity,
    Order,
    OrderKind,
    OrderLeg,
    OrderStatus,
    Side,
    TimeInForce,
)
from trading.models.outside import OutsideTurn, TurnResult
from trading.models.refused import RefusedRequest

__all__ = [
    "ENTRY_LEGS",
    "PROTECTIVE_LEGS",
    "Account",
    "AttemptOutcome",
    "Backtest",
    "BacktestState",
    "Book",
    "EquityPoint",
    "ExecutionAttempt",
    "Fill",
    "FundingPayment",
    "LedgerEntry",
    "LedgerMismatch",
    "LedgerTransaction",
    "Liquidity",
    "MarkSource",
    "MissedBar",
    "Order",
    "OrderKind",
    "OrderLeg",
    "OrderStatus",
    "OutsideTurn",
    "PendingSignal",
    "Position",
    "RefusedRequest",
    "Side",
    "TimeInForce",
    "Trade",
    "TransactionKind",
    "TurnResult",
    "default_subscriptions",
    "validate_subscriptions",
]
