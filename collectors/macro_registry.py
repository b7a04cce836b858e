"""Which macro series there are, and what is usual for each. Pure.

To add a series: one line in `MACRO_SERIES`. Names, units and rhythms are those of the series' pages
(https://fred.stlouisfed.org/series/VIXCLS and so on); the bounds leave room above and below
everything that was ever published.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from collectors.releases import business_days_between

# A market holiday or two may pass without an observation, beside the usual lag.
HOLIDAYS = 2


@dataclass(frozen=True)
class MacroFacts:
    """A series: a value below `low` or above `high` (both possible, in `units`) is a mistake.

    `lag_days`: business days after its date until the newest observation has been followed by the
    next one; those of the weekly releases (H.10, on Mondays) wait longest.
    """

    series_id: str
    name: str
    units: str
    frequency: str
    low: float
    high: float
    lag_days: int


# What strategies read comes first: it is collected first.
MACRO_SERIES: Mapping[str, MacroFacts] = {
    facts.series_id: facts
    for facts in (
        MacroFacts("VIXCLS", "CBOE Volatility Index: VIX", "index", "daily", 4, 200, 2),
        MacroFacts("DFF", "Federal Funds Effective Rate", "percent", "daily, 7-day", -1, 30, 2),
        MacroFacts("DGS10", "10-Year Treasury Constant Maturity", "percent", "daily", -2, 25, 2),
        MacroFacts("DTWEXBGS", "Nominal Broad U.S. Dollar Index", "index", "daily", 50, 250, 6),
        MacroFacts("DEXUSEU", "U.S. Dollars to Euro Spot", "USD per EUR", "daily", 0.4, 3, 6),
        MacroFacts("DEXCHUS", "Chinese Yuan to U.S. Dollar Spot", "CNY per USD", "daily", 1, 20, 6),
        MacroFacts("BAMLH0A0HYM2", "ICE BofA US High Yield Spread", "percent", "daily", 0, 50, 2),
        MacroFacts("RRPONTSYD", "Overnight Reverse Repos", "billion USD", "daily", 0, 4000, 2),
        MacroFacts("SOFR", "Secured Overnight Financing Rate", "percent", "daily", -1, 30, 2),
    )
}
_POSITIONS = {series_id: position for position, series_id in enumerate(MACRO_SERIES)}
# What is assumed of a series that an operator has added in the admin.
UNREGISTERED_LAG_DAYS = 6


# For how long after its release a value may stand for the present: until its successor is overdue,
# with holidays and a release that was put off. By the first word of a series' frequency.
_BELIEVED_DAYS = {"daily": 7, "weekly": 21, "monthly": 62, "quarterly": 184}
# Daily values that are released once a week, and what an operator has added.
_BELIEVED_DAYS_WEEKLY_RELEASE = 14
_BELIEVED_DAYS_UNREGISTERED = 62


def believed_for(series_id: str) -> timedelta:
    """How long after its first release a value of the series may be acted on.

    A daily one for 7 days: its publisher has never been closed for longer.
    """
    facts = MACRO_SERIES.get(series_id)
    if facts is None:
        days = _BELIEVED_DAYS_UNREGISTERED
    elif facts.frequency.startswith("daily") and facts.lag_days > 5:
        days = _BELIEVED_DAYS_WEEKLY_RELEASE
    else:
        days = _BELIEVED_DAYS[facts.frequency.split(",")[0]]
    return timedelta(days=days)


def place_of(series_id: str) -> tuple[int, str]:
    """A sorting key: the registry's order, and unregistered series after it by name."""
    return _POSITIONS.get(series_id, len(_POSITIONS)), series_id


def check_value(series_id: str, value: float) -> str | None:
    """Why the value cannot be one of the series, None when it can."""
    facts = MACRO_SERIES.get(series_id)
    if not math.isfinite(value):
        return "not finite"
    if facts is not None and not facts.low <= value <= facts.high:
        return "out of range"
    return None


def is_stale(series_id: str, newest: date, today: date) -> bool:
    """Whether an observation newer than `newest` should have been published by the end of `today`
    (a day in Chicago), holidays allowed for."""
    facts = MACRO_SERIES.get(series_id)
    lag_days = facts.lag_days if facts is not None else UNREGISTERED_LAG_DAYS
    return business_days_between(newest, today) > lag_days + HOLIDAYS
