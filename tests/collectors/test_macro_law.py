"""Macro series of a real sandbox, collected while time goes on and values are revised: at any
moment exactly that is known which its FRED had published by then."""

import dataclasses
import json
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from collectors import clock, tasks
from collectors.macro_registry import MACRO_SERIES
from collectors.marketdata import to_ms
from collectors.models import Instrument, MacroSeries, QualityFinding
from collectors.releases import newest_release
from collectors.selectors import macro_as_of, macro_as_of_many, macro_known_at
from collectors.vintages import MacroValue

PROJECT = Path(__file__).resolve().parents[2]
START = datetime(2025, 3, 2, tzinfo=UTC)  # a week before the hour changes in Chicago
SPEED = 100_000  # more than a day a second
COLLECTED_FOR = timedelta(days=12)
KEY = "a" * 32
MOMENTS = 1000
CHICAGO = ZoneInfo("America/Chicago")


@pytest.fixture
def fred(settings: Any) -> Iterator[str]:
    """A seeded world in which a day passes in a second: the address of its FRED, known to the
    settings, and the market clock set to its time."""
    anchor = datetime.now(UTC)
    command = [sys.executable, "-m", "sandbox", "--port", "0", "--seed", "11"]
    command += ["--start", START.isoformat(), "--speed", str(SPEED)]
    command += ["--anchor", anchor.isoformat()]
    child = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    before = clock.current()
    try:
        assert child.stdout is not None
        found = re.search(r"http://\S+:\d+", child.stdout.readline())
        assert found is not None
        address = f"{found[0]}/fred/fred"
        settings.PROVIDER_URLS = {"FRED_BASE_URL": address}
        settings.ENV = dataclasses.replace(settings.ENV, clock_start=START, fred_api_key=KEY)
        clock.configure(clock.MarketClock(start=START, anchor=anchor, speed=SPEED))
        yield address
    finally:
        clock.configure(before)
        child.terminate()
        child.wait(timeout=10)
        if child.stdout:
            child.stdout.close()


def published(address: str, series_id: str) -> list[dict[str, str]]:
    """Everything that the world's FRED has ever published of a series."""
    query = f"series_id={series_id}&api_key={KEY}&file_type=json"
    window = "&realtime_start=2023-06-01&realtime_end=9999-12-31"
    url = f"{address}/series/observations?{query}{window}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        body = json.load(answer)
    assert len(body["observations"]) == body["count"] > 200
    rows: list[dict[str, str]] = body["observations"]
    return rows


Said = tuple[datetime, tuple[str, str, float]]


def by_hand(rows: list[dict[str, str]]) -> list[Said]:
    """From when each of the publisher's values may be used, with its date, release and value."""
    said = []
    for row in rows:
        day = date.fromisoformat(row["realtime_start"]) + timedelta(days=1)
        usable = datetime(day.year, day.month, day.day, tzinfo=CHICAGO).astimezone(UTC)
        if row["value"] != ".":
            said.append((usable, (row["date"], row["realtime_start"], float(row["value"]))))
    return said


def known_by_hand(said: list[Said], at: datetime) -> tuple[str, float] | None:
    """Date and value that were known at the moment: one row at a time."""
    best = max((value for usable, value in said if usable <= at), default=None)
    return None if best is None else (best[0], best[2])


@pytest.mark.long(20)
@pytest.mark.django_db(transaction=True)
def test_at_a_thousand_moments_exactly_that_is_known_which_was_published(
    bitcoin: Instrument, fred: str
) -> None:
    chance = random.Random(20250120)
    said: list[tuple[str, datetime, MacroValue | None]] = []
    rounds = 0
    deadline = time.monotonic() + 150
    while clock.now() < START + COLLECTED_FOR:
        assert time.monotonic() < deadline
        looked_at = clock.now()
        MacroSeries.objects.update(retry_at=None)
        rounds += tasks.collect_macro_series() > 0
        for series_id in MACRO_SERIES:
            at = newest_release(looked_at) - timedelta(hours=chance.randrange(24 * 30))
            said.append((series_id, at, macro_as_of(series_id=series_id, at=at)))
    until = newest_release(looked_at)
    assert rounds >= 3
    assert not MacroSeries.objects.exclude(last_error="").exists()
    # At this speed a slow machine finds a series overdue between two rounds; that is flagged.
    assert not QualityFinding.objects.filter(verdict="rejected").exists()
    truth = {series_id: published(fred, series_id) for series_id in MACRO_SERIES}
    hand = {series_id: by_hand(rows) for series_id, rows in truth.items()}
    versions: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for series_id, rows in truth.items():
        for row in rows:
            versions[series_id, row["date"]].add(row["value"])

    # What a later collection brought has not changed what was known before.
    for series_id, at, value in said:
        assert macro_as_of(series_id=series_id, at=at) == value

    span = int((until - START + timedelta(days=380)) / timedelta(minutes=1))
    revised = later = 0
    for number in range(MOMENTS):
        series_id = chance.choice(list(MACRO_SERIES))
        at = until - timedelta(minutes=chance.randrange(span))
        value = macro_as_of(series_id=series_id, at=at)
        expected = known_by_hand(hand[series_id], at)
        assert expected is not None
        assert value is not None
        later += value.released_at > at
        assert (value.date.isoformat(), value.value) == expected
        revised += len(versions[series_id, expected[0]]) > 1
        if number % 20 == 0:  # the forms for many moments say the same
            moments_ms = np.array([to_ms(at)], dtype=np.int64)
            many = macro_as_of_many(series_id=series_id, moments_ms=moments_ms)
            column = macro_known_at(series_ids=[series_id], moments_ms=moments_ms)[series_id]
            assert many.value[0] == column.value[0] == value.value
            assert column.known[0]
            assert 0 < column.released_ms[0] <= many.released_ms[0]
            assert many.is_forward_filled[0] == value.is_forward_filled
    assert later == 0
    assert revised > 10  # or the law was not put to the test
