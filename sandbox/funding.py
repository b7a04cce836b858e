"""When the perpetuals of an exchange settle their funding, and at which rate. Pure.

Every instrument begins with eight hours; its interval may change, and then holds from the next
settlement on. Rates follow the trend of the day before and are known one interval ahead.
"""

from bisect import bisect_right

import numpy as np

from sandbox.bars import HOUR_MS
from sandbox.noise import uniform_many
from sandbox.path import DAY_MS, PricePath

USUAL_MS = 8 * HOUR_MS
INTERVAL_HOURS = (1, 2, 4, 8)


class Funding:
    """Funding of one instrument at one exchange: settlements at UTC multiples of its interval."""

    def __init__(self, path: PricePath, key: int) -> None:
        self._path = path
        self._key = key
        # An interval holds for the settlements after the moment beside it.
        self._since = [-(1 << 62)]
        self._intervals = [USUAL_MS]
        self._known = (-1, 0.0)

    def change(self, hours: int, now_ms: int) -> int:
        """Settle every so many hours after the next settlement, whose moment is returned.

        Raises ValueError for an interval no exchange has.
        """
        if hours not in INTERVAL_HOURS:
            raise ValueError(f"expected one of {INTERVAL_HOURS} hours")
        moment = self.next_ms(now_ms)
        while self._since[-1] >= moment:
            self._since.pop()
            self._intervals.pop()
        self._since.append(moment)
        self._intervals.append(hours * HOUR_MS)
        return moment

    def interval_ms(self, now_ms: int) -> int:
        """The interval that the next settlement after a moment belongs to."""
        return self._intervals[bisect_right(self._since, now_ms) - 1]

    def next_ms(self, now_ms: int) -> int:
        """The next settlement after a moment."""
        interval = self.interval_ms(now_ms)
        return (now_ms // interval + 1) * interval

    def settlements(self, start_ms: int, end_ms: int) -> list[int]:
        """Settlements from `start_ms` to `end_ms`, both included, since the listing."""
        found: list[int] = []
        ends = [*self._since[1:], 1 << 62]
        start_ms = max(start_ms, self._path.listed_ms)
        for since, until, interval in zip(self._since, ends, self._intervals, strict=True):
            first = max(-(-start_ms // interval), since // interval + 1)
            last = min(end_ms, until) // interval
            found.extend(number * interval for number in range(first, last + 1))
        return found

    def rate(self, settled_ms: int) -> float:
        """The rate of the settlement at `settled_ms`, in steps of 1e-8."""
        if self._known[0] != settled_ms:
            self._known = (settled_ms, self.rates([settled_ms])[0][0])
        return self._known[1]

    def rates(self, settled_ms: list[int]) -> list[tuple[float, float]]:
        """Rate and price (USD) of settlements."""
        if not settled_ms:
            return []
        path = self._path
        moments = np.array(settled_ms, dtype=np.int64)
        intervals = np.array([self.interval_ms(moment - 1) for moment in settled_ms])
        prices = path.prices_at(moments) * path.tick
        since = path.prices_at(moments - intervals)
        trends = np.nan_to_num(np.log(since / path.prices_at(moments - intervals - DAY_MS)))
        usual = 0.00006 + 0.00012 * uniform_many(self._key, moments) + 0.002 * trends
        rates = np.round(np.clip(usual * intervals / USUAL_MS, -0.0075, 0.0075), 8)
        return list(zip(rates.tolist(), np.nan_to_num(prices).tolist(), strict=True))
