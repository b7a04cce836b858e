"""The seeded world: hourly bars of every coin, and the daily macro factors that move with them.

Time is made in blocks of 64 days, each from its own seed and the state the block before it left,
so the world is the same however far and in whatever order it is asked. A two-state Markov chain
of calm and turbulent days drives a market factor; each coin is a beta on that factor plus its own
noise; VIX reverts to a level that depends on the state, jumps when turbulence begins and falls
when the market rises. Turbulence opens with days of selling.

One turbulent spell is not left to chance: it begins four days before the start of the world and
holds for ten, the market factor loses 20% in its first four days and VIX closes above 26 in all
of them, so that a short run has something to trade whatever the seed. The 448 days before the
start are scaled so that every coin stands at its listed price when the world starts.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sandbox.bars import HOUR_MS, HourlyBars, Ints
from sandbox.instruments import REPLAYED_ONLY, SEEDED, TETHER, Listing
from sandbox.noise import key_of, uniform_many

BLOCK_DAYS = 64
BLOCK_HOURS = BLOCK_DAYS * 24
DAYS_BEFORE = 448
SPELL = range(-4, 6)
SELLING_DAYS = 4
SPELL_LOSS = 0.20
TO_TURBULENT, TO_CALM = 0.035, 0.11
CALM_VOL, TURBULENT_VOL = 0.018, 0.042

Floats = NDArray[np.float64]


@dataclass
class _State:
    """What one block hands to the next."""

    turbulent: bool = False
    spell_day: int = 0
    vix: float = float(np.log(16.5))
    levels: Floats = field(default_factory=lambda: np.zeros(0))
    closes: list[int] = field(default_factory=list)


class SeededMarket:
    """Bars by coin id and VIX by day, extended on demand by `reach`."""

    def __init__(self, seed: int, start_ms: int, more_coins: int = 0) -> None:
        self.seed = seed
        self._listings = (*SEEDED, *REPLAYED_ONLY[:more_coins])
        self.first_day = start_ms // (24 * HOUR_MS) - DAYS_BEFORE
        self.vix: list[float] = []
        self.market_days: list[float] = []
        self.bars = {
            listing.coin: HourlyBars(
                self.first_day * 24, listing.price_decimals, listing.step_decimals
            )
            for listing in (*self._listings, TETHER)
        }
        self._state = _State(levels=np.zeros(len(self._listings)))
        self._blocks = 0
        self._make_past(start_ms // HOUR_MS)

    @property
    def end_hour(self) -> int:
        """The hour after the last one made."""
        return (self.first_day + self._blocks * BLOCK_DAYS) * 24

    def reach(self, hour: int) -> None:
        """Make the world up to an hour (hours since 1970 UTC), if it is not there yet."""
        while self.end_hour < hour:
            self._add_bars(self._returns())

    def _make_past(self, start_hour: int) -> None:
        """Blocks up to the start, anchored so that prices at the start are the listed ones."""
        blocks = [self._returns() for _ in range(DAYS_BEFORE // BLOCK_DAYS + 1)]
        path = np.concatenate([block[0] for block in blocks], axis=1)
        anchor = np.log([listing.price for listing in self._listings])
        shift = anchor - path[:, start_hour - self.first_day * 24]
        self._state.levels = self._state.levels + shift
        self._state.closes = [
            round(float(np.exp(shift[row])) * 10**listing.price_decimals)
            for row, listing in enumerate(self._listings)
        ]
        for levels, sigmas in blocks:
            self._add_bars((levels + shift[:, None], sigmas))

    def _returns(self) -> tuple[Floats, Floats]:
        """Log price levels (coins, hours) and the market's volatility (hours) of the next block."""
        rng = np.random.default_rng([self.seed, self._blocks, 1])
        first = self._blocks * BLOCK_DAYS - DAYS_BEFORE
        days = range(first, first + BLOCK_DAYS)
        turbulent, selling, begun = self._regimes(rng, days)
        sigma = np.where(turbulent, TURBULENT_VOL, CALM_VOL)
        drift = np.where(selling, -0.035, np.where(turbulent, 0.004, 0.0042))
        hourly = np.repeat(sigma / np.sqrt(24), 24)
        fat = np.exp(0.35 * rng.standard_normal(BLOCK_HOURS) - 0.06)
        market = rng.standard_normal(BLOCK_HOURS) * fat * hourly + np.repeat(drift / 24, 24)
        own = rng.standard_normal((len(SEEDED), BLOCK_HOURS)) / np.sqrt(24)
        # More coins leave the others as they are.
        more = np.random.default_rng([self.seed, self._blocks, 3])
        size = (len(self._listings) - len(SEEDED), BLOCK_HOURS)
        own = np.concatenate([own, more.standard_normal(size) / np.sqrt(24)])
        own *= np.array([listing.own_vol for listing in self._listings])[:, None]
        own *= np.repeat(np.where(turbulent, 1.5, 1.0), 24)
        for index, day in enumerate(days):
            if day == SPELL.start:
                hours = slice(index * 24, (index + SELLING_DAYS) * 24)
                market[hours] -= market[hours].mean() + SPELL_LOSS / (24 * SELLING_DAYS)
        by_day = market.reshape(BLOCK_DAYS, 24).sum(axis=1)
        self._follow_vix(rng, days, turbulent, begun, by_day)
        self.market_days.extend(by_day.tolist())
        betas = np.array([listing.beta for listing in self._listings])[:, None]
        levels = self._state.levels[:, None] + np.cumsum(betas * market + own, axis=1)
        self._state.levels = levels[:, -1] * 1.0
        self._blocks += 1
        return levels, hourly

    def _regimes(
        self, rng: np.random.Generator, days: range
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Per day: turbulent, selling (its first days), begun (the very first)."""
        draws = rng.random(BLOCK_DAYS)
        turbulent = np.zeros(BLOCK_DAYS, dtype=np.bool_)
        ages = np.zeros(BLOCK_DAYS, dtype=np.int64)
        state = self._state
        for index, day in enumerate(days):
            before = state.turbulent
            state.turbulent = draws[index] > TO_CALM if before else draws[index] < TO_TURBULENT
            if day in SPELL:
                state.turbulent = True
            elif SPELL.start - 15 <= day < SPELL.start:
                state.turbulent = False
            state.spell_day = state.spell_day + 1 if before and state.turbulent else 0
            turbulent[index], ages[index] = state.turbulent, state.spell_day
        return turbulent, turbulent & (ages < SELLING_DAYS), turbulent & (ages == 0)

    def _follow_vix(
        self,
        rng: np.random.Generator,
        days: range,
        turbulent: NDArray[np.bool_],
        begun: NDArray[np.bool_],
        market: Floats,
    ) -> None:
        """An Ornstein-Uhlenbeck log VIX with a level per regime, jumps and a leverage effect."""
        noise = rng.standard_normal(BLOCK_DAYS) * 0.045
        floor = 26.4 + 4 * rng.random(BLOCK_DAYS)
        for index, day in enumerate(days):
            level = np.log(31.0 if turbulent[index] else 16.0)
            pull = 0.22 * (level - self._state.vix)
            jump = 0.35 if begun[index] else 0.0
            self._state.vix += pull + jump - 1.1 * market[index] + noise[index]
            if day in SPELL:
                self._state.vix = max(self._state.vix, float(np.log(floor[index])))
            self._state.vix = min(max(self._state.vix, float(np.log(9.0))), float(np.log(85.0)))
            self.vix.append(round(float(np.exp(self._state.vix)), 2))

    def _add_bars(self, block: tuple[Floats, Floats]) -> None:
        levels, sigmas = block
        first_hour = self.bars[TETHER.coin].end_hour
        rng = np.random.default_rng([self.seed, first_hour, 2])
        for row, listing in enumerate(self._listings):
            rows = _candles(rng, listing, levels[row], sigmas, self._state.closes[row])
            self._state.closes[row] = int(rows[3, -1])
            self.bars[listing.coin].append(rows)
        self.bars[TETHER.coin].append(peg_bars(self.seed, first_hour, levels.shape[1]))


def _candles(
    rng: np.random.Generator, listing: Listing, levels: Floats, sigmas: Floats, close: int
) -> Ints:
    """Hourly candles, shape (5, hours), around the closes exp(levels); each opens at the last."""
    hours = len(levels)
    closes = np.maximum(np.rint(np.exp(levels) * 10**listing.price_decimals), 8).astype(np.int64)
    opens = np.concatenate([[close], closes[:-1]])
    reach = np.abs(rng.standard_normal((2, hours))) * sigmas * 0.45 * max(listing.beta, 0.6)
    highs = np.rint(np.maximum(opens, closes) * (1 + reach[0])).astype(np.int64)
    lows = np.rint(np.minimum(opens, closes) * (1 - reach[1])).astype(np.int64)
    moved = np.abs(np.log(closes / opens)) / (CALM_VOL / np.sqrt(24))
    rhythm = 1 + 0.35 * np.sin((np.arange(hours) % 24 - 9) * np.pi / 12)
    mood = np.exp(0.35 * rng.standard_normal(hours))
    usd = listing.turnover / 24 * rhythm * mood * (0.5 + 0.45 * moved)
    prices = closes * 10.0**-listing.price_decimals
    volumes = np.rint(usd / prices * 10**listing.step_decimals).astype(np.int64)
    return np.stack([opens, highs, lows, closes, volumes])


def peg_bars(seed: int, first_hour: int, hours: int) -> Ints:
    """Hourly candles, shape (5, hours), of the dollar peg: 1.0 with a noise of a few 0.0001."""
    numbers = np.arange(first_hour - 1, first_hour + hours, dtype=np.int64)
    swing = uniform_many(key_of(seed, TETHER.coin, "close"), numbers) - 0.5
    closes = 1_000_000 + np.rint(swing * 600).astype(np.int64)
    wicks = np.floor(uniform_many(key_of(seed, TETHER.coin, "wick"), numbers[1:]) * 200)
    volumes = 0.7 + 0.6 * uniform_many(key_of(seed, TETHER.coin, "volume"), numbers[1:])
    opens, ends = closes[:-1], closes[1:]
    return np.stack(
        [
            opens,
            np.maximum(opens, ends) + wicks.astype(np.int64),
            np.minimum(opens, ends) - wicks.astype(np.int64),
            ends,
            np.rint(volumes * TETHER.turnover / 24 * 100).astype(np.int64),
        ]
    )
