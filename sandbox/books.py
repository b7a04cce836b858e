"""One order book at one exchange, moved in steps around the price of a path. Pure.

A step is a moment with a best bid and a best ask around the path's price. Deeper levels stand on
a grid of about 0.8 basis points; each changes its size at every 24th step and some places are
empty. A step touches only what changed, and the deeper levels wait until somebody asks for
them, so the best quote alone costs next to nothing.
"""

import math
from bisect import bisect_left, insort
from typing import NamedTuple

from sandbox.instruments import Listing
from sandbox.noise import mix, uniform
from sandbox.path import PricePath

LEVELS = 240
FIRST_UPDATE = 1_000_000
UPDATES_PER_STEP = 64
EMPTY_SHARE = 0.12
REFRESH_STEPS = 24
SIZES = 1024

# Update ids are shared between symbols, so a diff's first id lies up to this far behind the last
# id of the diff before it, and a snapshot's id lies between two diffs.
MOST_ID_GAP = 16
# How far the ids jump when an exchange starts anew.
RESTART_JUMP = 50_000_000
# How far a snapshot lies back that no stream goes on from.
STALE_IDS = 500_000

Levels = list[tuple[int, int]]


class Top(NamedTuple):
    """Best quotes: prices in ticks, sizes in quantity steps."""

    bid: int
    bid_size: int
    ask: int
    ask_size: int


class Watch:
    """What one listener has not been told yet, per side: the ranks of levels that were touched."""

    def __init__(self) -> None:
        self.bids: set[int] = set()
        self.asks: set[int] = set()


class Side:
    """Levels by rank: the price in ticks, negative for bids, so that the best sorts first.

    `ranks` is sorted and `sizes` has each of them, in quantity steps.
    """

    def __init__(self, end: int | None) -> None:
        self.ranks: list[int] = []
        self.sizes: dict[int, int] = {}
        self._end = end
        self._top = 0
        self._first = 0
        self._stop = 0

    def move(self, top: int, top_size: int, steps: range, places: "_Places") -> list[int]:
        """Bring the side up to the last of `steps`; the ranks that were touched."""
        grid = places.grid
        first = top // grid + 1
        stop = first + LEVELS if self._end is None else min(first + LEVELS, self._end)
        near = range(self._first, min(first, self._stop))
        far = range(max(stop, self._first), self._stop)
        touched = [place * grid for place in (*near, *far)]
        if self._top:
            touched.append(self._top)
        for rank in touched:
            self._put(rank, 0)
        step = steps[-1]
        for place in (*range(first, min(self._first, stop)), *range(max(self._stop, first), stop)):
            touched.append(place * grid)
            self._put(place * grid, places.size(place, step))
        for step in steps:
            # 5 is its own inverse modulo 24: these are the places whose epoch begins now.
            offset = (5 * step - first) % REFRESH_STEPS
            begun = range(first + offset, stop, REFRESH_STEPS)
            touched.extend(range(begun.start * grid, stop * grid, REFRESH_STEPS * grid))
            self._refresh(begun, places, -(-step // REFRESH_STEPS))
        self._put(top, top_size)
        touched.append(top)
        self._top, self._first, self._stop = top, first, stop
        return touched

    def _refresh(self, begun: range, places: "_Places", epoch: int) -> None:
        """Give places of the grid the sizes of their new epoch."""
        ranks, sizes, grid = self.ranks, self.sizes, places.grid
        for place, size in zip(begun, places.sizes(begun, epoch), strict=True):
            rank = place * grid
            if size:
                if rank not in sizes:
                    insort(ranks, rank)
                sizes[rank] = size
            elif sizes.pop(rank, 0):
                del ranks[bisect_left(ranks, rank)]

    def clear(self) -> list[int]:
        """Remove everything; the ranks that were there."""
        gone, self.ranks, self.sizes = self.ranks, [], {}
        self._top = self._first = self._stop = 0
        return gone

    def levels(self) -> Levels:
        """Price and size, best first."""
        sizes = self.sizes
        return [(abs(rank), sizes[rank]) for rank in self.ranks]

    def _put(self, rank: int, size: int) -> None:
        if size:
            if rank not in self.sizes:
                insort(self.ranks, rank)
            self.sizes[rank] = size
        elif self.sizes.pop(rank, 0):
            del self.ranks[bisect_left(self.ranks, rank)]


class _Places:
    """The grid of one book and the sizes that stand on it, made for prices around `price`."""

    def __init__(self, key: int, price: float, lot: float) -> None:
        self.price = price
        self.grid = _grid(price)
        self._salt = key & 0xFFFF
        self._sizes: list[int] = []
        for number in range(SIZES):
            draw = uniform(key, number)
            # One place in eight is a round number, where more is quoted.
            size = max(1, int(lot * draw * (4 if number % 8 == 0 else 1)))
            self._sizes.append(size if draw >= EMPTY_SHARE else 0)

    def fits(self, price: float) -> bool:
        """Whether grid and sizes still suit a price."""
        return 0.6 * self.price <= price <= 1.6 * self.price

    def size(self, place: int, step: int) -> int:
        """The size on a place of the grid at a step, zero where it is empty."""
        epoch = (step + -5 * place % REFRESH_STEPS) // REFRESH_STEPS
        return self.sizes(range(place, place + 1), epoch)[0]

    def sizes(self, places: range, epoch: int) -> list[int]:
        """The sizes on places that are in the same epoch."""
        sizes, base = self._sizes, self._salt + 157 * epoch
        return [sizes[(389 * place + base) & (SIZES - 1)] for place in places]

    def top_size(self, rank: int, step: int) -> int:
        """The size of a best quote."""
        return self.size(rank, 6 * step) or 1


class Book:
    """The book of one instrument at one exchange.

    `streamed` is set while the streams move the book: it must then not be advanced elsewhere, or
    their subscribers would miss a step.
    """

    def __init__(self, listing: Listing, path: PricePath, key: int) -> None:
        self.streamed = False
        self.step = 0
        self.at_ms = 0
        self.update_id = FIRST_UPDATE
        self.top = Top(0, 0, 0, 0)
        self._listing = listing
        self._path = path
        self._key = key
        self._spread_key = mix(key, 3)
        self._first_update = FIRST_UPDATE + mix(key, 4) % 1000 * 1000
        self._places: _Places | None = None
        self._settled = 0
        self._bids, self._asks = Side(0), Side(None)
        self._watches: list[Watch] = []

    def advance(self, now_ms: int, basis_bps: float) -> None:
        """Move the book to a moment; raises ValueError before the listing."""
        price = self._path.price_at(now_ms)
        if price is None:
            raise ValueError("the book of an instrument that is not listed yet")
        self.step += 1
        self.at_ms = now_ms
        # The id rises by about 64 with each step, as busy venues' ids do.
        noise = mix(self._spread_key, self.step)
        self.update_id = self._first_update + self.step * UPDATES_PER_STEP + noise % 32
        middle = price * (1 + basis_bps / 10_000)
        draw = mix(self._spread_key, self.step // 8) % 1024 / 1024
        spread = max(1, round(price * self._listing.spread_bps / 10_000 * (0.6 + 0.9 * draw)))
        bid = max(2, int(middle - (spread - 1) / 2))
        ask = bid + spread
        places = self._places
        if places is None or not places.fits(middle):
            lot = self._listing.turnover / 3e4 * 10.0**self._listing.step_decimals
            places = _Places(self._key, middle, lot / (middle * self._path.tick))
            self._places, self._settled = places, -REFRESH_STEPS
        epoch = self.step // 3
        self.top = Top(bid, places.top_size(-bid, epoch), ask, places.top_size(ask, epoch))

    def restart(self) -> None:
        """Begin anew, as after a restart of the exchange: the ids jump ahead."""
        self._first_update += RESTART_JUMP
        self.update_id += RESTART_JUMP

    def levels(self) -> tuple[Levels, Levels]:
        """Bids (falling) and asks (rising) of the present step, about 210 each."""
        bids, asks = self.sides()
        return bids.levels(), asks.levels()

    def sides(self) -> tuple[Side, Side]:
        """Bids and asks of the present step, to be read before the next one."""
        if self._settled != self.step and self._places is not None:
            self._settle(self._places)
        return self._bids, self._asks

    def watch(self) -> Watch:
        """Collect from now on what is touched on either side, until `unwatch`."""
        self.sides()
        self._watches.append(Watch())
        return self._watches[-1]

    def unwatch(self, watch: Watch) -> None:
        """Collect no more."""
        self._watches.remove(watch)

    def _settle(self, places: _Places) -> None:
        bids: list[int] = []
        asks: list[int] = []
        top = self.top
        if self.step - self._settled >= REFRESH_STEPS:
            bids, asks = self._bids.clear(), self._asks.clear()
        steps = range(max(self._settled + 1, self.step - REFRESH_STEPS + 1), self.step + 1)
        bids += self._bids.move(-top.bid, top.bid_size, steps, places)
        asks += self._asks.move(top.ask, top.ask_size, steps, places)
        self._settled = self.step
        for watch in self._watches:
            watch.bids.update(bids)
            watch.asks.update(asks)


def _grid(price: float) -> int:
    """The distance of levels in ticks: 1, 2 or 5 times a power of ten, about 0.8 bps."""
    wanted = max(1.0, price * 0.00008)
    power: int = 10 ** math.floor(math.log10(wanted))
    for factor in (1, 2, 5, 10):
        if factor * power >= wanted:
            return factor * power
    return 10 * power
