"""Multi-bucket portfolio: long the best and short the worst of all instruments, by day. Pure.

Rule: at the bar that closes at 00:00 UTC, over daily closes, instruments are ranked in three
buckets, and in each the top is wanted long and the bottom short:

- momentum: the return over `momentum_days`, which end `reversion_days` ago;
- residual momentum: the same days' returns, less what the market explains of them, divided by
  their deviation (`signals.ranking.residual_momentum`), the market being the equally weighted
  mean of the instruments that take part and the fit running over `window_days`;
- reversion: the return over the last `reversion_days`, ranked the other way round.

A name's score is the sum of its sides, each times its bucket's share, so that buckets that
disagree cancel. Weights follow from the scores by inverse volatility or by minimum variance with
a shrunk covariance (`signals.weights`), capped; their absolute values add up to 1 unless too few
names are left for the cap. The size is |weight| x `gross_budget`, and all is held until the next
decision. Confidence is 1/2, and up to 1/2 more for the distance of the name's mean rank from the
middle. The stop lies `stop_volatilities` daily standard deviations from the close at which the
side was taken, and is set anew on Mondays at 00:00; there is no target: names leave by rank.

An instrument takes part if its bar of decision is valid, at most 2% of the window's bars are not,
it traded on the window's first day already, it moves by at least `min_volatility` a day (a
stablecoin would get all the weight) and never changed by a factor of `JUMP` from one day to the
next (a split, or a wrong print: neither is a return). With fewer than `min_instruments` of them
all are flat: the diagnostic `usable` says how many there were, `takes_part` which.

Sources: N. Jegadeesh, S. Titman, "Returns to Buying Winners and Selling Losers", Journal of
Finance 48 (1993); for crypto assets Y. Liu, A. Tsyvinski, X. Wu, "Common Risk Factors in
Cryptocurrency", Journal of Finance 77 (2022), who find momentum over one to four weeks; residuals:
see there; N. Jegadeesh, "Evidence of Predictable Behavior of Security Returns", Journal of Finance
45 (1990) for reversal. Windows, shares and sizes are this project's own.

Failure modes: with a handful of instruments a "top" is one coin and its own news; momentum crashes
when a fallen market turns; large, liquid coins do not show the daily reversal that small ones do
(A. Zaremba and others, "Up or down?", International Review of Financial Analysis 78, 2021); thirty
daily returns hold little about a covariance, which is why it is shrunk; shorts of small coins may
pay more funding than the rule earns; a listing that dies leaves the ranks without a loss shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from signals.driver import INVALID_BARS_PER_BAR
from signals.indicators import at_rows, run_starts
from signals.parameters import parameter
from signals.ranking import (
    centred_ranks,
    extremes,
    market_returns,
    positions,
    residual_momentum,
    trailing_windows,
    volatility,
)
from signals.strategy import Analysis, BoolArray, FloatArray, IntArray, Market, Strategy
from signals.weights import capped, inverse_volatility, minimum_variance, shrunk_covariance

DAY = 24
HOUR_MS = 3_600_000
WEEK_DAYS = 7
FIRST_MONDAY = 4  # 1970-01-05, in days
JUMP = 4.0
CANCELLED = 1e-9
MINIMUM_VARIANCE = 1
BUCKETS = ("momentum", "residual_momentum", "reversion")
FARTHEST_STOP = 0.9


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """What is known on each day of decision (rows) of each instrument (columns)."""

    usable: IntArray  # (D,) how many take part
    taking_part: BoolArray  # (D, K), as are the others
    ranks: list[FloatArray]  # one for each bucket, -1 to 1, the best highest
    weight: FloatArray  # signed
    deviation: FloatArray  # of daily returns


@dataclass(frozen=True, kw_only=True)
class MultiBucket(Strategy):
    """The rule of this module with its parameters."""

    name: ClassVar[str] = "multi_bucket"
    timeframe: ClassVar[str] = "1h"
    compares: ClassVar[bool] = True

    window_days: int = parameter(
        low=20, high=60, unit="days", text="of daily returns for fits, deviations and covariances"
    )
    momentum_days: int = parameter(
        low=2, high=40, unit="days", text="of momentum, at most what the window leaves"
    )
    reversion_days: int = parameter(low=1, high=7, unit="days", text="of reversion")
    momentum_share: float = parameter(low=0.0, high=1.0, unit="share", text="of momentum")
    residual_share: float = parameter(low=0.0, high=1.0, unit="share", text="of residual momentum")
    reversion_share: float = parameter(low=0.0, high=1.0, unit="share", text="of reversion")
    side_share: float = parameter(
        low=0.01, high=0.5, unit="share of instruments", text="on each side of a bucket, at least 1"
    )
    side_count: int = parameter(
        low=1, high=20, unit="instruments", text="on each side of a bucket at most"
    )
    min_instruments: int = parameter(
        low=2, high=100, unit="instruments", text="all flat when fewer take part"
    )
    min_volatility: float = parameter(
        low=0.0001, high=0.1, unit="fraction a day", text="takes no part when calmer"
    )
    weighting: int = parameter(
        low=0, high=1, unit="choice", text="0 inverse volatility, 1 minimum variance"
    )
    weight_cap: float = parameter(
        low=0.01, high=1.0, unit="fraction of the gross", text="one instrument at most"
    )
    gross_budget: float = parameter(
        low=0.01, high=1.0, unit="fraction of equity", text="all positions together"
    )
    stop_volatilities: float = parameter(
        low=0.5, high=20.0, unit="daily standard deviations", text="stop"
    )

    @property
    def lookback(self) -> int:
        """The window and the day before it, a week in which the stop was set, and the day that a
        decision is held."""
        return (self.window_days + WEEK_DAYS + 1) * DAY

    def analyze(self, market: Market) -> Analysis:
        """The wanted state at every bar."""
        by_name = np.argsort(np.array(market.instruments), kind="stable")
        decided = np.flatnonzero((market.open_time // HOUR_MS) % DAY == DAY - 1)
        close = market.close[decided][:, by_name]
        ranked = self._ranked(close, self._present(market, decided)[:, by_name])
        decided, close = decided[self.window_days :], close[self.window_days :]
        direction = np.sign(ranked.weight)
        days = (market.open_time[decided] + HOUR_MS) // (DAY * HOUR_MS)
        is_monday = (days - FIRST_MONDAY) % WEEK_DAYS == 0
        anchors = run_starts(direction.astype(np.int8), is_monday)
        away = np.minimum(self.stop_volatilities * ranked.deviation, FARTHEST_STOP)
        away = direction * at_rows(away, anchors)

        as_given = np.argsort(by_name, kind="stable")
        latest = np.searchsorted(decided, np.arange(len(market.close)), side="right")

        def held(values: FloatArray) -> FloatArray:
            """Days by names to the market's bars and columns; 0 before the first decision."""
            given = np.concatenate([np.zeros((1, values.shape[1])), values])
            return given.take(as_given, axis=1).take(latest, axis=0)

        return Analysis(
            direction=held(direction).astype(np.int8),
            confidence=held(self._confidence(ranked)),
            stop_loss=held(at_rows(close, anchors) * (1.0 - away)),
            take_profit=np.full(market.close.shape, np.nan),
            position_size=held(np.abs(ranked.weight) * self.gross_budget),
            diagnostics={name: held(values) for name, values in _diagnostics(ranked).items()},
        )

    def _present(self, market: Market, decided: IntArray) -> BoolArray:
        """(D - window, K): where the bars of the window, and of the day before it, which holds its
        first close, allow an instrument to take part."""
        if not len(decided):
            return np.empty((0, len(market.instruments)), dtype=np.bool_)
        missing = max(DAY - 1 - int(decided[0]), 0)
        valid = np.pad(market.valid, ((missing, 0), (0, 0)))[decided[0] + missing + 1 - DAY :]
        days = valid[: len(decided) * DAY].reshape(len(decided), DAY, -1).sum(axis=1)
        windows = self.window_days + 1
        counted = np.cumsum(np.pad(days, ((1, 0), (0, 0))), axis=0)
        there = counted[windows:] - counted[:-windows]
        is_whole = (windows * DAY - there) * INVALID_BARS_PER_BAR <= windows * DAY
        known = len(there)
        is_decided = market.valid[decided[len(decided) - known :]]
        return np.asarray(is_whole & (days[:known] > 0) & is_decided)

    def _ranked(self, close: FloatArray, present: BoolArray) -> Ranked:
        """Daily closes (D, K), columns by name, to what is wanted from the window's end on."""
        windows = trailing_windows(close[1:] / close[:-1] - 1.0, self.window_days)
        deviation = volatility(windows)
        is_split = ((windows >= JUMP - 1.0) | (windows <= 1.0 / JUMP - 1.0)).any(axis=0)
        taking_part = present & (deviation >= self.min_volatility) & ~is_split
        usable = taking_part.sum(axis=1)
        counted = taking_part & (usable >= self.min_instruments)[:, np.newaxis]
        placed = [positions(value, counted) for value in self._values(close, windows, counted)]
        score = self._score(placed, counted, usable)
        return Ranked(
            usable=usable,
            taking_part=taking_part,
            ranks=[centred_ranks(position, counted) for position in placed],
            weight=self._weights(score, deviation, windows),
            deviation=deviation,
        )

    def _values(
        self, close: FloatArray, windows: FloatArray, counted: BoolArray
    ) -> tuple[FloatArray, ...]:
        """What each bucket ranks, the best highest."""
        skipped = self.window_days - self.reversion_days
        since = max(skipped - self.momentum_days, 0)
        days = windows.shape[1]
        newest, recent, past = (
            close[first : first + days] for first in (self.window_days, skipped, since)
        )
        market = market_returns(windows, counted)
        return (
            recent / past - 1.0,
            residual_momentum(windows, market, slice(since, skipped)),
            1.0 - newest / recent,
        )

    def _shares(self) -> tuple[float, ...]:
        given = (self.momentum_share, self.residual_share, self.reversion_share)
        total = sum(given) or 1.0
        return tuple(share / total for share in given)

    def _score(self, placed: list[IntArray], counted: BoolArray, usable: IntArray) -> FloatArray:
        """The sides of the buckets, each times its share, added up; 0 where they cancel."""
        wanted = np.floor(self.side_share * usable + CANCELLED).astype(np.int64)
        count = np.clip(wanted, 1, self.side_count)
        score = np.zeros(counted.shape)
        for share, position in zip(self._shares(), placed, strict=True):
            score += share * extremes(position, counted, count)
        return np.where(np.abs(score) < CANCELLED, 0.0, score)

    def _weights(self, score: FloatArray, deviation: FloatArray, windows: FloatArray) -> FloatArray:
        """Signed weights of the names with a score; the others are left out of every matrix."""
        chosen = score != 0.0
        width = int(chosen.sum(axis=1).max(initial=0))
        names = np.argsort(~chosen, axis=1, kind="stable")[:, :width]
        wanted = np.take_along_axis(score, names, axis=1)
        if self.weighting == MINIMUM_VARIANCE:
            moves = np.take_along_axis(windows, names[np.newaxis], axis=2)
            found = minimum_variance(wanted, shrunk_covariance(moves, wanted))
        else:
            found = inverse_volatility(wanted, np.take_along_axis(deviation, names, axis=1))
        weight = np.zeros(score.shape)
        np.put_along_axis(weight, names, capped(found, self.weight_cap), axis=1)
        return weight

    def _confidence(self, ranked: Ranked) -> FloatArray:
        mean = np.zeros(ranked.weight.shape)
        for share, ranks in zip(self._shares(), ranked.ranks, strict=True):
            mean += share * ranks
        side = np.sign(ranked.weight)
        return np.where(side == 0.0, 0.0, 0.5 + 0.5 * np.clip(side * mean, 0.0, 1.0))


def _diagnostics(ranked: Ranked) -> dict[str, FloatArray]:
    """Ranks by bucket, weights, and what explains a flat instrument or day."""
    ranks = dict(zip(BUCKETS, ranked.ranks, strict=True))
    takes_part = ranked.taking_part.astype(np.float64)
    usable = ranked.usable[:, np.newaxis] * np.ones(takes_part.shape)
    return {**ranks, "weight": ranked.weight, "takes_part": takes_part, "usable": usable}
