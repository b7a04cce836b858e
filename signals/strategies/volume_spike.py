"""Volume spike: follow a bar of unusual volume that closes near its end. Pure.

Rule: a bar's volume is compared with those of the same hour of day on the `window_days` days
before it, because an hour of the American afternoon is worth three of the night. Only volumes that
the same source measured count: not those of another source, of a hole, or of candles built from
samples. With fewer than `least_days` of them nothing is said (diagnostic `too_few_comparable`). A
spike is a volume of at least `spike_ratio` times the mean of the comparable ones whose rank, the
share of them that lie below it, is `entry_rank` or more. It points up when the bar rose and closed
in the upper part of its range, down when it fell and closed in the lower part: `close_strength` is
how far the close lies from the middle (0) towards the end (1). The first spike after `hold_bars`
without one in its direction is followed. The state is left after `hold_bars`, with a spike in the
other direction, or with a close beyond the stop or the target, which lie `stop_atr` and
`target_atr` of Wilder's average true ranges from the close at entry (at least 0.2% and at most half
of it). Confidence is the mean of two parts, as of entry: the rank from `entry_rank` to the top,
and the strength of the close. The size is fixed.

Source: prices go on after unusually high volume (Gervais, Kaniel and Mingelgrin, "The High-Volume
Return Premium", Journal of Finance 2001) where somebody trades on what he knows (Llorente,
Michaely, Saar and Wang, "Dynamic Volume-Return Relation of Individual Stocks", Review of Financial
Studies 2002). The hour of day and the numbers are this project's own.

Failure modes: the last bar of a panic is a spike too, and what follows it is a reversal; a venue's
fee promotion or wash trade is volume without meaning; weekends are quieter, so that a Monday looks
greater than it is; after a change of source nothing is said for `least_days`; a token that
is divided multiplies its volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from signals.indicators import at_rows, atr, first_after_quiet, held, run_starts, until_hit
from signals.parameters import parameter
from signals.strategy import Analysis, BoolArray, FloatArray, IntArray, Market, Strategy

DAY = 24
LONGEST = 240
LEAST_DISTANCE, GREATEST_DISTANCE = 0.002, 0.5  # of the price at entry


@dataclass(frozen=True, kw_only=True)
class VolumeSpike(Strategy):
    """The rule of this module with its parameters."""

    name: ClassVar[str] = "volume_spike"
    timeframe: ClassVar[str] = "1h"

    window_days: int = parameter(low=3, high=60, unit="days", text="compared with")
    least_days: int = parameter(low=2, high=60, unit="days", text="comparable of them at least")
    spike_ratio: float = parameter(low=1.0, high=100.0, unit="times the mean", text="at least")
    entry_rank: float = parameter(low=0.0, high=1.0, unit="fraction", text="lie below at least")
    close_strength: float = parameter(
        low=0.0, high=1.0, unit="fraction", text="from the bar's middle to its end, at least"
    )
    hold_bars: int = parameter(
        low=1, high=LONGEST, unit="bars", text="kept at most, and quiet before an entry"
    )
    atr_period: int = parameter(low=2, high=LONGEST, unit="bars", text="Wilder's period")
    stop_atr: float = parameter(low=0.1, high=50.0, unit="average true ranges", text="stop")
    target_atr: float = parameter(low=0.1, high=100.0, unit="average true ranges", text="target")
    position_size: float = parameter(
        low=0.001, high=0.1, unit="fraction of equity", text="proposed size"
    )

    @property
    def lookback(self) -> int:
        """The days compared with, and twice the longest state before it."""
        return max(self.window_days * DAY, 3 * self.atr_period) + 2 * self.hold_bars + 1

    def analyze(self, market: Market) -> Analysis:
        """The wanted state at every bar."""
        close = market.close
        ratio, rank, count = _compared(market, self.window_days)
        is_enough = count >= max(2, self.least_days)
        spike = is_enough & (ratio >= self.spike_ratio) & (rank >= self.entry_rank)
        end = _close_end(market)
        rose, fell = end >= self.close_strength, end <= -self.close_strength
        up = first_after_quiet(spike & rose & (close > market.open), self.hold_bars)
        down = first_after_quiet(spike & fell & (close < market.open), self.hold_bars)
        raw = held(up, down, self.hold_bars).astype(np.int8)
        raw -= held(down, up, self.hold_bars).astype(np.int8)
        began = run_starts(raw)
        reach = atr(market.high, market.low, close, self.atr_period)
        entered_at, reach_then = at_rows(close, began), at_rows(reach, began)
        stop = entered_at - raw * _distance(self.stop_atr * reach_then, entered_at)
        target = entered_at + raw * _distance(self.target_atr * reach_then, entered_at)
        return Analysis(
            direction=until_hit(raw, began, close, stop, target),
            confidence=at_rows(self._confidence(rank, end), began),
            stop_loss=stop,
            take_profit=target,
            position_size=np.full_like(close, self.position_size),
            diagnostics={
                "relative_volume": np.where(is_enough, ratio, 0.0),
                "volume_rank": np.where(is_enough, rank, 0.0),
                "comparable_bars": count.astype(np.float64),
                "too_few_comparable": (~is_enough).astype(np.float64),
                "close_strength": end,
                "atr": reach,
            },
        )

    def _confidence(self, rank: FloatArray, end: FloatArray) -> FloatArray:
        span = max(1.0 - self.entry_rank, 1e-9)
        above = np.clip((rank - self.entry_rank) / span, 0.0, 1.0)
        return np.asarray(0.5 * above + 0.5 * np.abs(end))


def _compared(market: Market, days: int) -> tuple[FloatArray, FloatArray, IntArray]:
    """Each volume as a multiple of the mean of the comparable ones at the same hour of the `days`
    before, the share of those that lie below it, and how many there are; 0 where none is, and
    where all of them were 0. Day after day is added, so that no sum depends on the bars' number.
    """
    source = np.where(market.valid, market.volume_source, np.int8(0))
    volume = np.where(source != 0, market.volume, 0.0)
    total = np.zeros(volume.shape)
    count = np.zeros(volume.shape, dtype=np.uint8)  # no more days than 60
    below = np.zeros(volume.shape, dtype=np.uint8)
    for distance in range(DAY, min(days * DAY + 1, len(volume)), DAY):
        then, now = slice(None, -distance), slice(distance, None)
        same: BoolArray = source[now] == source[then]
        count[now] += same.view(np.uint8)
        below[now] += (same & (volume[then] < volume[now])).view(np.uint8)
        total[now] += volume[then] * same
    known = (source != 0) & (total > 0.0)
    counted = np.where(source != 0, count, 0).astype(np.int64)
    number = np.where(known, counted, 1)
    ratio = np.where(known, volume / np.where(known, total / number, 1.0), 0.0)
    rank = np.where(known, below / number, 0.0)
    return ratio, rank, counted


def _close_end(market: Market) -> FloatArray:
    """Where the close lies in its bar: -1 at the low, 1 at the high, 0 in a bar without range."""
    reach = market.high - market.low
    has_range = reach > 0.0
    lift = (market.close - market.low) / np.where(has_range, reach, 1.0)
    return np.where(has_range, np.clip(2.0 * lift - 1.0, -1.0, 1.0), 0.0)


def _distance(wanted: FloatArray, price: FloatArray) -> FloatArray:
    return np.asarray(np.clip(wanted, LEAST_DISTANCE * price, GREATEST_DISTANCE * price))
