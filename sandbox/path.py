"""One coin's price path: every candle, quote and rolling figure of it, at any moment. Pure.

Everything is read from the same one-minute candles, which meet the hourly bars exactly. Inside a
minute the price runs on straight lines from the open over the two extremes to the close (the low
first when the minute rises), so a quote never leaves its candle and a forming candle only ever
shows what has happened.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sandbox.bars import HOUR_MS, HourlyBars, Ints, fold
from sandbox.bridge import minute_candles

MINUTE_MS = 60_000
DAY_MS = 24 * HOUR_MS
DAYS_HELD = 40


class Candle(NamedTuple):
    """Prices in units of 10**-price_decimals, volume in units of 10**-volume_decimals."""

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int


class DaySummary(NamedTuple):
    """The rolling 24 hours before a moment: prices in ticks, volume in units, turnover in USD."""

    first: int
    high: int
    low: int
    last: int
    volume: int
    turnover: float


class PricePath:
    """The path of one coin over hourly bars that `reach` extends when time gets ahead of them."""

    def __init__(self, bars: HourlyBars, key: int, reach: Callable[[int], None]) -> None:
        self.bars = bars
        self.price_decimals = bars.price_decimals
        self.volume_decimals = bars.volume_decimals
        self.tick = 10.0**-bars.price_decimals
        self._key = key
        self._reach = reach
        self._days: OrderedDict[int, tuple[Ints, NDArray[np.bool_]]] = OrderedDict()
        self._folded: tuple[int, list[int] | None] = (-1, None)
        self._minute = (-1, (0, 0, 0, 0))
        self._turnover: tuple[int, NDArray[np.float64]] = (-1, np.zeros(1))
        self.listed_ms = (bars.first_hour + int(bars.present.argmax())) * HOUR_MS

    def candle(self, minutes: int, open_ms: int) -> Candle | None:
        """The whole candle of `minutes` opening at `open_ms`, None in a hole."""
        rows, present = self._rows(open_ms, open_ms + minutes * MINUTE_MS, minutes)
        if not present.any():
            return None
        folded, _ = fold(rows, present, rows.shape[1])
        return Candle(open_ms, *(int(value) for value in folded[:, 0]))

    def candles(self, minutes: int, start_ms: int, stop_ms: int, now_ms: int) -> list[Candle]:
        """Candles opening in [start_ms, stop_ms) as seen at `now_ms`, the forming one included."""
        size_ms = minutes * MINUTE_MS
        forming_ms = now_ms // size_ms * size_ms
        first = -(-max(start_ms, self.listed_ms - size_ms) // size_ms) * size_ms
        last = min(-(-stop_ms // size_ms) * size_ms, forming_ms)
        found = []
        if first < last:
            rows, present = self._rows(first, last, minutes)
            size = minutes // 60 if minutes >= 60 else minutes
            folded, known = fold(rows, present, size)
            opens = first + np.flatnonzero(known) * size_ms
            values = (opens.tolist(), *folded[:, known].tolist())
            found = [Candle(*row) for row in zip(*values, strict=True)]
        if start_ms <= forming_ms < stop_ms:
            forming = self.forming(minutes, now_ms)
            found.extend([forming] if forming else [])
        return found

    def forming(self, minutes: int, now_ms: int) -> Candle | None:
        """The candle of `minutes` that is open at `now_ms`, with what has happened so far."""
        size_ms = minutes * MINUTE_MS
        start_ms = now_ms // size_ms * size_ms
        minute_ms = now_ms // MINUTE_MS * MINUTE_MS
        hour_ms = max(start_ms, now_ms // HOUR_MS * HOUR_MS)
        parts = [self._rows(hour_ms, minute_ms, 1)]
        if start_ms < hour_ms:
            parts.insert(0, self._rows(start_ms, hour_ms, 60))
        partial = self._running_minute(now_ms)
        if partial:
            parts.append((np.array([partial], dtype=np.int64).T, np.ones(1, dtype=np.bool_)))
        rows = np.concatenate([part[0] for part in parts], axis=1)
        present = np.concatenate([part[1] for part in parts])
        if not present.any():
            return None
        folded, _ = fold(rows, present, rows.shape[1])
        return Candle(start_ms, *(int(value) for value in folded[:, 0]))

    def price_at(self, ms: int) -> float | None:
        """The price in ticks, the last known one in a hole, None before the listing."""
        if ms < self.listed_ms:
            return None
        if ms // MINUTE_MS != self._minute[0]:
            rows, present = self._day(ms // DAY_MS)
            index = ms % DAY_MS // MINUTE_MS
            if not present[index]:
                return self._last_close(ms // HOUR_MS)
            corners = _corners(*(int(value) for value in rows[:4, index]))
            self._minute = (ms // MINUTE_MS, corners)
        corners = self._minute[1]
        leg, share = divmod(ms % MINUTE_MS / MINUTE_MS * 3, 1)
        start, end = corners[int(leg)], corners[int(leg) + 1]
        return start + (end - start) * share

    def prices_at(self, moments: Ints) -> NDArray[np.float64]:
        """Prices in ticks at many moments, to the minute; NaN before the listing and in holes."""
        hours = moments // HOUR_MS
        unique, inverse = np.unique(hours, return_inverse=True)
        self._reach(int(unique[-1]) + 1)
        opens = np.full((len(unique), 60), np.nan)
        inside = (unique >= self.bars.first_hour) & (unique < self.bars.end_hour)
        index = unique[inside] - self.bars.first_hour
        minutes = minute_candles(self.bars.rows[:, index], self._key, unique[inside])
        values = minutes[0].reshape(-1, 60).astype(np.float64)
        values[~self.bars.present[index]] = np.nan
        opens[inside] = values
        return opens[inverse, moments % HOUR_MS // MINUTE_MS]

    def day_summary(self, now_ms: int) -> DaySummary | None:
        """The rolling 24 hours before `now_ms`, to the minute."""
        end_ms = now_ms // MINUTE_MS * MINUTE_MS
        if end_ms != self._folded[0]:
            rows, present = self._rows(end_ms - DAY_MS, end_ms, 1)
            day = fold(rows, present, rows.shape[1])[0][:, 0].tolist() if present.any() else None
            self._folded = (end_ms, day)
        price = self.price_at(now_ms)
        if price is None or self._folded[1] is None:
            return None
        first, high, low, _, volume = self._folded[1]
        last = round(price)
        turnover = float(self.turnovers(np.array([now_ms]))[0])
        return DaySummary(first, max(high, last), min(low, last), last, volume, turnover)

    def turnovers(self, moments: Ints) -> NDArray[np.float64]:
        """Rolling 24 h turnover in USD at many moments, linear inside each hour."""
        self._reach(int(moments.max()) // HOUR_MS + 1)
        end, total = self._turnover
        if end != self.bars.end_hour:
            rows = self.bars.rows.astype(np.float64)
            hourly = rows[:4].mean(axis=0) * rows[4] * self.tick * 10.0**-self.volume_decimals
            total = np.concatenate([[0.0], np.cumsum(hourly)])
            self._turnover = (self.bars.end_hour, total)
        edges = (self.bars.first_hour + np.arange(len(total))) * float(HOUR_MS)
        at = np.interp(moments.astype(np.float64), edges, total)
        before = np.interp(moments.astype(np.float64) - DAY_MS, edges, total)
        result: NDArray[np.float64] = at - before
        return result

    def _rows(self, start_ms: int, stop_ms: int, minutes: int) -> tuple[Ints, NDArray[np.bool_]]:
        """Hourly rows for whole hours (`minutes` of 60 and more), else one-minute rows."""
        if minutes >= 60:
            self._reach(stop_ms // HOUR_MS)
            return self.bars.between(start_ms // HOUR_MS, stop_ms // HOUR_MS)
        if stop_ms <= start_ms:
            return np.zeros((5, 0), dtype=np.int64), np.zeros(0, dtype=np.bool_)
        first, last = start_ms // DAY_MS, (stop_ms - 1) // DAY_MS
        span = slice(
            (start_ms - first * DAY_MS) // MINUTE_MS, (stop_ms - first * DAY_MS) // MINUTE_MS
        )
        if first == last:
            rows, present = self._day(first)
            return rows[:, span], present[span]
        if last - first < DAYS_HELD // 4:
            days = [self._day(day) for day in range(first, last + 1)]
            rows = np.concatenate([day[0] for day in days], axis=1)
            return rows[:, span], np.concatenate([day[1] for day in days])[span]
        rows, present = self._spread(first * 24, (last + 1) * 24)
        return rows[:, span], present[span]

    def _day(self, day: int) -> tuple[Ints, NDArray[np.bool_]]:
        held = self._days.get(day)
        if held is None:
            held = self._spread(day * 24, (day + 1) * 24)
            self._days[day] = held
            if len(self._days) > DAYS_HELD:
                self._days.popitem(last=False)
        return held

    def _spread(self, first_hour: int, stop_hour: int) -> tuple[Ints, NDArray[np.bool_]]:
        """One-minute rows of whole hours."""
        self._reach(stop_hour)
        hours, present = self.bars.between(first_hour, stop_hour)
        numbers = np.arange(first_hour, stop_hour, dtype=np.int64)
        return minute_candles(hours, self._key, numbers), np.repeat(present, 60)

    def _running_minute(self, now_ms: int) -> tuple[int, int, int, int, int] | None:
        rows, present = self._day(now_ms // DAY_MS)
        index = now_ms % DAY_MS // MINUTE_MS
        if not present[index]:
            return None
        first, high, low, last, volume = (int(value) for value in rows[:, index])
        corners = _corners(first, high, low, last)
        position = now_ms % MINUTE_MS / MINUTE_MS * 3
        leg = int(position)
        price = round(corners[leg] + (corners[leg + 1] - corners[leg]) * (position - leg))
        seen = (*corners[: leg + 1], price)
        return first, max(seen), min(seen), price, int(volume * position / 3)

    def _last_close(self, hour: int) -> float | None:
        stop = min(hour, self.bars.end_hour) - self.bars.first_hour
        known = np.flatnonzero(self.bars.present[:stop])
        return float(self.bars.rows[3, known[-1]]) if len(known) else None


def _corners(first: int, high: int, low: int, last: int) -> tuple[int, int, int, int]:
    return (first, low, high, last) if last >= first else (first, high, low, last)
