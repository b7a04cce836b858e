"""What the venues' messages mean, on payloads written for these tests."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.coingecko import WINDOW, Sample, sampled_candles, windows
from collectors.exchange import MalformedPayload
from collectors.exchanges import binance, bybit
from collectors.klines import KlineRow
from collectors.marketdata import Candle, Quote, floor_time, from_ms, to_ms
from collectors.stream import StreamedCandle

AT = datetime(2025, 3, 3, 9, tzinfo=UTC)
RECEIVED = datetime(2025, 3, 3, 9, 0, 1, tzinfo=UTC)


def binance_kline(*, closed: bool) -> bytes:
    kline = {
        "t": to_ms(AT),
        "T": to_ms(AT) + 3_599_999,
        "s": "BTCUSDT",
        "i": "1h",
        "o": "100.10",
        "c": "101.5",
        "h": "102.0",
        "l": "99.9",
        "v": "12.5",
        "x": closed,
    }
    event = {"e": "kline", "E": to_ms(AT), "s": "BTCUSDT", "k": kline, "new": 1}
    return json.dumps({"stream": "btcusdt@kline_1h", "data": event}).encode()


def bybit_kline(*, confirm: bool) -> bytes:
    bar = {
        "start": to_ms(AT),
        "end": to_ms(AT) + 3_599_999,
        "interval": "60",
        "open": "100.10",
        "close": "101.5",
        "high": "102.0",
        "low": "99.9",
        "volume": "12.5",
        "turnover": "1",
        "confirm": confirm,
        "timestamp": 1,
    }
    return json.dumps({"topic": "kline.60.BTCUSDT", "type": "snapshot", "data": [bar]}).encode()


@pytest.mark.parametrize("name", ["binance", "bybit"])
def test_only_closed_klines_are_candles(name: str) -> None:
    if name == "binance":
        read, closed, forming = (
            binance.read_message,
            binance_kline(closed=True),
            binance_kline(closed=False),
        )
    else:
        read, closed, forming = (
            bybit.read_message,
            bybit_kline(confirm=True),
            bybit_kline(confirm=False),
        )
    candle = Candle(
        open_time=AT, open=100.10, high=102.0, low=99.9, close=101.5, volume=12.5, source=name
    )
    assert list(read(closed, RECEIVED)) == [StreamedCandle(name, "BTCUSDT", "1h", candle)]
    assert list(read(forming, RECEIVED)) == []


def test_binance_book_ticker_is_a_quote() -> None:
    event = {"e": "bookTicker", "u": 7, "s": "BTCUSDT", "b": "100.1", "B": "2", "a": "100.2"}
    event |= {"A": "3", "E": to_ms(AT), "T": 1}
    raw = json.dumps({"stream": "btcusdt@bookTicker", "data": event}).encode()
    (quote,) = binance.read_message(raw, RECEIVED)
    assert quote == Quote(
        exchange="binance",
        symbol="BTCUSDT",
        best_bid=100.1,
        bid_quantity=2.0,
        best_ask=100.2,
        ask_quantity=3.0,
        event_time=AT,
        received_at=RECEIVED,
        sequence=7,
    )


def test_bybit_top_of_book_is_a_quote_unless_a_side_is_empty() -> None:
    book = {"s": "BTCUSDT", "b": [["100.1", "2"]], "a": [["100.2", "3"]], "u": 9, "seq": 1}
    message = {"topic": "orderbook.1.BTCUSDT", "type": "snapshot", "ts": to_ms(AT), "data": book}
    (quote,) = bybit.read_message(json.dumps(message).encode(), RECEIVED)
    assert isinstance(quote, Quote)
    assert (quote.best_bid, quote.best_ask, quote.sequence) == (100.1, 100.2, 9)
    assert quote.event_time == AT
    book["b"] = []
    assert list(bybit.read_message(json.dumps(message).encode(), RECEIVED)) == []


@pytest.mark.parametrize(
    "raw",
    [
        b'{"result":null,"id":1}',
        b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade"}}',
    ],
)
def test_binance_says_things_that_mean_nothing(raw: bytes) -> None:
    assert list(binance.read_message(raw, RECEIVED)) == []


@pytest.mark.parametrize(
    "raw",
    [
        b'{"success":true,"ret_msg":"","conn_id":"x","req_id":"","op":"subscribe"}',
        b'{"success":true,"ret_msg":"pong","op":"ping"}',
        b'{"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT"},"ts":1}',
    ],
)
def test_bybit_says_things_that_mean_nothing(raw: bytes) -> None:
    assert list(bybit.read_message(raw, RECEIVED)) == []


@pytest.mark.parametrize(
    ("read", "raw"),
    [
        (binance.read_message, b"not json"),
        (binance.read_message, b'{"stream":"btcusdt@bookTicker","data":{"s":"BTCUSDT"}}'),
        (binance.read_message, b'{"error":{"code":2,"msg":"Invalid request"},"id":1}'),
        (binance.read_message, b'{"stream":"x@bookTicker","data":' + b"[" * 100_000),
        (binance.read_message, binance_kline(closed=True).replace(b'"i": "1h"', b'"i": "7h"')),
        (bybit.read_message, b"\xff"),
        (bybit.read_message, b'{"topic":"kline.7.X","data":[{"start":"x"}]}'),
        (bybit.read_message, b'{"topic":"orderbook.1.X","data":' + b"[" * 100_000),
        (bybit.read_message, bybit_kline(confirm=True).replace(b'"60"', b'"7"')),
        (bybit.read_message, b'{"success":false,"ret_msg":"error:handler not found"}'),
    ],
)
def test_what_does_not_parse_is_said_so(read: object, raw: bytes) -> None:
    with pytest.raises(MalformedPayload):
        read(raw, RECEIVED)  # type: ignore[operator]


def binance_ticker(**changed: object) -> bytes:
    event = {"u": 7, "s": "BTCUSDT", "b": "100.1", "B": "2", "a": "100.2", "A": "3"}
    event |= {"E": to_ms(AT)} | changed
    return json.dumps({"stream": "btcusdt@bookTicker", "data": event}).encode()


def bybit_top(bid: object = "100.1", quantity: object = "2", ts: object = None) -> bytes:
    book = {"s": "BTCUSDT", "b": [[bid, quantity]], "a": [["100.2", "3"]], "u": 9}
    at = to_ms(AT) if ts is None else ts
    return json.dumps({"topic": "orderbook.1.BTCUSDT", "ts": at, "data": book}).encode()


IMPOSSIBLE = ["nan", "inf", "-inf", "0", "-1"]


@pytest.mark.parametrize("number", IMPOSSIBLE)
def test_a_quote_without_real_prices_and_sizes_is_refused(number: str) -> None:
    for name in "bBaA":
        with pytest.raises(MalformedPayload):
            binance.read_message(binance_ticker(**{name: number}), RECEIVED)
    for message in (bybit_top(bid=number), bybit_top(quantity=number)):
        with pytest.raises(MalformedPayload):
            bybit.read_message(message, RECEIVED)


@pytest.mark.parametrize("number", IMPOSSIBLE)
def test_a_streamed_candle_without_real_prices_is_refused(number: str) -> None:
    for text in (b'"102.0"', b'"99.9"', b'"101.5"'):
        for read, raw in (
            (binance.read_message, binance_kline(closed=True)),
            (bybit.read_message, bybit_kline(confirm=True)),
        ):
            with pytest.raises(MalformedPayload):
                read(raw.replace(text, f'"{number}"'.encode()), RECEIVED)


@pytest.mark.parametrize("at", [10**14, 10**18, 10**30, -1])
def test_a_time_that_cannot_be_is_refused(at: int) -> None:
    stamp = str(to_ms(AT)).encode()
    for read, raw in (
        (binance.read_message, binance_ticker(E=at)),
        (binance.read_message, binance_kline(closed=True).replace(stamp, str(at).encode())),
        (bybit.read_message, bybit_top(ts=at)),
        (bybit.read_message, bybit_kline(confirm=True).replace(stamp, str(at).encode())),
    ):
        with pytest.raises(MalformedPayload):
            read(raw, RECEIVED)


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
