"""Impossible candles are recognised, each by its reason."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from collectors.marketdata import Candle
from collectors.quality import check_candle, sift_candles

OPEN_TIME = datetime(2025, 3, 3, 9, tzinfo=UTC)
NOW = OPEN_TIME + timedelta(hours=1)
GOOD = Candle(
    open_time=OPEN_TIME, open=10.0, high=12.0, low=9.0, close=11.0, volume=3.0, source="binance"
)


def test_a_closed_consistent_candle_passes() -> None:
    assert check_candle(GOOD, timeframe="1h", now=NOW) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"high": 8.0}, "high below low"),
        ({"open": 12.5}, "open outside low and high"),
        ({"close": 8.5}, "close outside low and high"),
        ({"low": 0.0}, "a price is not positive"),
        ({"close": float("nan")}, "a price is not finite"),
        ({"high": float("inf")}, "a price is not finite"),
        ({"volume": -1.0}, "volume is negative or not finite"),
        ({"open_time": OPEN_TIME - timedelta(minutes=1)}, "open time is not on the grid"),
        ({"open_time": OPEN_TIME + timedelta(hours=1)}, "still forming"),
    ],
)
def test_an_impossible_candle_is_named(change: dict[str, object], reason: str) -> None:
    candle = msgspec.structs.replace(GOOD, **change)
    assert check_candle(candle, timeframe="1h", now=NOW) == reason


def test_sifting_keeps_the_possible_and_says_why_not() -> None:
    bad = msgspec.structs.replace(GOOD, high=8.0)
    possible, impossible = sift_candles([GOOD, bad], timeframe="1h", now=NOW)
    assert possible == [GOOD]
    assert impossible == [(bad, "high below low")]
