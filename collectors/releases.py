"""When a macro value may be used first: the publisher's calendar in Chicago. Pure.

A vintage that carries a day as its `realtime_start` was published on that day, nobody says when. So
it may be used from the midnight in Chicago that ends the day, live and in backtests alike.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np

CHICAGO = ZoneInfo("America/Chicago")
# A daily series is published within days. A first vintage that begins later than this after its
# date only tells when the archive begins.
LATEST_FIRST_RELEASE = timedelta(days=45)


def release_moment(
    observed: date, realtime_start: date, *, is_first: bool
) -> tuple[datetime, bool]:
    """When a vintage may be used first, and whether that is assumed.

    The day after `realtime_start`, 00:00 in Chicago. Where the archive begins long after the
    observation, the next business day after the observation, by the same rule, assumed.
    """
    if is_first and realtime_start - observed > LATEST_FIRST_RELEASE:
        return midnight_in_chicago(next_business_day(observed)), True
    return midnight_in_chicago(realtime_start + timedelta(days=1)), False


def newest_release(moment: datetime) -> datetime:
    """The newest moment up to `moment` at which published values may have become usable.

    Vintages are published on weekdays and usable from the midnight that ends their day; a holiday
    counts as a weekday. What is usable at `moment` has been published by then, so whoever has
    asked at or after it knows everything.
    """
    day = day_in_chicago(moment)
    while (day - timedelta(days=1)).weekday() >= 5:
        day -= timedelta(days=1)
    return midnight_in_chicago(day)


def next_release(moment: datetime) -> datetime:
    """The first moment after `moment` at which published values may become usable."""
    day = day_in_chicago(moment) + timedelta(days=1)
    while (day - timedelta(days=1)).weekday() >= 5:
        day += timedelta(days=1)
    return midnight_in_chicago(day)


def next_business_day(day: date) -> date:
    """The first weekday after `day`."""
    following = day + timedelta(days=1)
    while following.weekday() >= 5:
        following += timedelta(days=1)
    return following


def business_days_between(earlier: date, later: date) -> int:
    """The weekdays after `earlier` up to and with `later`; negative when it is before."""
    day = timedelta(days=1)
    return int(np.busday_count(earlier + day, later + day))


def midnight_in_chicago(day: date) -> datetime:
    """00:00 of `day` in America/Chicago, in UTC."""
    return datetime.combine(day, time(), tzinfo=CHICAGO).astimezone(UTC)


def day_in_chicago(moment: datetime) -> date:
    """The publisher's calendar day at the moment."""
    return moment.astimezone(CHICAGO).date()
