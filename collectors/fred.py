"""FRED: every vintage of a macro series, and from which moment each may be used.

GET /series/observations. Real-time bounds default to today, which would stamp all history as
released today, so the windows are always explicit; vintages per request are capped by the
provider, so long spans are asked for in windows
(https://fred.stlouisfed.org/docs/api/fred/series_observations.html).
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import msgspec

from collectors.budget import CallBudget
from collectors.exchange import (
    RETRY_PAUSE_S,
    UNREADABLE,
    Connection,
    KeyMissing,
    MalformedPayload,
    ProviderError,
    RequestRefused,
    UnknownSymbol,
    sample,
    status_error,
)
from collectors.releases import release_moment

NAME = "fred"
# A row takes about a hundred bytes, so that no page comes near the bound on answers.
PAGE = 10_000
WINDOW = timedelta(days=3 * 365)
OPEN_END = date(9999, 12, 31)


class Row(msgspec.Struct, frozen=True):
    """One vintage of one observation; the value is "." where there is none."""

    realtime_start: dt.date
    date: dt.date
    value: str


class ObservationsAnswer(msgspec.Struct, frozen=True):
    """The answer of GET /series/observations; `count` rows in all pages."""

    count: int
    observations: list[Row]


class ErrorBody(msgspec.Struct, frozen=True):
    """{"error_code": 400, "error_message": "Bad Request.  ..."}"""

    error_message: str = ""


@dataclass(frozen=True, kw_only=True)
class Vintage:
    """What was published for `date`; usable from `released_at` on.

    `is_release_assumed`: no vintage tells the release, it is the next business day.
    """

    date: dt.date
    value: float
    realtime_start: dt.date
    released_at: datetime
    is_release_assumed: bool


class Fred:
    """The macro source."""

    name = NAME

    def __init__(
        self,
        *,
        base_url: str,
        budget: CallBudget,
        timeout_s: float,
        api_key: str,
        retry_pause_s: float = RETRY_PAUSE_S,
    ) -> None:
        self._api_key = api_key
        self._connection = Connection(
            provider=NAME,
            base_url=base_url,
            budget=budget,
            timeout_s=timeout_s,
            read_error=read_error,
            retry_pause_s=retry_pause_s,
        )

    def fetch_vintages(
        self,
        series_id: str,
        *,
        observed_from: date,
        published_from: date,
        today: date,
        known: Mapping[date, float],
    ) -> list[Vintage]:
        """The new vintages of the observations from `observed_from` on that were published from
        `published_from` to `today`, in order of publication.

        `known` is the newest value of each observation that the caller has: the provider repeats
        it at the edge of a window as if it were published there. Raises ProviderError; KeyMissing
        without an API key.
        """
        if not self._api_key:
            raise KeyMissing("FRED_API_KEY is not set: macro series cannot be collected")
        rows: list[Row] = []
        window_start = published_from
        while window_start <= today:
            window_end = min(window_start + WINDOW, today)
            is_last = window_end == today
            rows += self._fetch_window(
                series_id, observed_from, window_start, OPEN_END if is_last else window_end
            )
            window_start = window_end + timedelta(days=1)
        return as_vintages(rows, known=known)

    def _fetch_window(
        self, series_id: str, observed_from: date, start: date, end: date
    ) -> list[Row]:
        rows: list[Row] = []
        count: int | None = None
        while True:
            answer = self._connection.get(
                "/series/observations",
                {
                    "series_id": series_id,
                    "api_key": self._api_key,
                    "file_type": "json",
                    "output_type": 1,
                    "observation_start": observed_from.isoformat(),
                    "realtime_start": start.isoformat(),
                    "realtime_end": end.isoformat(),
                    "order_by": "observation_date",
                    "sort_order": "asc",
                    "limit": PAGE,
                    "offset": len(rows),
                },
                into=ObservationsAnswer,
            )
            if count not in {None, answer.count}:
                # A row may have moved over the edge of a page, and would be missing for ever.
                raise MalformedPayload(f"fred: {series_id} has changed while it was read")
            count = answer.count
            rows += answer.observations
            if not answer.observations or len(rows) >= answer.count:
                return rows


def as_vintages(rows: list[Row], *, known: Mapping[date, float]) -> list[Vintage]:
    """Rows as vintages without missing values and without repetitions, in order of publication.

    A row that says what the vintage before it said is only the window's edge, not a new vintage. A
    date whose value was missing first has been watched since: its later release is a true one.
    Raises MalformedPayload for a value that is no number and a day that no calendar has.
    """
    vintages: list[Vintage] = []
    newest = dict(known)
    watched = set(known)
    for row in sorted(rows, key=lambda row: (row.realtime_start, row.date)):
        is_first = row.date not in watched
        watched.add(row.date)
        if row.value in {".", ""}:
            continue
        try:
            value = _finite(row.value)
            if newest.get(row.date) == value:
                continue
            released_at, assumed = release_moment(row.date, row.realtime_start, is_first=is_first)
        except (ValueError, OverflowError) as problem:
            raise MalformedPayload(f"fred: {row}: {problem}") from None
        newest[row.date] = value
        vintages.append(
            Vintage(
                date=row.date,
                value=value,
                realtime_start=row.realtime_start,
                released_at=released_at,
                is_release_assumed=assumed,
            )
        )
    return vintages


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is no finite number")
    return value


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError | None:
    """The error of an answer: {"error_code", "error_message"} with a status of 4xx or 5xx."""
    if status < 300:
        return None
    try:
        text = msgspec.json.decode(body, type=ErrorBody).error_message or sample(body)
    except UNREADABLE:
        text = sample(body)
    if status in {400, 404}:
        if "api_key" in text:
            return RequestRefused(f"fred: FRED_API_KEY is refused: {text}")
        if "series" in text.lower():
            return UnknownSymbol(f"fred: {text}")
    return status_error(status, headers, f"fred: {text}")
