"""The one world behind all providers: coins, paths, macro series, funding, basis and books.

All venues trade the same path: their candles are equal. Bybit's quotes stand apart from it by a
basis; spot and perpetual of one exchange stand at the same prices, in books of their own.
"""

from dataclasses import dataclass, field
from datetime import date

from sandbox.bars import HOUR_MS, HourlyBars
from sandbox.basis import Basis
from sandbox.books import Book
from sandbox.clock import MarketClock
from sandbox.figures import Texts
from sandbox.funding import Funding
from sandbox.instruments import TETHER, Listing, listing_of
from sandbox.macro import FACTS, MacroSeries, seeded_values
from sandbox.noise import key_of
from sandbox.path import PricePath
from sandbox.replay import History
from sandbox.seeded import SeededMarket, peg_bars

# The perpetuals and the spot market of an exchange are venues with books of their own.
PERPETUALS = ("binance", "bybit")
EXCHANGES = (*PERPETUALS, "binance_spot", "bybit_spot")
STANDING_APART = ("bybit", "bybit_spot")
EPOCH_DAY = date(1970, 1, 1).toordinal()


@dataclass
class Coin:
    """One coin with its path and, by exchange, its book and its funding.

    `prices` and `sizes` are the texts of prices in ticks and of quantities in steps.
    """

    listing: Listing
    path: PricePath
    basis: Basis
    prices: Texts
    sizes: Texts
    books: dict[str, Book] = field(default_factory=dict)
    funding: dict[str, Funding] = field(default_factory=dict)

    def advance(self, exchange: str, now_ms: int) -> None:
        """Move the book at an exchange to a moment."""
        bps = self.basis.bps(now_ms) if exchange in STANDING_APART else 0.0
        self.books[exchange].advance(now_ms, bps)


class World:
    """Everything there is; `coins` by id, `series` by name."""

    def __init__(
        self, *, seed: int, clock: MarketClock, history: History | None, more_coins: int = 0
    ) -> None:
        self.seed = seed
        self.clock = clock
        self.kind = "replay" if history else "seeded"
        self.coins: dict[str, Coin] = {}
        self._market: SeededMarket | None = None
        self._series: dict[str, MacroSeries] = {}
        self._series_days = 0
        self._delisted: set[tuple[str, str]] = set()
        if history:
            self._replay(history)
        else:
            self._market = SeededMarket(seed, clock.start_ms, more_coins)
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
        path = PricePath(bars, key_of(self.seed, name, "minutes"), reach)
        basis = Basis(key_of(self.seed, "bybit", name, "basis"))
        coin = Coin(listing, path, basis, Texts(path.price_decimals), Texts(listing.step_decimals))
        if listing.symbol:
            for exchange in EXCHANGES:
                coin.books[exchange] = Book(listing, coin.path, key_of(self.seed, exchange, name))
            for exchange in PERPETUALS:
                key = key_of(self.seed, exchange, name, "funding")
                coin.funding[exchange] = Funding(coin.path, key)
        self.coins[name] = coin

    def by_symbol(self, exchange: str, symbol: str, now_ms: int) -> Coin | None:
        """The coin a symbol names at an exchange, while it is listed there."""
        coin = self._symbols.get(symbol)
        if coin is None or coin.path.listed_ms > now_ms or (exchange, symbol) in self._delisted:
            return None
        return coin

    def tradable(self, exchange: str, now_ms: int) -> list[Coin]:
        """Coins that are listed at an exchange at `now_ms`."""
        found = (self.by_symbol(exchange, symbol, now_ms) for symbol in self._symbols)
        return [coin for coin in found if coin]

    def delist(self, gone: set[tuple[str, str]]) -> None:
        """Take these pairs of exchange and symbol, and no others, out of trade."""
        self._delisted = gone

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
            coin.advance(exchange, self.clock.now_ms())
        return book
