"""What has been traded at one venue lately: the newest trade, the flow of the last minute, and the
venue's own 24 hours."""

from __future__ import annotations

from collections import deque
from datetime import datetime

import msgspec

from collectors.feeds import PublicTrade
from collectors.venues import DayTicker

WINDOW_S = 60.0
# Of a minute's trades, so many are kept: beyond them the flow is told of a shorter while.
MOST_TRADES = 2000


class Tape(msgspec.Struct, frozen=True, kw_only=True):
    """Trades of one symbol. `bought` and `sold` are base units taken by buyers and sellers in the
    last `window_s` wall seconds; the other fields are null while nothing is known. The 24 hours
    are a rolling window, never a candle. `at` is the wall time of the sum."""

    exchange: str
    symbol: str
    last_price: float | None
    last_quantity: float | None
    last_side: str | None
    traded_at: datetime | None
    bought: float
    sold: float
    trades: int
    window_s: float
    at: datetime
    day: DayTicker | None


class TapeReader:
    """Sums up the trades and tickers of one symbol; moments are monotonic seconds."""

    def __init__(self, exchange: str, symbol: str) -> None:
        self._exchange = exchange
        self._symbol = symbol
        self._trades: deque[tuple[float, PublicTrade]] = deque(maxlen=MOST_TRADES)
        self._last: PublicTrade | None = None
        self._day: DayTicker | None = None
        self.is_new = False

    def take_trade(self, trade: PublicTrade, at: float) -> None:
        """One trade of the market."""
        self._last = trade
        self._trades.append((at, trade))
        self.is_new = True

    def take_day(self, ticker: DayTicker) -> None:
        """The venue's 24 hours."""
        self._day = ticker
        self.is_new = True

    def tape(self, at: float, *, wall: datetime) -> Tape:
        """The sum now; it is due again when there is something new, or less left in the window."""
        while self._trades and self._trades[0][0] < at - WINDOW_S:
            self._trades.popleft()
        self.is_new = bool(self._trades)
        flow = {"buy": 0.0, "sell": 0.0}
        for _, trade in self._trades:
            flow[trade.side] += trade.quantity
        is_full = len(self._trades) == MOST_TRADES
        last = self._last
        return Tape(
            exchange=self._exchange,
            symbol=self._symbol,
            last_price=last.price if last else None,
            last_quantity=last.quantity if last else None,
            last_side=last.side if last else None,
            traded_at=last.traded_at if last else None,
            bought=flow["buy"],
            sold=flow["sell"],
            trades=len(self._trades),
            window_s=at - self._trades[0][0] if is_full else WINDOW_S,
            at=wall,
            day=self._day,
        )
