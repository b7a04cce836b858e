"""Ripple and ether: ride along when bitcoin and the coin move together, and a pattern agrees. Pure.

Rule: long when the coin's log return over `momentum_bars` is above `momentum_threshold`, bitcoin's
over `leader_bars` above `leader_threshold`, and within the last `confirm_bars` bars a pattern
spoke for a rise: a candle pattern (`signals.patterns.candle_votes`), or a close beyond the range of
the `range_bars` before (`breakout_votes`). The last bar that votes decides; bars made of price
samples do not vote. Short the other way round. Entered when none in the same direction was due in
the `hold_bars` before; left when either of the two momenta has changed its sign, after
`hold_bars`, or with a close beyond the stop or the target, which lie `stop_distance` and
`target_distance` from the close at entry. Confidence is as of entry: 1/2, and up to 1/4 more for
each momentum, in full at twice its threshold. The size is fixed.

The rule is the same for every instrument but bitcoin, which has no leader and is always flat; the
two presets, ripple and ether, differ in their values and in the coin that they speak of. All is
flat where bitcoin's bar is invalid, or more than 2% of its lookback: `leader_known` is 0 there.

Sources: T. Moskowitz, Y. Ooi, L. Pedersen, "Time series momentum", Journal of Financial Economics
104 (2012), for an asset's own past return; Q. Ji, E. Bouri, C. Lau, D. Roubaud, "Dynamic
connectedness and integration in cryptocurrency markets", International Review of Financial
Analysis 63 (2019), who find bitcoin among the coins whose returns and volatility others follow.
The combination and its numbers are this project's own.

Failure modes: that bitcoin leads is weakly supported, at an hour's distance the causality runs
both ways (A. Sifat, A. Mohamad, M. Mohamed Shariff, "Lead-Lag relationship between Bitcoin and
Ethereum", Research in International Business and Finance 50, 2019); candle patterns alone earned
nothing in stocks (B. Marshall, M. Young, L. Rose, Journal of Banking & Finance 30, 2006), so they
only delay an entry here; news of the coin's own, as of its court cases, breaks the link for days;
all are long or short at once, so that several coins under this rule are one bet on bitcoin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from signals.driver import unreliable
from signals.indicators import (
    at_rows,
    bars_since,
    first_after_quiet,
    held,
    log_change,
    run_starts,
    until_hit,
)
from signals.parameters import parameter
from signals.patterns import breakout_votes, candle_votes
from signals.strategy import Analysis, BoolArray, FloatArray, Market, Strategy

LEADER = "bitcoin"
LONGEST = 240
CANDLE_HISTORY = 15  # bars that TA-Lib's patterns compare with


@dataclass(frozen=True, kw_only=True)
class Ripple(Strategy):
    """The rule of this module with its parameters, set for ripple."""

    name: ClassVar[str] = "ripple"
    timeframe: ClassVar[str] = "1h"
    compares: ClassVar[bool] = True

    momentum_bars: int = parameter(
        low=1, high=LONGEST, unit="bars", text="over which the coin's own momentum is measured"
    )
    momentum_threshold: float = parameter(
        low=0.001, high=1.0, unit="log return", text="the coin's own momentum must be beyond"
    )
    leader_bars: int = parameter(
        low=1, high=LONGEST, unit="bars", text="over which bitcoin's momentum is measured"
    )
    leader_threshold: float = parameter(
        low=0.001, high=1.0, unit="log return", text="bitcoin's momentum must be beyond"
    )
    range_bars: int = parameter(
        low=2, high=LONGEST, unit="bars", text="a close beyond their range confirms"
    )
    confirm_bars: int = parameter(
        low=1, high=48, unit="bars", text="how long a pattern confirms, its own bar included"
    )
    hold_bars: int = parameter(
        low=1, high=LONGEST, unit="bars", text="kept at most, and quiet before an entry"
    )
    stop_distance: float = parameter(low=0.002, high=0.5, unit="fraction", text="stop")
    target_distance: float = parameter(low=0.002, high=0.9, unit="fraction", text="target")
    position_size: float = parameter(
        low=0.001, high=0.1, unit="fraction of equity", text="proposed size"
    )

    @property
    def lookback(self) -> int:
        """The longest window, and twice the longest state before it."""
        confirmed = max(self.range_bars, CANDLE_HISTORY) + self.confirm_bars
        longest = max(self.momentum_bars, self.leader_bars, confirmed)
        return longest + 2 * self.hold_bars + 1

    def analyze(self, market: Market) -> Analysis:
        """The wanted state at every bar. Raises MarketError where bitcoin is not in the market."""
        leading = market.column(LEADER)
        close = market.close
        own = log_change(close, self.momentum_bars)
        leader = log_change(close[:, leading : leading + 1], self.leader_bars)
        known = ~unreliable(~market.valid[:, leading : leading + 1], self.lookback)
        votes = self._votes(market)
        for_rise, for_fall = bars_since(votes > 0.0), bars_since(votes < 0.0)
        follows = known & (np.arange(close.shape[1]) != leading)
        rising = follows & (for_rise < np.minimum(for_fall, self.confirm_bars))
        falling = follows & (for_fall < np.minimum(for_rise, self.confirm_bars))
        long = self._held(own, leader, rising, ~follows)
        short = self._held(-own, -leader, falling, ~follows)
        raw = long.astype(np.int8) - short.astype(np.int8)
        began = run_starts(raw)
        entered_at = at_rows(close, began)
        stop = entered_at * (1.0 - raw * self.stop_distance)
        target = entered_at * (1.0 + raw * self.target_distance)
        everywhere = np.ones_like(close)
        return Analysis(
            direction=until_hit(raw, began, close, stop, target),
            confidence=at_rows(self._confidence(own, leader), began),
            stop_loss=stop,
            take_profit=target,
            position_size=self.position_size * everywhere,
            diagnostics={
                "momentum": own,
                "leader_momentum": leader * everywhere,
                "pattern": votes,
                "leader_known": known * everywhere,
            },
        )

    def _votes(self, market: Market) -> FloatArray:
        """What patterns say at each bar: more for a rise, or for a fall."""
        traded = market.valid & (market.volume_source != 0)  # samples measure no volume
        shapes = (market.high, market.low, market.close, traded)
        return candle_votes(market.open, *shapes) + breakout_votes(*shapes, self.range_bars)

    def _held(
        self, own: FloatArray, leader: FloatArray, confirmed: BoolArray, silent: BoolArray
    ) -> BoolArray:
        """Where the long state is held; of momenta turned round, the short one."""
        moving = (own > self.momentum_threshold) & (leader > self.leader_threshold)
        entry = first_after_quiet(moving & confirmed, self.hold_bars)
        return held(entry, (own <= 0.0) | (leader <= 0.0) | silent, self.hold_bars)

    def _confidence(self, own: FloatArray, leader: FloatArray) -> FloatArray:
        beyond_own = np.clip(np.abs(own) / self.momentum_threshold - 1.0, 0.0, 1.0)
        beyond_leader = np.clip(np.abs(leader) / self.leader_threshold - 1.0, 0.0, 1.0)
        return np.asarray(0.5 + 0.25 * beyond_own + 0.25 * beyond_leader)


class Ether(Ripple):
    """The same rule, set for ether, which moves less and follows bitcoin more closely."""

    name: ClassVar[str] = "ether"
