"""Generated order-book traffic of the recorded shapes, the same for every run of one seed.

A book of integer ticks lives around a mid price that wanders. Each message changes some levels,
most of them near the touch: 7 of 10 changes give a new quantity, the others add or remove a level.
"""

from __future__ import annotations

import json
import random
from typing import NamedTuple

SEED = 20
CHANGED, ADDED = 0.70, 0.85  # shares of the changes, cumulated; the rest removes a level
NEAR = 0.12  # changes fall off by this rate with the level's rank
Ticks = dict[int, str]  # quantity, as the venue writes it, by price in ticks


class Traffic(NamedTuple):
    """A venue's messages as they arrive; `start` is the book that they go on from, as
    [[price, quantity], ...] of both sides, best first."""

    messages: list[bytes]
    start: tuple[list[list[str]], list[list[str]]]
    sequence: int


class Market:
    """The truth behind the messages: `levels` a side, quantities with so many decimals."""

    def __init__(self, levels: int, decimals: int, mid: int = 6_500_000) -> None:
        self.random = random.Random(SEED)
        self.levels, self.decimals = levels, decimals
        self.bids, self.asks = self._side(mid, -1), self._side(mid, 1)

    def _side(self, mid: int, step: int) -> Ticks:
        side: Ticks = {}
        price = mid
        while len(side) < self.levels:
            price += step * self.random.randint(1, 3)
            side[price] = self._quantity()
        return side

    def _quantity(self) -> str:
        return f"{self.random.expovariate(0.8) + 0.001:.{self.decimals}f}"

    def change(self, most: int) -> tuple[Ticks, Ticks]:
        """Change up to `most` levels of each side; what has changed."""
        bids = self._change_side(self.bids, most, step=-1, limit=min(self.asks))
        asks = self._change_side(self.asks, most, step=1, limit=max(self.bids))
        return bids, asks

    def _change_side(self, side: Ticks, most: int, *, step: int, limit: int) -> Ticks:
        ranked = sorted(side, reverse=step < 0)
        changed: Ticks = {}
        for _ in range(self.random.randint(1, most)):
            price = ranked[min(int(self.random.expovariate(NEAR)), len(ranked) - 1)]
            kind = self.random.random()
            if price not in side:
                continue
            if kind < CHANGED or (kind >= ADDED and len(side) <= self.levels // 2):
                side[price] = changed[price] = self._quantity()
            elif kind < ADDED:
                self._add(side, changed, price - step * self.random.randint(1, 3), step, limit)
            else:
                del side[price]
                changed[price] = "0"
                far = ranked[-1] + step * self.random.randint(1, 3)
                if far not in side:
                    side[far] = changed[far] = self._quantity()
                    ranked.append(far)
        return changed

    def _add(self, side: Ticks, changed: Ticks, price: int, step: int, limit: int) -> None:
        """A new level, unless it would be there already or cross; the farthest one makes room."""
        if price in side or (price - limit) * step <= 0:
            return
        side[price] = changed[price] = self._quantity()
        far = max(side) if step > 0 else min(side)
        if len(side) > self.levels:
            del side[far]
            changed[far] = "0"


def binance_depth(count: int, *, is_spot: bool, levels: int = 500) -> Traffic:
    """`<symbol>@depth@100ms` in the combined stream's wrapper, about 830 bytes each: spot with
    eight decimals, USD-M with fewer, `T` and `pu`."""
    decimals = 8 if is_spot else 2
    market = Market(levels, decimals=8 if is_spot else 3)
    start = _rows(market.bids, -1, decimals), _rows(market.asks, 1, decimals)
    zero = f"{0:.{market.decimals}f}"
    first = last = 10_000_000
    messages = []
    for number in range(count):
        bids, asks = market.change(24 if is_spot else 37)
        previous, last = last, last + market.random.randint(5, 60)
        at = 1_700_000_000_000 + 100 * number
        event = {"e": "depthUpdate", "E": at, "s": "BTCUSDT", "U": previous + 1, "u": last}
        if not is_spot:
            event |= {"T": at - 3, "pu": previous}
        event |= {"b": _rows(bids, -1, decimals, zero), "a": _rows(asks, 1, decimals, zero)}
        messages.append(_dump({"stream": "btcusdt@depth@100ms", "data": event}))
    # On USD-M the first diff to apply has the snapshot's id within, on spot it begins after it.
    return Traffic(messages, start, first if is_spot else first + 1)


def bybit_orderbook(count: int, levels: int = 50) -> Traffic:
    """`orderbook.50.<symbol>`: a snapshot first, then deltas of about 345 bytes each."""
    market = Market(levels, decimals=3)
    start = _rows(market.bids, -1, 2), _rows(market.asks, 1, 2)
    u, seq = 18_521_288, 7_961_638_724
    messages = []
    for number in range(count):
        at = 1_700_000_000_000 + 20 * number
        if number == 0:
            kind, (bids, asks) = "snapshot", start
        else:
            changed = market.change(9)
            kind, bids, asks = "delta", _rows(changed[0], -1, 2), _rows(changed[1], 1, 2)
        u, seq = u + 1, seq + market.random.randint(1, 400)
        data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": u, "seq": seq}
        message = {"topic": f"orderbook.{levels}.BTCUSDT", "type": kind, "ts": at, "data": data}
        messages.append(_dump({**message, "cts": at - 2}))
    return Traffic(messages, start, u)


def _rows(side: Ticks, step: int, decimals: int, zero: str = "0") -> list[list[str]]:
    fill = "0" * (decimals - 2)
    return [
        [f"{price // 100}.{price % 100:02d}{fill}", zero if side[price] == "0" else side[price]]
        for price in sorted(side, reverse=step < 0)
    ]


def _dump(message: object) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
