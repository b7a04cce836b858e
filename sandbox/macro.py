"""Daily macro series with their vintages, and what of them is public at a moment. Pure.

An observation is published `lag_days` business days after its date, at 16:30 in Chicago, and its
first release carries that day as realtime_start. Three percent of the observations are revised
two to five days later; the second vintage then ends the first. The values handed in are the first
releases.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from sandbox.noise import key_of, uniform, uniform_many

CHICAGO = ZoneInfo("America/Chicago")
RELEASE_TIME = time(16, 30)
FOREVER = date(9999, 12, 31)
REVISED_SHARE = 0.03


@dataclass(frozen=True)
class SeriesFacts:
    """What a series is: its title, unit, publication lag in business days, usual level."""

    title: str
    units: str
    lag_days: int
    decimals: int
    level: float
    daily_move: float
    every_day: bool = False


FACTS = {
    "VIXCLS": SeriesFacts("CBOE Volatility Index: VIX", "Index", 0, 2, 18.0, 0.0),
    "DFF": SeriesFacts("Federal Funds Effective Rate", "Percent", 1, 2, 4.33, 0.004, True),
    "DGS10": SeriesFacts("Market Yield on U.S. 10-Year Treasuries", "Percent", 0, 2, 4.2, 0.05),
    "DTWEXBGS": SeriesFacts("Nominal Broad U.S. Dollar Index", "Index", 1, 4, 121.0, 0.3),
    "DEXUSEU": SeriesFacts("U.S. Dollars to Euro Spot Rate", "USD per EUR", 0, 4, 1.08, 0.004),
    "DEXCHUS": SeriesFacts("Chinese Yuan to U.S. Dollar Spot Rate", "CNY", 0, 4, 7.2, 0.012),
    "BAMLH0A0HYM2": SeriesFacts("US High Yield Spread", "Percent", 1, 2, 3.4, 0.06),
    "RRPONTSYD": SeriesFacts("Overnight Reverse Repurchases", "Billions USD", 0, 3, 380.0, 12.0),
    "SOFR": SeriesFacts("Secured Overnight Financing Rate", "Percent", 1, 2, 4.31, 0.008),
}
UNKNOWN_FACTS = SeriesFacts("Daily series", "Index", 1, 4, 1.0, 0.0)


class Vintage(NamedTuple):
    """One release of one observation, valid from its publication until the next release."""

    day: date
    value: str
    start: date
    end: date


@dataclass(frozen=True)
class MacroSeries:
    """First-release values ("." = missing) by date, in order, with seeded revisions."""

    name: str
    values: dict[date, str]
    seed: int

    @property
    def facts(self) -> SeriesFacts:
        """The description of the series."""
        return FACTS.get(self.name, UNKNOWN_FACTS)

    def vintages(self, now_ms: int) -> Iterator[Vintage]:
        """Every release public at `now_ms`, in order of date and release."""
        moment = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(CHICAGO)
        last = moment.date() if moment.time() >= RELEASE_TIME else moment.date() - timedelta(1)
        for day, value in self.values.items():
            start = _business_days_after(day, self.facts.lag_days)
            if start > last:
                return
            revised = self._revision(day, value)
            if revised is None or revised.start > last:
                yield Vintage(day, value, start, FOREVER)
            else:
                yield Vintage(day, value, start, revised.start - timedelta(1))
                yield revised

    def _revision(self, day: date, value: str) -> Vintage | None:
        key = key_of(self.seed, self.name, "revision")
        if value == "." or uniform(key, day.toordinal()) >= REVISED_SHARE:
            return None
        draw = uniform(key, -day.toordinal())
        published = _business_days_after(day, self.facts.lag_days)
        start = _business_days_after(published, 2 + int(draw * 4))
        decimals = len(value.partition(".")[2])
        moved = float(value) * (1 + (draw - 0.5) * 0.004)
        step = 10.0**-decimals
        if round(moved, decimals) == float(value):
            moved = float(value) + step
        return Vintage(day, f"{moved:.{decimals}f}", start, FOREVER)


def market_today(now_ms: int) -> date:
    """The calendar day at the publisher, in Chicago."""
    return datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(CHICAGO).date()


def seeded_values(name: str, seed: int, first: date, vix: list[float]) -> dict[date, str]:
    """First releases of a seeded series from `first` on, one candidate day per entry of `vix`.

    Weekends are left out (but for series of every day), holidays are ".".
    """
    facts = FACTS[name]
    numbers = first.toordinal() + np.arange(len(vix), dtype=np.int64)
    if name == "VIXCLS":
        levels = np.array(vix)
    else:
        draws = uniform_many(key_of(seed, name), numbers[:, None] * 64 + np.arange(40))
        levels = facts.level + (draws - 0.5) @ (0.93 ** np.arange(40)) * facts.daily_move * 2.5
    values = {}
    for number, level in zip(numbers.tolist(), levels.tolist(), strict=True):
        day = date.fromordinal(number)
        if day.weekday() < 5 or facts.every_day:
            missing = is_holiday(day) and not facts.every_day
            values[day] = "." if missing else f"{level:.{facts.decimals}f}"
    return values


def is_holiday(day: date) -> bool:
    """Whether United States markets rest on a weekday: the fixed and the n-th weekday holidays."""
    nth = (day.day - 1) // 7 + 1
    if (day.month, day.day) in {(1, 1), (6, 19), (7, 4), (12, 25)}:
        return True
    if day.weekday() == 0:
        last_of_may = day.month == 5 and day.day > 24
        return (day.month, nth) in {(1, 3), (2, 3), (9, 1)} or last_of_may
    return day.weekday() == 3 and day.month == 11 and nth == 4


def _business_days_after(day: date, count: int) -> date:
    moved = day
    while count or moved.weekday() > 4:
        moved += timedelta(1)
        if moved.weekday() < 5 and count:
            count -= 1
    return moved
