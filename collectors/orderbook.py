"""The levels of one order book, and what they say. Pure.

Prices and quantities are doubles parsed from the venue's strings and never computed, so that equal
means equal. The book knows how far it is known: a side reaches down to its edge, and what a
question would need from beyond is answered with None, never with a number that may be wrong.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from itertools import islice
from operator import mul
from typing import Literal, NamedTuple

Levels = list[tuple[float, float]]  # (price, quantity)

# A book that grows beyond the first is cut to the second, best levels first.
MOST_LEVELS, KEPT_LEVELS = 12_000, 10_000
NO_BID_EDGE, NO_ASK_EDGE = 0.0, float("inf")


class TradeCost(NamedTuple):
    """What a market order would pay. `slippage_bps` is measured from the mid price, positive when
    the order pays."""

    average_price: float
    slippage_bps: float


class OrderBook:
    """Prices and quantities of both sides.

    `window` is the number of levels of a topic that shows no more than so many: a side with as
    many is known to the last of them. `bid_edge` and `ask_edge` are the worst prices down to which
    a side is known, 0 and infinity where all of it is.
    """

    __slots__ = ("_ask_edge", "_bid_edge", "ask_prices", "asks", "bid_prices", "bids", "window")

    def __init__(self, window: int | None = None) -> None:
        self.window = window
        self.bids: dict[float, float] = {}  # quantity by price
        self.asks: dict[float, float] = {}
        # Both ascending, to be read only: the best bid is the last, the best ask the first.
        self.bid_prices: list[float] = []
        self.ask_prices: list[float] = []
        self._bid_edge, self._ask_edge = NO_BID_EDGE, NO_ASK_EDGE

    def reset(
        self,
        bids: Iterable[tuple[float, float]],
        asks: Iterable[tuple[float, float]],
        *,
        bid_edge: float = NO_BID_EDGE,
        ask_edge: float = NO_ASK_EDGE,
    ) -> None:
        """Hold these levels, known to these edges, and nothing else."""
        self.bids = {
            price: quantity
            for price, quantity in dict(bids).items()
            if quantity and price >= bid_edge
        }
        self.asks = {
            price: quantity
            for price, quantity in dict(asks).items()
            if quantity and price <= ask_edge
        }
        self.bid_prices, self.ask_prices = sorted(self.bids), sorted(self.asks)
        self._bid_edge, self._ask_edge = bid_edge, ask_edge
        self._cut()

    def copy(self) -> OrderBook:
        """A book of its own with the same levels and edges."""
        other = OrderBook(self.window)
        other.bids, other.asks = self.bids.copy(), self.asks.copy()
        other.bid_prices, other.ask_prices = self.bid_prices.copy(), self.ask_prices.copy()
        other._bid_edge, other._ask_edge = self._bid_edge, self._ask_edge
        return other

    def apply(self, bids: Levels, asks: Levels) -> None:  # noqa: C901 (the loop is there twice)
        """Set these levels to these quantities; zero removes one, known or not. What lies beyond
        an edge is not kept: its neighbours are not known."""
        # Twice the same loop: a call for each side costs a tenth of the whole.
        if bids:
            held, prices, edge = self.bids, self.bid_prices, self._bid_edge
            for price, quantity in bids:
                if quantity:
                    if price not in held:
                        if price < edge:
                            continue
                        insort(prices, price)
                    held[price] = quantity
                elif price in held:
                    del held[price]
                    del prices[bisect_left(prices, price)]
        if asks:
            held, prices, edge = self.asks, self.ask_prices, self._ask_edge
            for price, quantity in asks:
                if quantity:
                    if price not in held:
                        if price > edge:
                            continue
                        insort(prices, price)
                    held[price] = quantity
                elif price in held:
                    del held[price]
                    del prices[bisect_left(prices, price)]
        most = self.window or MOST_LEVELS
        if len(self.bid_prices) > most or len(self.ask_prices) > most:
            self._cut()

    def _cut(self) -> None:
        """Forget the worst levels of a side that has too many."""
        most, kept = (self.window, self.window) if self.window else (MOST_LEVELS, KEPT_LEVELS)
        if len(self.bid_prices) > most:
            for price in self.bid_prices[:-kept]:
                del self.bids[price]
            del self.bid_prices[:-kept]
            if not self.window:
                self._bid_edge = self.bid_prices[0]
        if len(self.ask_prices) > most:
            for price in self.ask_prices[kept:]:
                del self.asks[price]
            del self.ask_prices[kept:]
            if not self.window:
                self._ask_edge = self.ask_prices[-1]

    @property
    def bid_edge(self) -> float:
        """The lowest price down to which every bid is known."""
        if self.window and len(self.bid_prices) >= self.window:
            return self.bid_prices[0]
        return self._bid_edge

    @property
    def ask_edge(self) -> float:
        """The highest price up to which every ask is known."""
        if self.window and len(self.ask_prices) >= self.window:
            return self.ask_prices[-1]
        return self._ask_edge

    def is_scarce(self, levels: int) -> bool:
        """Whether an edge is at most `levels` levels away from the touch."""
        return (len(self.bid_prices) <= levels and self.bid_edge != NO_BID_EDGE) or (
            len(self.ask_prices) <= levels and self.ask_edge != NO_ASK_EDGE
        )

    @property
    def best_bid(self) -> float | None:
        """None when no bid is known."""
        return self.bid_prices[-1] if self.bid_prices else None

    @property
    def best_ask(self) -> float | None:
        """None when no ask is known."""
        return self.ask_prices[0] if self.ask_prices else None

    @property
    def top(self) -> tuple[float, float, float, float] | None:
        """(best_bid, bid_quantity, best_ask, ask_quantity); None without both sides."""
        if not (self.bid_prices and self.ask_prices):
            return None
        bid, ask = self.bid_prices[-1], self.ask_prices[0]
        return bid, self.bids[bid], ask, self.asks[ask]

    @property
    def spread(self) -> float | None:
        """Best ask minus best bid, quote units."""
        top = self.top
        return None if top is None else top[2] - top[0]

    @property
    def mid_price(self) -> float | None:
        """Half way between the best prices."""
        top = self.top
        return None if top is None else top[0] + (top[2] - top[0]) / 2

    @property
    def spread_bps(self) -> float | None:
        """The spread in basis points of the mid price."""
        top = self.top
        if top is None:
            return None
        return 1e4 * (top[2] - top[0]) / (top[0] + (top[2] - top[0]) / 2)

    def best_bids(self, levels: int) -> Levels:
        """The best `levels` bids, or as many as are known, best first."""
        held = self.bids
        return [(price, held[price]) for price in islice(reversed(self.bid_prices), levels)]

    def best_asks(self, levels: int) -> Levels:
        """The best `levels` asks, or as many as are known, best first."""
        held = self.asks
        return [(price, held[price]) for price in self.ask_prices[:levels]]

    def depth(self, bps: float) -> tuple[float | None, float | None]:
        """The notional (quote units) of bids and of asks within `bps` of the mid price; None for a
        side that is not known so far."""
        mid = self.mid_price
        if mid is None:
            return None, None
        lowest, highest = mid * (1 - bps / 1e4), mid * (1 + bps / 1e4)
        bids = asks = None
        if lowest >= self.bid_edge:
            near = self.bid_prices[bisect_left(self.bid_prices, lowest) :]
            bids = sum(map(mul, near, map(self.bids.__getitem__, near)))
        if highest <= self.ask_edge:
            near = self.ask_prices[: bisect_right(self.ask_prices, highest)]
            asks = sum(map(mul, near, map(self.asks.__getitem__, near)))
        return bids, asks

    def imbalance(self, levels: int) -> float | None:
        """(bids - asks) / (bids + asks) over the quantities of the best `levels` of each side, -1
        to 1; of a shorter side all. None when a side ends at its edge before, or is empty."""
        if self.is_scarce(levels - 1) or self.top is None:
            return None
        bids = sum(map(self.bids.__getitem__, islice(reversed(self.bid_prices), levels)))
        asks = sum(map(self.asks.__getitem__, islice(self.ask_prices, levels)))
        return (bids - asks) / (bids + asks)

    def cost(self, side: Literal["buy", "sell"], quantity: float) -> TradeCost | None:
        """What it costs to trade `quantity` (base units) at once; None when the book is too thin,
        or not known that far. Raises ValueError for a quantity that is not positive."""
        if not 0 < quantity < float("inf"):
            raise ValueError(f"{quantity} is no quantity")
        mid = self.mid_price
        if mid is None:
            return None
        is_buy = side == "buy"
        held = self.asks if is_buy else self.bids
        missing, notional = quantity, 0.0
        for price in self.ask_prices if is_buy else reversed(self.bid_prices):
            taken = min(missing, held[price])
            notional += taken * price
            missing -= taken
            if missing <= 0:
                average = notional / quantity
                paid = average - mid if is_buy else mid - average
                return TradeCost(average, 1e4 * paid / mid)
        return None

    def difference(self, other: OrderBook) -> str:
        """The best level in which two books differ where both are known, "" for none."""
        lowest = max(self.bid_edge, other.bid_edge)
        highest = min(self.ask_edge, other.ask_edge)
        bids = {
            price
            for price, _ in self.bids.items() ^ other.bids.items()
            if price >= lowest
        }  # fmt: skip
        if bids:
            price = max(bids)
            return f"bid {price}: {self.bids.get(price)}, {other.bids.get(price)}"
        asks = {
            price
            for price, _ in self.asks.items() ^ other.asks.items()
            if price <= highest
        }  # fmt: skip
        if asks:
            price = min(asks)
            return f"ask {price}: {self.asks.get(price)}, {other.asks.get(price)}"
        return ""
