"""The table of provider calls, as the call budget writes and reads it.

A row is one statement that adds to it, so that any number of processes count into the same minute
without losing one (PostgreSQL and SQLite have the same upsert).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from django.db import Error as DatabaseFailure
from django.db import connection
from django.db.models import F, QuerySet, Sum

from collectors import clock
from collectors.budget import RecordsUnavailable
from collectors.call_window import Remembered
from collectors.models import ProviderBlock, ProviderCallMinute

_TABLE = ProviderCallMinute._meta.db_table
_ADD = f"""
INSERT INTO {_TABLE} (provider, endpoint, minute, calls, weight, errors, response_ms_total)
VALUES (%s, %s, %s, 1, %s, 0, 0)
ON CONFLICT (provider, endpoint, minute) DO UPDATE
SET calls = {_TABLE}.calls + 1, weight = {_TABLE}.weight + excluded.weight
"""
ENDPOINT_LENGTH = 64


class ProviderCallRecords:
    """See `collectors.budget.CallRecords`. Not to be used inside a transaction: what it writes
    must be there for all before the call is sent."""

    def add(self, provider: str, endpoint: str, minute: datetime, weight: int) -> None:
        """Count one call more."""
        moment = connection.ops.adapt_datetimefield_value(minute)
        with _available(), connection.cursor() as cursor:
            cursor.execute(_ADD, [provider, endpoint[:ENDPOINT_LENGTH], moment, weight])

    def remove(self, provider: str, endpoint: str, minute: datetime, weight: int) -> None:
        """Take back what `add` counted."""
        with _available():
            _row(provider, endpoint, minute).filter(calls__gte=1, weight__gte=weight).update(
                calls=F("calls") - 1, weight=F("weight") - weight
            )

    def settle(
        self, provider: str, endpoint: str, minute: datetime, *, failed: bool, response_ms: float
    ) -> None:
        """Add how a counted call went."""
        with _available():
            _row(provider, endpoint, minute).update(
                errors=F("errors") + int(failed),
                response_ms_total=F("response_ms_total") + response_ms,
            )

    def block(self, provider: str, seconds: float) -> None:
        """Remember that the provider is to be left alone for `seconds` (wall); a longer block
        stays."""
        until = clock.wall_now() + timedelta(seconds=seconds)
        with _available():
            row, is_new = ProviderBlock.objects.get_or_create(
                provider=provider, defaults={"until": until}
            )
            if not is_new:
                ProviderBlock.objects.filter(pk=row.pk, until__lt=until).update(until=until)

    def remembered(
        self, *, since: datetime, month: datetime, until: datetime
    ) -> Mapping[str, Remembered]:
        """The weights of the minutes from `since` on, the weight from `month` on, and the block
        that holds now."""
        rows = ProviderCallMinute.objects.filter(minute__lte=until, weight__gte=1)
        with _available():
            sums = dict(
                rows.filter(minute__gte=month)
                .order_by()
                .values_list("provider")
                .annotate(Sum("weight"))
            )
            minutes: dict[str, list[tuple[datetime, int]]] = {}
            recent = rows.filter(minute__gte=since)
            for provider, minute, weight in recent.values_list("provider", "minute", "weight"):
                minutes.setdefault(provider, []).append((minute, weight))
            now = clock.wall_now()
            blocks = ProviderBlock.objects.filter(until__gt=now).values_list("provider", "until")
            blocked = {provider: (end - now).total_seconds() for provider, end in blocks}
        return {
            provider: Remembered(
                minutes=tuple(minutes.get(provider, ())),
                month_weight=sums.get(provider, 0),
                blocked_s=blocked.get(provider, 0.0),
            )
            for provider in {*sums, *minutes, *blocked}
        }


def _row(provider: str, endpoint: str, minute: datetime) -> QuerySet[ProviderCallMinute]:
    return ProviderCallMinute.objects.filter(
        provider=provider, endpoint=endpoint[:ENDPOINT_LENGTH], minute=minute
    )


@contextlib.contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except DatabaseFailure as error:
        raise RecordsUnavailable(f"the table of provider calls: {error}") from error
