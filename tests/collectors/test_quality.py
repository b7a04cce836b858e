"""Impossible candles are recognised, each by its reason."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from collectors.marketdata import Candle
from collectors.quality import check_candle, compare_sources, review_candles, sift_candles

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


def later(hours: int, close: float = 11.0) -> Candle:
    """The good candle of another hour."""
    return msgspec.structs.replace(GOOD, open_time=OPEN_TIME + timedelta(hours=hours), close=close)


def test_an_answer_is_put_in_order_and_each_bar_is_kept_once() -> None:
    answer = [GOOD, later(2), later(1), later(1), later(3, 10.0), later(3, 10.5)]
    review = review_candles(answer, timeframe="1h", now=NOW + timedelta(hours=9))
    assert review.candles == [GOOD, later(1), later(2), later(3, 10.5)]
    assert [(found.verdict, found.reason, found.at) for found in review.findings] == [
        ("flagged", "out of order", later(1).open_time),
        ("flagged", "repeated", later(1).open_time),
        ("flagged", "given twice with different values", later(3).open_time),
    ]
    twice = review.findings[-1].values
    assert (twice["kept"]["close"], twice["dropped"]["close"]) == (10.5, 10.0)
    assert review.rejected == []


def test_an_impossible_candle_does_not_take_the_place_of_a_possible_one() -> None:
    bad = msgspec.structs.replace(GOOD, high=float("inf"))
    review = review_candles([GOOD, bad], timeframe="1h", now=NOW)
    assert review.candles == [GOOD]
    (found,) = review.findings
    assert (found.verdict, found.reason) == ("rejected", "a price is not finite")
    assert found.values["high"] == "inf"


@pytest.mark.parametrize(
    ("source", "is_sampled", "ratio", "reason"),
    [
        ("bybit", False, 1.019, None),
        ("bybit", False, 1.021, "close far from another exchange"),
        ("bybit", False, 0.979, "close far from another exchange"),
        ("coingecko", True, 1.04, None),
        ("coingecko", True, 1.06, "close far from price samples"),
        ("binance", False, 2.0, None),  # a source's correction of itself is no jump
    ],
)
def test_closes_of_two_sources_that_lie_far_apart_are_flagged(
    source: str, is_sampled: bool, ratio: float, reason: str | None
) -> None:
    other = msgspec.structs.replace(
        GOOD, close=GOOD.close / ratio, source=source, is_sampled=is_sampled
    )
    found = compare_sources(GOOD, other)
    assert (found.reason if found else None) == reason
    if found is not None:
        assert found.verdict == "flagged"
        assert found.values["kept"]["close"] == GOOD.close
        assert found.values[source]["close"] == other.close
