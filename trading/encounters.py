"""What an order can meet: a quote, a live book, a closed bar; and what a fill says of it. Pure.

The record of a fill holds every input of its match, so `match_again` gives the same match from it,
bit for bit: the order as it was, the prices or the levels that it walked, and the slippage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from collectors.livebook import Levels
from collectors.marketdata import Quote, to_ms
from trading.orders import SLIPPAGE_BPS, Grid
from trading.protection import NOBODY, first_fill
from trading.simulator import (
    FILLED,
    LIMIT,
    STOP_LIMIT,
    TAKER,
    Match,
    Touch,
    WorkingOrder,
    match_bar,
    match_book,
    match_quote,
)
from trading.slippage import MARKET_BOUND_BPS, expected_slippage_bps
from trading.ticks import shown_steps


@dataclass(frozen=True, kw_only=True)
class QuoteMet:
    """A quote, and what is known of the market behind it (NaN is unknown): the volatility of 24
    hours, a fraction, and the quote units traded in them."""

    quote: Quote
    volatility: float = math.nan
    day_volume: float = math.nan

    @property
    def trigger(self) -> str:
        """Names the quote: an order meets it once."""
        return f"quote:{to_ms(self.quote.event_time)}:{self.quote.sequence}"

    @property
    def at(self) -> datetime:
        """The market time of the quote."""
        return self.quote.event_time

    @property
    def since(self) -> datetime:
        """The same."""
        return self.quote.event_time

    def slippage_bps(self, order: WorkingOrder, grid: Grid) -> float:
        """What the order would pay beyond the best price."""
        price = self.quote.best_ask if order.side > 0 else self.quote.best_bid
        wanted = grid.quantity(order.remaining_steps) * price
        return expected_slippage_bps(SLIPPAGE_BPS, self.volatility, wanted, self.day_volume)

    def match(self, order: WorkingOrder, grid: Grid) -> Match:
        """What the order gets from the quote."""
        return match_quote(order, _touch(self.quote), self.slippage_bps(order, grid), grid)

    def first(
        self, orders: Sequence[WorkingOrder], grids: Sequence[Grid]
    ) -> tuple[int, Match] | None:
        """The first of the orders that is filled, and its fill."""
        return _first(self, orders, grids)

    def record(self, order: WorkingOrder, grid: Grid) -> dict[str, Any]:
        """The inputs of the match, for a JSON column."""
        return {
            **recorded_quote(self.quote),
            "slippage_bps": self.slippage_bps(order, grid),
            "order": order._asdict(),
        }


@dataclass(frozen=True, kw_only=True)
class BookMet:
    """A live book: the quote at its top, and its levels as (price, quantity), best first.

    `seen` is a quote from just before it that somebody saw: that sets stops off and serves what
    rests, and what takes then walks the levels.
    """

    quote: Quote
    bids: Levels
    asks: Levels
    bound_bps: float = MARKET_BOUND_BPS
    seen: Quote | None = None

    @property
    def trigger(self) -> str:
        """Names what is met: an order meets it once."""
        if self.seen is not None:
            return f"quote:{to_ms(self.seen.event_time)}:{self.seen.sequence}"
        return f"book:{to_ms(self.quote.event_time)}:{self.quote.sequence}"

    @property
    def at(self) -> datetime:
        """The market time of the book."""
        return self.quote.event_time

    @property
    def since(self) -> datetime:
        """The market time of the first of it."""
        return self.quote.event_time if self.seen is None else self.seen.event_time

    def match(self, order: WorkingOrder, grid: Grid) -> Match:
        """What the order gets."""
        if self.seen is not None:
            match = match_quote(order, _touch(self.seen), 0.0, grid)
            if match.action != FILLED or match.liquidity != TAKER:
                return match
            order = self._set_off(order, match)
        return _match_levels(order, self._levels(order), self.bound_bps, grid)

    def first(
        self, orders: Sequence[WorkingOrder], grids: Sequence[Grid]
    ) -> tuple[int, Match] | None:
        """The first of the orders that is filled, and its fill."""
        return _first(self, orders, grids)

    def record(self, order: WorkingOrder, grid: Grid) -> dict[str, Any]:
        """The inputs of the match, for a JSON column: of the levels those that it walked, and the
        order as it walked them."""
        if self.seen is not None:
            match = match_quote(order, _touch(self.seen), 0.0, grid)
            if match.liquidity != TAKER:
                return QuoteMet(quote=self.seen).record(order, grid)
            order = self._set_off(order, match)
        walked, shown = 0, 0
        levels = self._levels(order)
        while walked < len(levels) and shown < max(order.remaining_steps, 1):
            shown += shown_steps(levels[walked][1], grid.step_num, grid.step_den)
            walked += 1
        return {
            **recorded_quote(self.quote),
            "levels": [list(level) for level in levels[:walked]],
            "bound_bps": self.bound_bps,
            "order": order._asdict(),
            **({} if self.seen is None else {"set_off_by": recorded_quote(self.seen)}),
        }

    def _set_off(self, order: WorkingOrder, match: Match) -> WorkingOrder:
        if order.kind in (LIMIT, STOP_LIMIT):
            # It takes, up to its limit; what rests was served by the quote.
            return order._replace(kind=LIMIT, is_triggered=False)
        return order._replace(is_triggered=True, watermark_ticks=match.watermark_ticks)

    def _levels(self, order: WorkingOrder) -> Levels:
        return self.asks if order.side > 0 else self.bids


@dataclass(frozen=True, kw_only=True)
class BarMet:
    """A closed bar whose high and low are true, and what was known of the market at its open (NaN
    is unknown): the volatility of 24 hours, a fraction, and the quote units traded in them."""

    open_time: datetime
    close_time: datetime
    open: float
    high: float
    low: float
    close: float
    source: str
    volatility: float = math.nan
    day_volume: float = math.nan

    @property
    def trigger(self) -> str:
        """Names the bar: an order meets it once."""
        return f"candle:{to_ms(self.open_time)}"

    @property
    def at(self) -> datetime:
        """When the bar was known."""
        return self.close_time

    @property
    def is_sound(self) -> bool:
        """False for prices that no bar can have."""
        return 0.0 < self.low <= self.open <= self.high < math.inf

    def slippage_bps(self, order: WorkingOrder, grid: Grid) -> float:
        """What the order would pay beyond the price that was there."""
        wanted = grid.quantity(order.remaining_steps) * self.open
        return expected_slippage_bps(SLIPPAGE_BPS, self.volatility, wanted, self.day_volume)

    def match(self, order: WorkingOrder, grid: Grid) -> Match:
        """What the order gets from the bar, alone."""
        bps = self.slippage_bps(order, grid)
        return match_bar(order, self.open, self.high, self.low, bps, grid)

    def first(
        self, orders: Sequence[WorkingOrder], grids: Sequence[Grid]
    ) -> tuple[int, Match] | None:
        """The first of the orders that is filled, at the open or else inside, and its fill."""
        slippages = [
            self.slippage_bps(order, grid) for order, grid in zip(orders, grids, strict=True)
        ]
        place, match = first_fill(orders, grids, self.open, self.high, self.low, slippages)
        return None if place == NOBODY else (place, match)

    def record(self, order: WorkingOrder, grid: Grid) -> dict[str, Any]:
        """The inputs of the match, for a JSON column."""
        return {
            "candle": {
                "open_time": self.open_time.isoformat(),
                "open": self.open,
                "high": self.high,
                "low": self.low,
                "close": self.close,
                "source": self.source,
            },
            "slippage_bps": self.slippage_bps(order, grid),
            "order": order._asdict(),
        }


Encounter = QuoteMet | BookMet | BarMet


def recorded_quote(quote: Quote) -> dict[str, Any]:
    """A quote for a JSON column."""
    return {
        "exchange": quote.exchange,
        "symbol": quote.symbol,
        "best_bid": quote.best_bid,
        "bid_quantity": quote.bid_quantity,
        "best_ask": quote.best_ask,
        "ask_quantity": quote.ask_quantity,
        "event_time": quote.event_time.isoformat(),
        "received_at": quote.received_at.isoformat(),
        "sequence": quote.sequence,
    }


def match_again(record: Mapping[str, Any], grid: Grid) -> Match:
    """The match that a fill was booked from, made again from its record.

    Raises KeyError for a record that is none.
    """
    order = WorkingOrder(**record["order"])
    if "candle" in record:
        bar = record["candle"]
        _, match = first_fill(
            (order,), (grid,), bar["open"], bar["high"], bar["low"], (record["slippage_bps"],)
        )
        return match
    if "levels" in record:
        return _match_levels(order, record["levels"], record["bound_bps"], grid)
    touch = Touch(
        record["best_bid"], record["bid_quantity"], record["best_ask"], record["ask_quantity"]
    )
    return match_quote(order, touch, record["slippage_bps"], grid)


def _touch(quote: Quote) -> Touch:
    return Touch(quote.best_bid, quote.bid_quantity, quote.best_ask, quote.ask_quantity)


def _match_levels(
    order: WorkingOrder, levels: Sequence[Sequence[float]], bound_bps: float, grid: Grid
) -> Match:
    sides = np.array(levels, dtype=np.float64).reshape(-1, 2)
    return match_book(order, sides[:, 0], sides[:, 1], bound_bps, grid)


def _first(
    met: QuoteMet | BookMet, orders: Sequence[WorkingOrder], grids: Sequence[Grid]
) -> tuple[int, Match] | None:
    for place, order in enumerate(orders):
        match = met.match(order, grids[place])
        if match.action == FILLED:
            return place, match
    return None
