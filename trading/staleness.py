"""When the desk counts as stale: more than half of what is traded has no fresh price. Pure.

It turns both ways only when the other state has been seen for a while, and back only when clearly
less than half is stale, so that one instrument that comes and goes does not make it flap.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

STALE_SHARE = 0.5  # stale above it
FRESH_SHARE = 0.4  # fresh again at it or below
HOLD = timedelta(seconds=15)  # wall time


class Standing(NamedTuple):
    """`turning_since`: the wall time since which every look has said the opposite of `is_stale`."""

    is_stale: bool
    turning_since: datetime | None


def next_standing(before: Standing, *, stale: int, total: int, wall: datetime) -> Standing:
    """The standing after a look that found `stale` of `total` instruments without a fresh price."""
    share = stale / total if total else 0.0
    is_opposite = share <= FRESH_SHARE if before.is_stale else share > STALE_SHARE
    if not is_opposite:
        return Standing(before.is_stale, None)
    since = before.turning_since or wall
    if wall - since >= HOLD:
        return Standing(not before.is_stale, None)
    return Standing(before.is_stale, since)
