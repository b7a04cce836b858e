"""What the venues' answers mean, on payloads written for these tests."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.coingecko import WINDOW, Sample, sampled_candles, windows
from collectors.exchanges import binance
from collectors.klines import KlineRow
from collectors.marketdata import floor_time, from_ms, to_ms

AT = datetime(2025, 3, 3, 9, tzinfo=UTC)


def test_rest_rows_parse_strings_and_ignore_new_fields() -> None:
    row = [to_ms(AT), "1", "2", "0.5", "1.5", "7", 1, "x", 2, "y", "z", "0", "new"]
    parsed = msgspec.json.decode(json.dumps(row), type=KlineRow, strict=False)
    assert (parsed.candle("binance").close, parsed.candle("binance").source) == (1.5, "binance")
    row = [str(to_ms(AT)), "1", "2", "0.5", "1.5", "7", "8"]
    parsed = msgspec.json.decode(json.dumps(row), type=KlineRow, strict=False)
    assert (parsed.candle("bybit").open_time, parsed.candle("bybit").volume) == (AT, 7.0)


def test_samples_are_sorted_deduplicated_and_bucketed() -> None:
    start = to_ms(AT)
    samples = [
        Sample(start + 3_600_000 + 5, 13.0),
        Sample(start + 10, 10.0),
        Sample(start + 1_800_000, 12.0),
        Sample(start + 1_800_000, 12.0),  # the last point repeated with its own time
        Sample(start + 900_000, 9.0),
        Sample(start + 901_000, None),
    ]
    first, second = sampled_candles(samples, "1h")
    assert (first.open, first.high, first.low, first.close) == (10.0, 12.0, 9.0, 12.0)
    assert (first.volume, first.is_sampled, first.source) == (None, True, "coingecko")
    assert second.open_time == from_ms(start + 3_600_000)
    assert second.open == second.close == 13.0


@pytest.mark.parametrize(("limit", "weight"), [(99, 1), (100, 2), (500, 5), (1000, 5), (1500, 10)])
def test_binance_weighs_a_request_by_its_limit(limit: int, weight: int) -> None:
    assert binance.klines_weight(limit) == weight


@given(minutes=st.integers(0, 2880), hours=st.integers(1, 5000))
def test_the_last_day_is_a_window_of_its_own(minutes: int, hours: int) -> None:
    asked_at = AT + timedelta(minutes=minutes)
    end = floor_time(asked_at, "1h")
    start = end - timedelta(hours=hours)
    asked = list(windows(start, end))
    assert [asked[0][0], asked[-1][1]] == [start, end]
    assert all(before[1] == after[0] for before, after in pairwise(asked))
    assert all(timedelta(0) < until - since <= WINDOW for since, until in asked)
    assert asked_at - asked[-1][0] <= timedelta(days=1)
    if hours >= 23:
        assert end - asked[-1][0] >= timedelta(hours=11)
        assert (asked[-1][0].hour % 12, asked[-1][0].minute) == (0, 0)
