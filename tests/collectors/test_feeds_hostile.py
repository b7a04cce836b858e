"""What a broken, confused or hostile server may send to a reader: MalformedPayload, or nothing."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collectors.exchange import MalformedPayload
from collectors.feeds import Kind
from collectors.sources import FEEDS
from tests.collectors import messages
from tests.collectors.messages import NOW_MS, RECEIVED, following

# One good message of everything that each venue pushes.
GOOD: dict[str, dict[str, bytes]] = {
    "binance": {
        "book": messages.futures_diff(),
        "top": messages.binance_top(),
        "candle": messages.binance_kline(),
        "mark": messages.mark_price(),
        "ticker": messages.binance_ticker(),
        "trade": messages.aggregate_trade(),
    },
    "binance_spot": {
        "book": messages.spot_diff(),
        "top": messages.spot_top(),
        "candle": messages.binance_kline(),
        "ticker": messages.binance_ticker(),
        "trade": messages.spot_trade(),
    },
    "bybit": {
        "book": messages.bybit_book(),
        "top": messages.bybit_top(),
        "candle": messages.bybit_kline(),
        "mark": messages.linear_ticker(),
        "trade": messages.public_trades("Buy", "Sell"),
    },
    "bybit_spot": {
        "book": messages.bybit_book(),
        "top": messages.bybit_top(),
        "candle": messages.bybit_kline(),
        "ticker": messages.spot_ticker(),
        "trade": messages.public_trades("Buy", "Sell"),
    },
}
CASES = [(exchange, kind) for exchange, kinds in GOOD.items() for kind in kinds]
DEEP = b"[" * 200_000


def test_there_is_a_message_of_every_topic() -> None:
    assert set(GOOD) == set(FEEDS)
    for exchange, good in GOOD.items():
        topics = FEEDS[exchange].topics(messages.SYMBOL, timeframes=["1h"], kinds=set(Kind))
        assert {topic.kind for topic in topics} == {Kind(kind) for kind in good}
        for kind, raw in good.items():
            reader = following(exchange)
            assert reader.topic_of(raw) in {topic.name for topic in topics if topic.kind == kind}
            assert reader.read(raw, RECEIVED)


def refuses(exchange: str, raw: bytes) -> None:
    """The message is malformed, and the reader as good as before."""
    reader = following(exchange)
    with pytest.raises(MalformedPayload):
        reader.read(raw, RECEIVED)
    reader.topic_of(raw)  # raises nothing
    for good in GOOD[exchange].values():
        reader.read(good, RECEIVED)


@pytest.mark.parametrize("exchange", GOOD)
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"\x00\xff\xfe",
        b"\xff" * 1000,
        b"nonsense",
        b"null",
        b"7",
        b"[]",
        b'"text"',
        b"{",
        DEEP,
        b'{"data":' + DEEP,
        b'{"stream":' + DEEP,
        b'{"topic":' + DEEP,
        b'{"stream":{},"topic":{}}',
        b'{"stream":7,"topic":7}',
        b'{"stream":"\\ud800","topic":"\\ud800"}',
        b'{"error":7,"success":"maybe","op":[]}',
    ],
)
def test_what_is_no_message_is_malformed(exchange: str, raw: bytes) -> None:
    refuses(exchange, raw)


@pytest.mark.parametrize(("exchange", "kind"), CASES)
def test_a_truncated_message_is_malformed(exchange: str, kind: str) -> None:
    raw = GOOD[exchange][kind]
    for length in range(len(raw)):
        refuses(exchange, raw[:length])


@pytest.mark.parametrize(("exchange", "kind"), CASES)
def test_another_symbols_data_are_malformed(exchange: str, kind: str) -> None:
    raw = GOOD[exchange][kind]
    data = raw.index(b'"data"')
    if raw.count(b"BTCUSDT", data):
        refuses(exchange, raw[:data] + raw[data:].replace(b"BTCUSDT", b"ETHUSDT"))
    else:
        assert (exchange.split("_")[0], kind) == ("bybit", "candle")  # whose bars name none


@pytest.mark.parametrize(("exchange", "kind"), CASES)
def test_a_name_that_is_said_twice_counts_once(exchange: str, kind: str) -> None:
    """The name that is looked up where it is expected is not the one that was decoded."""
    raw = GOOD[exchange][kind]
    key = b"stream" if "binance" in exchange else b"topic"
    refuses(exchange, raw[:-1] + b',"' + key + b'":"other"}')


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the values of a message are."""
    if isinstance(value, dict):
        inner = [paths(item, (*path, key)) for key, item in value.items()]
    elif isinstance(value, list):
        inner = [paths(item, (*path, place)) for place, item in enumerate(value)]
    else:
        return [path]
    return [path] * bool(path) + [found for each in inner for found in each]


def replaced(raw: bytes, path: tuple[Any, ...], value: Any) -> bytes:
    message = json.loads(raw)
    at = message
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return messages.compact(message)


PRICES: dict[tuple[str, str], list[tuple[Any, ...]]] = {
    ("binance", "book"): [("data", "b", 1, 0), ("data", "a", 0, 0)],
    ("binance_spot", "book"): [("data", "b", 1, 0), ("data", "a", 0, 0)],
    ("bybit", "book"): [("data", "b", 0, 0), ("data", "a", 0, 0)],
    ("bybit_spot", "book"): [("data", "b", 0, 0), ("data", "a", 0, 0)],
    ("binance", "top"): [("data", name) for name in "bBaA"],
    ("binance_spot", "top"): [("data", name) for name in "bBaA"],
    ("binance", "candle"): [("data", "k", name) for name in "ohlc"],
    ("binance_spot", "candle"): [("data", "k", name) for name in "ohlc"],
    ("binance", "mark"): [("data", "p"), ("data", "i")],
    ("binance", "trade"): [("data", "p"), ("data", "q")],
    ("binance_spot", "trade"): [("data", "p"), ("data", "q")],
    ("bybit", "top"): [("data", side, 0, place) for side in "ba" for place in (0, 1)],
    ("bybit_spot", "top"): [("data", side, 0, place) for side in "ba" for place in (0, 1)],
    ("bybit", "candle"): [("data", 0, name) for name in ("open", "high", "low", "close")],
    ("bybit_spot", "candle"): [("data", 0, name) for name in ("open", "high", "low", "close")],
    ("bybit", "mark"): [("data", "markPrice"), ("data", "indexPrice")],
    ("bybit", "trade"): [("data", 1, "p"), ("data", 1, "v")],
    ("bybit_spot", "trade"): [("data", 1, "p"), ("data", 1, "v")],
}


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "0", "-1", "1e400", "x", True, [], {}])
@pytest.mark.parametrize(("exchange", "kind"), PRICES)
def test_a_price_that_cannot_be_is_malformed(exchange: str, kind: str, number: Any) -> None:
    for path in PRICES[exchange, kind]:
        refuses(exchange, replaced(GOOD[exchange][kind], path, number))


AMOUNTS: dict[tuple[str, str], list[tuple[Any, ...]]] = {
    ("binance", "book"): [("data", "b", 0, 1), ("data", "a", 0, 1)],
    ("binance_spot", "book"): [("data", "b", 0, 1), ("data", "a", 0, 1)],
    ("bybit", "book"): [("data", "b", 0, 1), ("data", "a", 0, 1)],
    ("bybit_spot", "book"): [("data", "b", 0, 1), ("data", "a", 0, 1)],
    ("binance", "ticker"): [("data", name) for name in "cohlvq"],
    ("binance_spot", "ticker"): [("data", name) for name in "cohlvq"],
    ("bybit", "mark"): [("data", name) for name in ("lastPrice", "volume24h", "turnover24h")],
    ("bybit_spot", "ticker"): [("data", name) for name in ("lastPrice", "volume24h")],
    ("binance", "candle"): [("data", "k", "v")],
    ("bybit", "candle"): [("data", 0, "volume")],
}


@pytest.mark.parametrize("number", ["nan", "inf", "-1", "1e400", "x", None, []])
@pytest.mark.parametrize(("exchange", "kind"), AMOUNTS)
def test_an_amount_that_cannot_be_is_malformed(exchange: str, kind: str, number: Any) -> None:
    for path in AMOUNTS[exchange, kind]:
        if number is not None or exchange != "bybit" or kind != "mark":
            refuses(exchange, replaced(GOOD[exchange][kind], path, number))


@pytest.mark.parametrize("rate", ["nan", "inf", "100", "-100", "1e400", "x", True])
def test_a_rate_outside_its_bounds_is_malformed(rate: Any) -> None:
    refuses("binance", messages.mark_price(r=rate))
    refuses("bybit", messages.linear_ticker(fundingRate=rate))


MOMENTS: dict[tuple[str, str], list[tuple[Any, ...]]] = {
    ("binance", "book"): [("data", "E")],
    ("binance_spot", "book"): [("data", "E")],
    ("bybit", "book"): [("ts",)],
    ("bybit_spot", "book"): [("ts",)],
    ("binance", "top"): [("data", "E")],
    ("binance", "candle"): [("data", "k", "t")],
    ("binance", "mark"): [("data", "E"), ("data", "T")],
    ("binance", "trade"): [("data", "T")],
    ("binance_spot", "candle"): [("data", "k", "t")],
    ("binance_spot", "trade"): [("data", "T")],
    ("bybit", "top"): [("ts",)],
    ("bybit", "candle"): [("data", 0, "start")],
    ("bybit", "mark"): [("ts",), ("data", "nextFundingTime")],
    ("bybit", "trade"): [("data", 0, "T")],
}


@pytest.mark.parametrize("at", [-1, 10**14, 10**18, 10**30, 10**400, "soon", 1.5, [1]])
@pytest.mark.parametrize(("exchange", "kind"), MOMENTS)
def test_a_moment_that_no_clock_shows_is_malformed(exchange: str, kind: str, at: Any) -> None:
    for path in MOMENTS[exchange, kind]:
        refuses(exchange, replaced(GOOD[exchange][kind], path, at))


@pytest.mark.parametrize("number", [-1, 10**30, "x", 1.5, None])
def test_an_update_id_that_cannot_be_is_malformed(number: Any) -> None:
    for exchange in FEEDS:
        for kind in ("top", "book"):
            refuses(exchange, replaced(GOOD[exchange][kind], ("data", "u"), number))
    for name in ("U", "pu"):
        refuses("binance", replaced(GOOD["binance"]["book"], ("data", name), number))


def test_a_malformed_book_message_is_counted_with_its_book() -> None:
    for exchange, good in GOOD.items():
        reader = following(exchange)
        book = reader.books[messages.SYMBOL]
        raw = good["book"]
        other = raw.replace(b'"s":"BTCUSDT"', b'"s":"ETHUSDT"')
        assert other != raw
        for bad in (raw[:-9], raw.replace(b"100.2", b"-1"), other):
            with pytest.raises(MalformedPayload):
                reader.read(bad, RECEIVED)
        assert (book.malformed, book.messages) == (3, 0)


@pytest.mark.parametrize("interval", ["1m", "7h", "1", "", 60])
def test_a_bar_of_another_length_is_malformed(interval: Any) -> None:
    for exchange in ("binance", "binance_spot"):
        refuses(exchange, messages.binance_kline(i=interval))
    for exchange in ("bybit", "bybit_spot"):
        refuses(exchange, messages.bybit_kline(interval="" if interval == 60 else interval))


def test_a_bar_off_the_grid_is_malformed() -> None:
    refuses("binance", messages.binance_kline(t=NOW_MS + 1))
    refuses("bybit", messages.bybit_kline(start=NOW_MS + 60_000))


def test_a_snapshot_that_is_not_whole_is_malformed() -> None:
    for name in ("lastPrice", "volume24h"):
        refuses("bybit", messages.linear_ticker(**{name: None}))
    for kind in ("new", "", 7):
        refuses("bybit", messages.bybit("tickers", messages.LINEAR_TICKER, kind=kind))  # type: ignore[arg-type]


@pytest.mark.parametrize(("exchange", "kind"), CASES)
def test_any_value_may_be_missing_or_of_another_type(exchange: str, kind: str) -> None:
    raw = GOOD[exchange][kind]
    odd = [None, True, 7, -1, 1.5, "", "x", "9" * 400, [], {}, [[]], [None], {"a": 1}]
    found = paths(json.loads(raw))
    assert len(found) >= 8
    reader = following(exchange)
    for path in found:
        for value in odd:
            survives(reader.read, replaced(raw, path, value))
    assert reader.read(raw, RECEIVED) is not None


def survives(read: Callable[..., object], raw: bytes) -> None:
    """Nothing but MalformedPayload escapes."""
    try:
        read(raw, RECEIVED)
    except MalformedPayload as error:
        assert len(str(error)) < 2000


MUTABLE = [(exchange, GOOD[exchange][kind]) for exchange, kind in CASES] + [
    ("bybit", messages.ticker_delta(markPrice="100.3", fundingRate="0.1", lastPrice="7")),
    ("bybit", messages.bybit_book(kind="delta", u=8)),
    ("bybit", messages.compact({"success": False, "op": "subscribe", "ret_msg": "x"})),
    ("binance", messages.compact({"error": {"code": 2, "msg": "x"}, "id": 1})),
]


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A good message with bytes replaced, cut out, or put in."""
    exchange, message = draw(st.sampled_from(MUTABLE))
    raw = bytearray(message)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 6)))
        piece = draw(st.binary(max_size=6) | st.sampled_from(TOKENS))
        raw[start:end] = piece
    return exchange, bytes(raw)


TOKENS = [b'"', b"{", b"}", b"[", b",", b":", b"null", b"-", b"1e999", b"\\u0000", b"\\", b"\xed"]


@given(mutated())
@example(("binance", b""))
def test_mutated_bytes_raise_nothing_else(case: tuple[str, bytes]) -> None:
    exchange, raw = case
    reader = following(exchange)
    for good in GOOD[exchange].values():
        reader.read(good, RECEIVED)
    survives(reader.read, raw)
    survives(reader.read, raw)
    assert isinstance(reader.topic_of(raw), str)


@given(st.sampled_from(list(GOOD)), st.binary(max_size=200))
def test_any_bytes_raise_nothing_else(exchange: str, raw: bytes) -> None:
    reader = following(exchange)
    survives(reader.read, raw)
    for opening in (b'{"stream":"', b'{"topic":"'):
        survives(reader.read, opening + raw)
        assert isinstance(reader.topic_of(opening + raw), str)
