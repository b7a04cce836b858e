"""The one world behind all providers: coins, paths, macro series, funding, basis and books.

Both exchanges trade the same path: their candles are equal. Bybit's quotes stand apart from it by
a basis of a few hundredths of a percent, with occasional gaps of 12 to 40 basis points that last
up to an hour and a half.
"""

from dataclasses import dataclass, field
from datetime import date

import numpy as np

from sandbox.bars import HOUR_MS, HourlyBars
from sandbox.books import Book
from sandbox.clock import MarketClock
from sandbox.instruments import TETHER, Listing, listing_of
from sandbox.macro import FACTS, MacroSeries, seeded_values
from sandbox.noise import key_of, uniform, uniform_many
from sandbox.path import DAY_MS, MINUTE_MS, PricePath
from sandbox.replay import History
from sandbox.seeded import SeededMarket, peg_bars

EXCHANGES = ("binance", "bybit")
FUNDING_MS = 8 * HOUR_MS
GAP_SLOT_MS = 6 * HOUR_MS
EPOCH_DAY = date(1970, 1, 1).toordinal()


@dataclass
class Coin:
    """One coin with its path and, by exchange, its book."""

    listing: Listing
    path: PricePath
    books: dict[str, Book] = field(default_factory=dict)


class World:
    """Everything there is; `coins` by id, `series` by name."""

    def __init__(self, *, seed: int, clock: MarketClock, history: History | None) -> None:
        self.seed = seed
        self.clock = clock
        self.kind = "replay" if history else "seeded"
        self.coins: dict[str, Coin] = {}
        self._market: SeededMarket | None = None
        self._series: dict[str, MacroSeries] = {}
        self._series_days = 0
        self._funding: dict[tuple[str, str], tuple[int, float]] = {}
        if history:
            self._replay(history)
        else:
            self._market = SeededMarket(seed, clock.start_ms)
            for coin, bars in self._market.bars.items():
                self._add(coin, bars)
        self._symbols = {
            coin.listing.symbol: coin for coin in self.coins.values() if coin.listing.symbol
        }

    def _replay(self, history: History) -> None:
        self._series = {
            name: MacroSeries(name, values, self.seed) for name, values in history.series.items()
        }
        for coin, bars in history.bars.items():
            self._add(coin, bars)
        if TETHER.coin not in self.coins:
            first = min(bars.first_hour for bars in history.bars.values())
            peg = HourlyBars(first, TETHER.price_decimals, TETHER.step_decimals)
            self._add(TETHER.coin, peg, first)

    def _add(self, name: str, bars: HourlyBars, peg_from: int | None = None) -> None:
        listing = listing_of(name)

        def reach(hour: int) -> None:
            if self._market is not None:
                self._market.reach(hour)
            elif peg_from is not None and bars.end_hour < hour:
                hours = max(hour - bars.end_hour, 24 * 64)
                bars.append(peg_bars(self.seed, bars.end_hour, hours))

        if peg_from is not None:
            reach(self.clock.start_ms // HOUR_MS + 1)
        coin = Coin(listing, PricePath(bars, key_of(self.seed, name, "minutes"), reach))
        if listing.symbol:
            for exchange in EXCHANGES:
                coin.books[exchange] = Book(listing, coin.path, key_of(self.seed, exchange, name))
        self.coins[name] = coin

    def by_symbol(self, symbol: str, now_ms: int) -> Coin | None:
        """The coin a symbol names at the exchanges, once it is listed."""
        coin = self._symbols.get(symbol)
        return coin if coin and coin.path.listed_ms <= now_ms else None

    def tradable(self, now_ms: int) -> list[Coin]:
        """Coins with a perpetual that are listed at `now_ms`."""
        return [coin for coin in self._symbols.values() if coin.path.listed_ms <= now_ms]

    def series(self, name: str, now_ms: int) -> MacroSeries | None:
        """A macro series, None if the world has none of that name."""
        if self._market is not None and name in FACTS:
            self._market.reach(now_ms // HOUR_MS + 24)
            if len(self._market.vix) != self._series_days:
                self._series_days = len(self._market.vix)
                self._series = {}
            if name not in self._series:
                first = date.fromordinal(EPOCH_DAY + self._market.first_day)
                values = seeded_values(name, self.seed, first, self._market.vix)
                self._series[name] = MacroSeries(name, values, self.seed)
        return self._series.get(name)

    def series_names(self) -> list[str]:
        """Every macro series of this world."""
        return sorted(FACTS if self._market is not None else self._series)

    def book(self, exchange: str, coin: Coin) -> Book:
        """The book of a coin, moved on to this moment unless the streams move it."""
        book = coin.books[exchange]
        if not book.streamed:
            now_ms = self.clock.now_ms()
            book.advance(now_ms, self.basis_bps(exchange, coin.listing, now_ms))
        return book

    def basis_bps(self, exchange: str, listing: Listing, now_ms: int) -> float:
        """How far the exchange's quotes stand above the path, in basis points."""
        if exchange == "binance":
            return 0.0
        key = key_of(self.seed, exchange, listing.coin, "basis")
        knot, share = divmod(now_ms / (5 * MINUTE_MS), 1)
        ends = [uniform(key, int(knot) + step) - 0.5 for step in (0, 1)]
        basis = 3.0 * (ends[0] + (ends[1] - ends[0]) * share)
        slot, into_ms = divmod(now_ms, GAP_SLOT_MS)
        draws = [uniform(key, -1 - slot * 8 - number) for number in range(5)]
        if draws[0] < 0.35:
            length_ms = (20 + 70 * draws[1]) * MINUTE_MS
            begin_ms = draws[2] * (GAP_SLOT_MS - length_ms)
            place = (into_ms - begin_ms) / length_ms
            if 0 <= place <= 1:
                size = 12 + 28 * draws[3]
                basis += (size if draws[4] < 0.5 else -size) * min(1.0, (1 - place) * 1.6)
        return basis

    def funding_rate(self, exchange: str, coin: Coin, settled_ms: int) -> float:
        """The rate settled at `settled_ms`, known since eight hours before; steps of 1e-8."""
        known = self._funding.get((exchange, coin.listing.coin))
        if known is None or known[0] != settled_ms:
            known = (settled_ms, self.funding_rates(exchange, coin, [settled_ms])[0][0])
            self._funding[exchange, coin.listing.coin] = known
        return known[1]

    def funding_rates(
        self, exchange: str, coin: Coin, settled_ms: list[int]
    ) -> list[tuple[float, float]]:
        """Rate and price (USD) of settlements; the rate follows the trend of the day before it."""
        if not settled_ms:
            return []
        key = key_of(self.seed, exchange, coin.listing.coin, "funding")
        moments = np.array(settled_ms, dtype=np.int64)
        prices = coin.path.prices_at(moments) * coin.path.tick
        since = coin.path.prices_at(moments - FUNDING_MS)
        trends = np.nan_to_num(np.log(since / coin.path.prices_at(moments - FUNDING_MS - DAY_MS)))
        rates = 0.00006 + 0.00012 * uniform_many(key, moments) + 0.002 * trends
        bounded = np.round(np.clip(rates, -0.0075, 0.0075), 8)
        return list(zip(bounded.tolist(), np.nan_to_num(prices).tolist(), strict=True))


def next_funding_ms(now_ms: int) -> int:
    """The next settlement after `now_ms`: 00:00, 08:00 and 16:00 UTC."""
    return (now_ms // FUNDING_MS + 1) * FUNDING_MS
