"""What can be read of what came from outside."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

from django.db.models import Max, QuerySet

from signals.models import AlertFile, OutsideAlert, Signal
from signals.registry import CONSENSUS, OUTSIDE

# An instrument, a timeframe and the open time of a bar: there a strategy says one thing.
Place = tuple[int, str, datetime]
# A place with the direction, price and confidence that were said there.
Stand = tuple[int, str, datetime, int, float, float]


def outside_alerts(*, keys: Collection[str]) -> dict[str, OutsideAlert]:
    """The alerts with these keys, with their signals."""
    rows = OutsideAlert.objects.filter(key__in=keys).select_related("signal__instrument")
    return {row.key: row for row in rows}


def places_taken(*, places: Collection[Place]) -> set[Place]:
    """Where something was said from outside, of these places and perhaps others."""
    said = _said_at(OUTSIDE, places)
    return set(said.values_list("instrument_id", "timeframe", "bar_open_time"))


def consensus_stands(*, places: Collection[Place]) -> set[Stand]:
    """What the consensus said at these places and perhaps others."""
    said = _said_at(CONSENSUS, places)
    return set(
        said.values_list(
            "instrument_id", "timeframe", "bar_open_time", "direction", "price", "confidence"
        )
    )


def newest_outside(*, since: datetime) -> dict[int, datetime]:
    """The market time of the newest signal from outside, by instrument; none before `since`."""
    said = Signal.objects.filter(strategy=OUTSIDE, at__gte=since).order_by()
    return dict(said.values_list("instrument_id").annotate(newest=Max("at")))


class KnownFile(NamedTuple):
    """What is known of a file: the version that was looked at, and how far it is judged."""

    name: str
    size: int
    modified_ns: int
    state: str
    seen_at: datetime


def files_looked_at(*, folder: str, names: Iterable[str]) -> dict[str, KnownFile]:
    """What is known of files of a folder, by name. Plain values: there may be very many."""
    rows = AlertFile.objects.filter(folder=folder, name__in=list(names)).order_by()
    return {row[0]: KnownFile(*row) for row in rows.values_list(*KnownFile._fields)}


def _said_at(strategy: str, places: Collection[Place]) -> QuerySet[Signal]:
    if not places:
        return Signal.objects.none()
    instruments, timeframes, bars = (set(part) for part in zip(*places, strict=True))
    return Signal.objects.filter(
        strategy=strategy,
        instrument__in=instruments,
        timeframe__in=timeframes,
        bar_open_time__in=bars,
    ).order_by()
