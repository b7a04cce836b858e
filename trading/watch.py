"""Which quotes working orders wait for: one look per quote, in whatever process sees it. Pure.

A quote is looked at where it arrives, thousands of times a second, and next to none of them
matters. So the table keeps for each symbol the zone of prices in which no order has anything to
do, and a quote inside costs one look-up and four comparisons. It says what
`trading.simulator.match_quote` would say: `tests/trading/test_watch.py` demands that nothing that
would change an order is passed over.

Every new best price of a trailing stop changes its trigger, but nobody has to know of it at once:
the table follows it by itself, and hands over the best quote together with the one that sets the
stop off, or with the next replacement of its rows.

The rows come from elsewhere (`offer`, from any thread); everything else is called by one thread.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain
from typing import NamedTuple

from collectors.marketdata import Quote, to_ms
from trading.simulator import (
    LIMIT,
    STOP,
    STOP_LIMIT,
    TRAILING_STOP,
    WorkingOrder,
    trigger_of,
)
from trading.ticks import ON_GRID, adverse_ticks

SymbolKey = tuple[str, str]  # exchange, symbol
# Quotes that are kept for orders not known yet: more than come between two readings of the rows.
MOST_SEEN = 50_000


class Watched(NamedTuple):
    """A working order, its tick in quote units, and the event time (ms) of the first quote that it
    can meet."""

    order_id: int
    exchange: str
    symbol: str
    order: WorkingOrder
    tick_num: int
    tick_den: int
    reachable_ms: int


class Told(NamedTuple):
    """Quotes of a symbol that change something, oldest first."""

    exchange: str
    symbol: str
    quotes: tuple[Quote, ...]


class _Level(NamedTuple):
    price: float
    order_id: int
    reachable_ms: int


class _Trail:
    """A trailing stop, whose level follows the best price since it was placed."""

    __slots__ = ("best", "kept_back", "level", "watched", "watermark")

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.kept_back: Quote | None = None  # what moved it last, if nobody was told yet
        self.follow(watched.order.watermark_ticks)

    def follow(self, watermark: int) -> None:
        """The watermark is at this tick from now on. `level` sets the stop off (a bid below it, an
        ask above), `best` is the next watermark (a bid from there, an ask down to there)."""
        order, tick = self.watched.order, self.watched.tick_num / self.watched.tick_den
        self.watermark = watermark
        if watermark == 0:  # whatever comes is the first price
            self.level = self.best = order.side * math.inf
        else:
            self.level = _stop_level(order.side, trigger_of(order, watermark), tick)
            self.best = _stop_level(order.side, watermark, tick)

    def is_better(self, watermark: int) -> bool:
        """Whether this watermark is nearer to what the trader wants than the present one."""
        if watermark == 0 or self.watermark == 0:
            return watermark != 0
        return self.watched.order.side * (watermark - self.watermark) < 0

    def meet(self, price: float) -> bool:
        """Move the watermark; whether it did."""
        order = self.watched.order
        if order.side * (price - self.best) > 0.0:
            return False
        far = adverse_ticks(order.side, price, self.watched.tick_num, self.watched.tick_den)
        if not self.is_better(far):
            return False
        self.follow(far)
        return True


def _stop_level(side: int, ticks: int, tick: float) -> float:
    """Beyond this price (a bid below it, an ask above) an order gets `ticks` or worse: what it gets
    is rounded against it."""
    return (ticks - side * (1.0 - ON_GRID)) * tick


def _limit_level(side: int, ticks: int, tick: float) -> float:
    """From this price on (a bid at it or above, an ask at it or below) an order gets `ticks`."""
    return (ticks + side * ON_GRID) * tick


class _Symbol:
    """The orders of one symbol. Each list ends with the level that is reached first."""

    def __init__(self) -> None:
        self.bid_falls: list[_Level] = []  # sell stops: a bid below the level
        self.bid_rises: list[_Level] = []  # sell limits: a bid at it or above
        self.ask_rises: list[_Level] = []  # buy stops: an ask above
        self.ask_falls: list[_Level] = []  # buy limits: an ask at it or below
        self.trails: list[_Trail] = []
        self.bid_floor = self.ask_floor = -math.inf
        self.bid_ceiling = self.ask_ceiling = math.inf

    def add(self, watched: Watched) -> None:
        """Wait for what this order waits for."""
        order, tick = watched.order, watched.tick_num / watched.tick_den
        side = order.side
        if order.kind == TRAILING_STOP and not order.is_triggered:
            self.trails.append(_Trail(watched))
            return
        if order.kind in (STOP, STOP_LIMIT) and not order.is_triggered:
            levels = self.bid_falls if side < 0 else self.ask_rises
            price = _stop_level(side, order.trigger_ticks, tick)
        else:
            levels = self.bid_rises if side < 0 else self.ask_falls
            rests = order.kind in (LIMIT, STOP_LIMIT) and order.is_triggered
            # What neither rests nor waits for a trigger meets the next quote, whatever it is.
            price = _limit_level(side, order.limit_ticks, tick) if rests else side * math.inf
        levels.append(_Level(price, watched.order_id, watched.reachable_ms))

    def order_ids(self) -> set[int]:
        """The orders that wait here."""
        levels = chain(self.bid_falls, self.bid_rises, self.ask_rises, self.ask_falls)
        return {level.order_id for level in levels} | {
            trail.watched.order_id for trail in self.trails
        }

    def take_out(self, order_ids: Collection[int]) -> None:
        """Wait for these orders no longer."""
        for levels in (self.bid_falls, self.bid_rises, self.ask_rises, self.ask_falls):
            levels[:] = [level for level in levels if level.order_id not in order_ids]
        self.trails = [each for each in self.trails if each.watched.order_id not in order_ids]
        self.settle()

    def arrange(self) -> None:
        """Sort the levels and find the quiet zone, once all orders are added."""
        for levels in (self.bid_falls, self.ask_falls):
            levels.sort()
        for levels in (self.bid_rises, self.ask_rises):
            levels.sort(reverse=True)
        self.settle()

    def settle(self) -> None:
        """Find the quiet zone: floor <= bid < ceiling and floor < ask <= ceiling."""
        self.bid_floor = self.bid_falls[-1].price if self.bid_falls else -math.inf
        self.bid_ceiling = self.bid_rises[-1].price if self.bid_rises else math.inf
        self.ask_floor = self.ask_falls[-1].price if self.ask_falls else -math.inf
        self.ask_ceiling = self.ask_rises[-1].price if self.ask_rises else math.inf
        for trail in self.trails:
            if trail.watched.order.side < 0:
                self.bid_floor = max(self.bid_floor, trail.level)
                self.bid_ceiling = min(self.bid_ceiling, trail.best)
            else:
                self.ask_ceiling = min(self.ask_ceiling, trail.level)
                self.ask_floor = max(self.ask_floor, trail.best)

    def go_on(self, marks: Mapping[int, int]) -> None:
        """Let trails stand where quotes have brought them: watermarks by order, in ticks."""
        for trail in self.trails:
            watermark = marks.get(trail.watched.order_id, 0)
            if trail.is_better(watermark):
                trail.follow(watermark)
        self.settle()

    def meet(self, quote: Quote) -> tuple[Quote, ...]:
        """Take out the orders that the quote reaches and move the trails; the quotes that somebody
        has to be told of, oldest first."""
        bid, ask = quote.best_bid, quote.best_ask
        if not 0.0 < bid <= ask < math.inf:
            return ()
        at_ms = to_ms(quote.event_time)
        reached = _take(self.bid_falls, at_ms, lambda level: bid < level)
        reached += _take(self.bid_rises, at_ms, lambda level: bid >= level)
        reached += _take(self.ask_rises, at_ms, lambda level: ask > level)
        reached += _take(self.ask_falls, at_ms, lambda level: ask <= level)
        trails, gone = self.trails, []
        for trail in trails:
            if trail.watched.reachable_ms > at_ms:
                continue
            side = trail.watched.order.side
            price = bid if side < 0 else ask
            if trail.meet(price):
                trail.kept_back = quote
            if side * (price - trail.level) > 0.0:
                gone.append(trail)
        if gone:
            self.trails = [trail for trail in trails if trail not in gone]
        self.settle()
        if not reached and not gone:
            return ()
        return (*(each for each in _kept_back(trails) if each is not quote), quote)


def _kept_back(trails: Iterable[_Trail]) -> list[Quote]:
    """The quotes that moved these trails last and that nobody was told of, oldest first; from now
    on somebody was."""
    found: dict[int, Quote] = {}
    for trail in trails:
        if trail.kept_back is not None:
            found[id(trail.kept_back)] = trail.kept_back
            trail.kept_back = None
    return sorted(found.values(), key=lambda quote: quote.event_time)


def _take(levels: list[_Level], at_ms: int, is_reached: Callable[[float], bool]) -> int:
    """Take the reached levels from the end of the list; how many. Those that cannot meet a quote of
    that event time yet stay."""
    early: list[_Level] = []
    taken = 0
    while levels and is_reached(levels[-1].price):
        level = levels.pop()
        if level.reachable_ms > at_ms:
            early.append(level)
        else:
            taken += 1
    levels.extend(reversed(early))
    return taken


class WatchTable:
    """The working orders of all symbols. `offer` may be called from any thread, `look` from one.

    An order that was reached is out of the table until the rows are offered again: whoever was told
    has a moment to work on it, and is told again if it still works then.
    """

    def __init__(self) -> None:
        self._symbols: dict[SymbolKey, _Symbol] = {}
        self._offered: _Offered | None = None
        self._known: frozenset[int] = frozenset()
        # What came since the rows were adopted, and between the two adoptions before: an order may
        # have come after the rows were read, and before they were adopted.
        self._seen: deque[Quote] = deque(maxlen=MOST_SEEN)
        self._seen_before: deque[Quote] = deque(maxlen=MOST_SEEN)

    def offer(self, orders: Iterable[Watched]) -> None:
        """All working orders as they are now; the next look begins with them."""
        rows = list(orders)
        new = [watched for watched in rows if watched.order_id not in self._known]
        ids = frozenset(watched.order_id for watched in rows)
        self._offered = _Offered(_arranged(rows), _arranged(new), ids)

    def look(self, quote: Quote) -> list[Told] | None:
        """What the quote changes, and the best quotes of trailing stops that were kept back until
        now; None for nothing."""
        told = None if self._offered is None else self._adopt()
        self._seen.append(quote)
        symbol = self._symbols.get((quote.exchange, quote.symbol))
        if symbol is None:
            return told
        if (
            symbol.bid_floor <= quote.best_bid < symbol.bid_ceiling
            and symbol.ask_floor < quote.best_ask <= symbol.ask_ceiling
        ):
            return told
        quotes = symbol.meet(quote)
        if not quotes:
            return told
        return [*(told or ()), Told(quote.exchange, quote.symbol, quotes)]

    def _adopt(self) -> list[Told] | None:
        """Begin with the rows that were offered; trails stay where the quotes have brought them,
        and new orders meet what came since the rows before."""
        before, offered = self._symbols, self._offered
        if offered is None:
            return None
        self._symbols, self._known, self._offered = offered.symbols, offered.ids, None
        told = self._meet_seen(offered.new)
        for key, symbol in before.items():
            quotes = _kept_back(symbol.trails)
            if quotes:
                told.append(Told(*key, tuple(quotes)))
            self._go_on(key, symbol)
        return told or None

    def _meet_seen(self, new: Mapping[SymbolKey, _Symbol]) -> list[Told]:
        """Let orders that nobody knew of meet the quotes that came while nobody did."""
        told = []
        waiting = {key: symbol.order_ids() for key, symbol in new.items()}
        for quote in chain(self._seen_before, self._seen) if new else ():
            symbol = new.get((quote.exchange, quote.symbol))
            quotes = () if symbol is None else symbol.meet(quote)
            if quotes:
                told.append(Told(quote.exchange, quote.symbol, quotes))
        self._seen_before, self._seen = self._seen, self._seen_before
        self._seen.clear()
        for key, symbol in new.items():
            quotes = tuple(_kept_back(symbol.trails))
            if quotes:
                told.append(Told(*key, quotes))
            self._go_on(key, symbol)
            reached = waiting[key] - symbol.order_ids()
            if reached and key in self._symbols:
                self._symbols[key].take_out(reached)
        return told

    def _go_on(self, key: SymbolKey, before: _Symbol) -> None:
        marks = {trail.watched.order_id: trail.watermark for trail in before.trails}
        after = self._symbols.get(key)
        if marks and after is not None:
            after.go_on(marks)


class _Offered(NamedTuple):
    """All working orders by symbol, and apart from them those that were not in the rows before."""

    symbols: dict[SymbolKey, _Symbol]
    new: dict[SymbolKey, _Symbol]
    ids: frozenset[int]


def _arranged(orders: Iterable[Watched]) -> dict[SymbolKey, _Symbol]:
    symbols: dict[SymbolKey, _Symbol] = {}
    for watched in orders:
        symbols.setdefault((watched.exchange, watched.symbol), _Symbol()).add(watched)
    for symbol in symbols.values():
        symbol.arrange()
    return symbols
