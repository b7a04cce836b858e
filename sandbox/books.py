"""One order book at one exchange, a function of its price and step number. Pure.

A book moves in steps. A step is a moment, a best bid and a best ask around the path's price; all
deeper levels follow from the step by addressed noise, so that the best quote alone costs next to
nothing and equals the top of the full book at the same update id. Levels stand on a grid of about
0.8 basis points; each changes its size about every sixteenth step; some grid places are empty.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sandbox.instruments import Listing
from sandbox.noise import mix, mix_many, uniform_many
from sandbox.path import PricePath

LEVELS = 240
FIRST_UPDATE = 1_000_000
UPDATES_PER_STEP = 64
EMPTY_SHARE = 0.12

# Update ids are shared between symbols, so a diff's first id lies up to this far behind the last
# id of the diff before it, and a snapshot's id lies between two diffs.
MOST_ID_GAP = 16

Levels = list[tuple[int, int]]


class Top(NamedTuple):
    """Best quotes: prices in ticks, sizes in quantity steps."""

    bid: int
    bid_size: int
    ask: int
    ask_size: int


class Book:
    """The book of one instrument at one exchange.

    `streamed` is set while the streams move the book: it must then not be advanced elsewhere, or
    their subscribers would miss a step.
    """

    def __init__(self, listing: Listing, path: PricePath, key: int) -> None:
        self.streamed = False
        self.step = 0
        self.at_ms = 0
        self.top = Top(0, 0, 0, 0)
        self._listing = listing
        self._path = path
        self._keys = {"bid": mix(key, 1), "ask": mix(key, 2)}
        self._spread_key = mix(key, 3)
        self._levels: tuple[int, Levels, Levels] = (-1, [], [])
        self._lot_usd = listing.turnover / 3e4
        self._grid = 1

    @property
    def update_id(self) -> int:
        """The id of the last update; rises by about 64 with each step, as busy venues do."""
        return FIRST_UPDATE + self.step * UPDATES_PER_STEP + mix(self._spread_key, self.step) % 32

    def advance(self, now_ms: int, basis_bps: float) -> None:
        """Move the book to a moment; raises ValueError before the listing."""
        price = self._path.price_at(now_ms)
        if price is None:
            raise ValueError("the book of an instrument that is not listed yet")
        self.step += 1
        self.at_ms = now_ms
        middle = price * (1 + basis_bps / 10_000)
        draw = mix(self._spread_key, self.step // 8) % 1024 / 1024
        spread = max(1, round(price * self._listing.spread_bps / 10_000 * (0.6 + 0.9 * draw)))
        bid = max(2, int(middle - (spread - 1) / 2))
        ask = bid + spread
        self._grid = _grid(price)
        self.top = Top(bid, self._size("bid", bid), ask, self._size("ask", ask))

    def levels(self) -> tuple[Levels, Levels]:
        """Bids (falling) and asks (rising) of the present step, about 210 each."""
        if self._levels[0] != self.step:
            grid, top = self._grid, self.top
            below = (top.bid - 1) // grid * grid - np.arange(LEVELS, dtype=np.int64) * grid
            above = (top.ask // grid + 1) * grid + np.arange(LEVELS, dtype=np.int64) * grid
            bids = self._side("bid", below[below > 0])
            asks = self._side("ask", above)
            bids.insert(0, (top.bid, top.bid_size))
            asks.insert(0, (top.ask, top.ask_size))
            self._levels = (self.step, bids, asks)
        return self._levels[1], self._levels[2]

    def _side(self, side: str, prices: NDArray[np.int64]) -> Levels:
        bits = mix_many(self._keys[side], prices)
        draws = uniform_many(bits, self._epochs(bits))
        taken = draws >= EMPTY_SHARE
        depth = 1.0 + np.minimum(np.arange(len(prices)) / 12, 6.0)
        sizes = np.maximum(self._lots(prices.astype(np.float64)) * draws * depth, 1.0)
        kept = zip(prices[taken].tolist(), sizes[taken].astype(np.int64).tolist(), strict=True)
        return list(kept)

    def _size(self, side: str, price: int) -> int:
        """The size of a best quote in quantity steps."""
        draw = mix(mix(self._keys[side], price), self.step // 3) % 4096 / 4096
        return max(1, int(float(self._lots(np.float64(price))) * (0.1 + draw)))

    def _lots(self, prices: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
        """The usual size at a price, in quantity steps."""
        steps = 10.0**self._listing.step_decimals
        return np.asarray(self._lot_usd * steps / (prices * self._path.tick))

    def _epochs(self, bits: NDArray[np.uint64]) -> NDArray[np.int64]:
        phase = (bits & np.uint64(15)).astype(np.int64)
        return (self.step + phase) >> 4


def changes(before: Levels, after: Levels) -> Levels:
    """What turns one side of a book into another: new sizes, and zero for levels that went."""
    old = dict(before)
    new = dict(after)
    moved = [level for level in after if old.get(level[0]) != level[1]]
    moved.extend((price, 0) for price in old if price not in new)
    return moved


def _grid(price: float) -> int:
    """The distance of levels in ticks: 1, 2 or 5 times a power of ten, about 0.8 bps."""
    wanted = max(1.0, price * 0.00008)
    power: int = 10 ** math.floor(math.log10(wanted))
    for factor in (1, 2, 5, 10):
        if factor * power >= wanted:
            return factor * power
    return 10 * power
