"""The only fill logic: what an order gets from a quote, from a book, or from a closed bar. Pure.

Scalar functions that compile. An order is matched by whichever input comes next: `match_quote` by
the best prices, `match_book` by the levels of a live book, `match_bar` by a closed bar. All three
answer with a `Match`, and the caller keeps what it says about the order for the next input.

The rules, the same for all inputs:

- Who takes pays the far side of the book plus slippage, rounded against the trader.
- A limit order that finds a price within its limit when it arrives takes, never beyond the limit.
  From then on it rests, and whatever fills it does so at its limit: who crosses a resting order
  pays the price of that order, however far the market moves on.
- A resting order is served when a quote shows that its price is gone through (then the queue
  before it has been served too), or when a bar trades beyond its limit by one tick. A bar that
  only touches the limit may have left the queue before us unserved: no fill.
- A stop is set off by the price that it would get, the bid for a sell and the ask for a buy, and
  becomes a market or a limit order there and then.
- The order of events inside a bar is unknown but for its open, which comes first. So a stop is
  judged before anything that would favour the trader.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from trading.accounting import notional
from trading.depth import FloatArray, is_beyond, sweep_levels
from trading.orders import MONEY_UNITS, Grid
from trading.slippage import BPS, slipped_ticks
from trading.ticks import adverse_ticks, shown_steps

# The kinds of orders.
MARKET = 0
LIMIT = 1
STOP = 2
STOP_LIMIT = 3
TRAILING_STOP = 4

# What became of an order.
NO_MATCH = 0  # it goes on waiting, perhaps with another watermark
TRIGGERED = 1  # a stop was set off, or a limit order began to rest; nothing was filled
FILLED = 2  # wholly or in part

# How a fill came about, which decides its fee.
NO_LIQUIDITY = 0
MAKER = 1
TAKER = 2


class WorkingOrder(NamedTuple):
    """An order as it waits. 0 stands for "none" in all `_ticks`.

    `side` is 1 (buy) or -1 (sell). A limit order and a stop-limit need `limit_ticks`, a stop and a
    stop-limit `trigger_ticks`. A trailing stop needs `trail_ticks` of at least 1; its
    `trigger_ticks`, if any, is a stop that holds until the trail has passed it, and
    `watermark_ticks` the best price since it was placed. `is_triggered` says that a stop has been
    set off, and of a limit order that it rests: it has met the market once.
    """

    kind: int
    side: int
    remaining_steps: int
    limit_ticks: int
    trigger_ticks: int
    trail_ticks: int
    watermark_ticks: int
    is_triggered: bool


class Touch(NamedTuple):
    """The best prices and what they show, in quote and base units."""

    best_bid: float
    bid_quantity: float
    best_ask: float
    ask_quantity: float


class Match(NamedTuple):
    """What became of an order, and its state for the next input.

    `steps` (unsigned) were filled at `ticks` as `liquidity`. `reference_ticks` is the price before
    slippage: the far touch, for a bar the trigger or the open; for a maker the fill's own. All
    four are 0 without a fill. `watermark_ticks` and `is_triggered` replace the order's.
    """

    action: int
    steps: int
    ticks: int
    liquidity: int
    reference_ticks: int
    watermark_ticks: int
    is_triggered: bool


def market_fill_ticks(
    side: int,
    best_bid: float,
    best_ask: float,
    slippage_bps: float,
    tick_num: int,
    tick_den: int,
) -> int:
    """What a market order gets from a quote, in ticks: the far side of the book plus slippage."""
    price = best_ask if side > 0 else best_bid
    return adverse_ticks(side, price * (1.0 + side * slippage_bps / BPS), tick_num, tick_den)


def is_reachable(order_at_ms: int, latency_ms: int, quote_event_ms: int) -> bool:
    """Whether an order sent at `order_at_ms` may meet a quote: the first one that it can is the
    first whose event time, at the venue, is not before the order's arrival there."""
    return quote_event_ms >= order_at_ms + latency_ms


def meets_minimum(
    steps: int, ticks: int, min_notional: float, is_closing: bool, grid: Grid
) -> bool:
    """Whether an order is worth the venue's minimum of `min_notional` quote units.

    What only closes may be of any size: Binance USD-M refuses smaller orders with code -4164,
    "unless you choose reduce only".
    """
    if is_closing:
        return True
    worth = notional(steps, ticks, grid.unit_num, grid.unit_den)
    return worth >= min_notional * MONEY_UNITS


def trigger_of(order: WorkingOrder, watermark: int) -> int:
    """The price that sets a stop off. That of a trailing stop follows its watermark and, as that
    only moves in the order's favour, never loosens."""
    if order.kind != TRAILING_STOP:
        return order.trigger_ticks
    trailed = watermark + order.side * order.trail_ticks
    if order.trigger_ticks == 0:
        return trailed
    if order.side < 0:
        return max(trailed, order.trigger_ticks)
    return min(trailed, order.trigger_ticks)


def _has_limit(order: WorkingOrder) -> bool:
    return order.kind == LIMIT or order.kind == STOP_LIMIT


def _is_open(order: WorkingOrder) -> bool:
    """Whether the order is one that can be filled: it has steps left and the limit it needs."""
    return order.remaining_steps > 0 and (order.limit_ticks > 0 or not _has_limit(order))


def _followed(order: WorkingOrder, watermark: int, ticks: int) -> int:
    """The watermark once the market was at `ticks`, the price that the order would get: of a
    trailing stop the highest for a sell and the lowest for a buy, of others as it was."""
    if order.kind != TRAILING_STOP or order.is_triggered:
        return watermark
    if watermark == 0:
        return ticks
    if order.side < 0:
        return max(watermark, ticks)
    return min(watermark, ticks)


def _is_live(order: WorkingOrder, watermark: int, ticks: int) -> bool:
    """Whether nothing holds the order back at `ticks`, the price that it would get: it waits for
    no trigger, or this is one (a sell at or below it, a buy at or above)."""
    if order.is_triggered or order.kind == MARKET or order.kind == LIMIT:
        return True
    trigger = trigger_of(order, watermark)
    return trigger > 0 and order.side * (ticks - trigger) >= 0


def _waits(order: WorkingOrder, watermark: int) -> Match:
    return Match(NO_MATCH, 0, 0, NO_LIQUIDITY, 0, watermark, order.is_triggered)


def _rests(order: WorkingOrder) -> Match:
    """The order is in the book from here on, or still is."""
    action = NO_MATCH if order.is_triggered else TRIGGERED
    return Match(action, 0, 0, NO_LIQUIDITY, 0, order.watermark_ticks, True)


def _takes(order: WorkingOrder, steps: int, ticks: int, reference: int, watermark: int) -> Match:
    """A fill from the book; without a step in it, the order only has been set off."""
    if steps <= 0:
        action = NO_MATCH if order.is_triggered else TRIGGERED
        return Match(action, 0, 0, NO_LIQUIDITY, 0, watermark, True)
    return Match(FILLED, steps, ticks, TAKER, reference, watermark, True)


def _is_served(order: WorkingOrder, steps: int) -> Match:
    """A fill of the resting order by whoever crosses it; none without a step."""
    if steps <= 0:
        return _rests(order)
    limit = order.limit_ticks
    return Match(FILLED, steps, limit, MAKER, limit, order.watermark_ticks, True)


def match_quote(order: WorkingOrder, touch: Touch, slippage_bps: float, grid: Grid) -> Match:
    """The order meets a quote.

    Who takes gets all of its steps at the far touch plus slippage. Where that lies beyond the
    order's limit it gets what the touch shows, at the limit, and the rest rests. A resting order
    gets at most what the far touch shows. A quote that is crossed or no price is passed over.
    """
    side = order.side
    if not (_is_open(order) and 0.0 < touch.best_bid <= touch.best_ask < math.inf):
        return _waits(order, order.watermark_ticks)
    price = touch.best_ask if side > 0 else touch.best_bid
    quantity = touch.ask_quantity if side > 0 else touch.bid_quantity
    far = adverse_ticks(side, price, grid.tick_num, grid.tick_den)
    watermark = _followed(order, order.watermark_ticks, far)
    if not _is_live(order, watermark, far):
        return _waits(order, watermark)
    ticks = market_fill_ticks(
        side, touch.best_bid, touch.best_ask, slippage_bps, grid.tick_num, grid.tick_den
    )
    if not _has_limit(order):
        return _takes(order, order.remaining_steps, ticks, far, watermark)
    if is_beyond(side, far, order.limit_ticks):
        return _rests(order)
    shown = min(shown_steps(quantity, grid.step_num, grid.step_den), order.remaining_steps)
    if order.is_triggered:
        return _is_served(order, shown)
    if is_beyond(side, ticks, order.limit_ticks):
        return _takes(order, shown, order.limit_ticks, far, watermark)
    return _takes(order, order.remaining_steps, ticks, far, watermark)


def match_book(
    order: WorkingOrder, prices: FloatArray, quantities: FloatArray, bound_bps: float, grid: Grid
) -> Match:
    """The order meets the levels, float64 arrays of N, best first, of the side that it hits: the
    asks of a buy, the bids of a sell.

    Who takes walks the levels up to its limit, and never further from the touch than `bound_bps`;
    what the book does not hold stays open. A resting order gets at most what the levels within its
    limit hold. A book without levels is passed over.
    """
    side, wanted = order.side, order.remaining_steps
    far = sweep_levels(side, 0, prices, quantities, 0, grid).touch_ticks
    if far == 0 or not _is_open(order):
        return _waits(order, order.watermark_ticks)
    watermark = _followed(order, order.watermark_ticks, far)
    if not _is_live(order, watermark, far):
        return _waits(order, watermark)
    # Towards the touch, so that no level beyond the bound is within it.
    bound = adverse_ticks(-side, far * (1.0 + side * bound_bps / BPS), 1, 1)
    if _has_limit(order):
        if order.is_triggered:
            held = sweep_levels(side, wanted, prices, quantities, order.limit_ticks, grid)
            return _is_served(order, held.steps)
        if is_beyond(side, bound, order.limit_ticks):
            bound = order.limit_ticks
    sweep = sweep_levels(side, wanted, prices, quantities, bound, grid)
    return _takes(order, sweep.steps, sweep.ticks, far, watermark)


def match_bar(
    order: WorkingOrder,
    open_price: float,
    high: float,
    low: float,
    slippage_bps: float,
    grid: Grid,
) -> Match:
    """The order meets a closed bar whose high and low are true; it was placed by the bar's open.

    What takes does so at the open, or at its trigger where the bar reaches that later, plus
    slippage, and in full: a bar shows no quantities. A stop that is set off beyond its limit rests
    from the next bar on. A trailing stop is judged by the watermark up to the open; the rest of the
    bar moves it for the next one. A bar that is none (low > open, NaN) is passed over.
    """
    side = order.side
    if not (_is_open(order) and 0.0 < low <= open_price <= high < math.inf):
        return _waits(order, order.watermark_ticks)
    opened = adverse_ticks(side, open_price, grid.tick_num, grid.tick_den)
    worst = adverse_ticks(side, high if side > 0 else low, grid.tick_num, grid.tick_den)
    best = adverse_ticks(side, low if side > 0 else high, grid.tick_num, grid.tick_den)
    watermark = _followed(order, order.watermark_ticks, opened)
    if not _is_live(order, watermark, worst):
        return _waits(order, _followed(order, watermark, best))
    start = opened
    if not _is_live(order, watermark, opened):
        start = trigger_of(order, watermark)
    ticks = slipped_ticks(side, start, slippage_bps)
    if not _has_limit(order):
        return _takes(order, order.remaining_steps, ticks, start, watermark)
    if not order.is_triggered and not is_beyond(side, ticks, order.limit_ticks):
        return _takes(order, order.remaining_steps, ticks, start, watermark)
    rests_from_open = order.kind == LIMIT or order.is_triggered
    if rests_from_open and side * (best - order.limit_ticks) < 0:
        return _is_served(order, order.remaining_steps)
    return _rests(order)
