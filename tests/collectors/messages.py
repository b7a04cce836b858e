"""Messages as the venues document them, with values made up for the tests."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from collectors.feeds import Kind, Reader
from collectors.marketdata import to_ms
from collectors.sources import FEEDS

AT = datetime(2025, 3, 3, 9, tzinfo=UTC)
RECEIVED = AT + timedelta(seconds=1)
NOW_MS = to_ms(AT)
FUNDING_AT = datetime(2025, 3, 3, 16, tzinfo=UTC)
SYMBOL = "BTCUSDT"

Data = dict[str, Any]


def compact(message: object) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def following(exchange: str, kinds: set[Kind] | None = None) -> Reader:
    """A reader of everything that a venue says of one symbol, or of these kinds."""
    feed = FEEDS[exchange]
    reader = feed.reader()
    reader.follow(
        feed.topics(SYMBOL, timeframes=["1h"], kinds=set(Kind) if kinds is None else kinds)
    )
    return reader


def binance(stream: str, data: object) -> bytes:
    return compact({"stream": f"btcusdt@{stream}", "data": data})


def bybit(topic: str, data: object, *, kind: str = "snapshot", ts: int = NOW_MS) -> bytes:
    message = {"topic": f"{topic}.{SYMBOL}", "type": kind, "ts": ts, "data": data}
    return compact(message)


LEVELS: Data = {"b": [["100.1", "2"], ["99.9", "0"]], "a": [["100.2", "3"]]}


def futures_diff(**changed: Any) -> bytes:
    data: Data = {"e": "depthUpdate", "E": NOW_MS, "T": NOW_MS, "s": SYMBOL, "U": 11, "u": 15}
    return binance("depth@100ms", data | {"pu": 10} | LEVELS | changed)


def spot_diff(**changed: Any) -> bytes:
    data: Data = {"e": "depthUpdate", "E": NOW_MS, "s": SYMBOL, "U": 11, "u": 15}
    return binance("depth@100ms", data | LEVELS | changed)


def bybit_book(*, kind: str = "snapshot", ts: int = NOW_MS, **changed: Any) -> bytes:
    data: Data = {"s": SYMBOL, "b": [["100.1", "2"]], "a": [["100.2", "3"]], "u": 7, "seq": 70}
    return bybit("orderbook.200", data | changed, kind=kind, ts=ts)


def binance_top(**changed: Any) -> bytes:
    data: Data = {"e": "bookTicker", "u": 7, "s": SYMBOL, "b": "100.1", "B": "2", "a": "100.2"}
    data |= {"A": "3", "T": NOW_MS - 1, "E": NOW_MS} | changed
    return binance("bookTicker", data)


def spot_top(**changed: Any) -> bytes:
    data: Data = {"u": 7, "s": SYMBOL, "b": "100.1", "B": "2", "a": "100.2", "A": "3"}
    return binance("bookTicker", data | changed)


def binance_kline(*, closed: bool = True, symbol: str = SYMBOL, **changed: Any) -> bytes:
    bar: Data = {"t": NOW_MS, "T": NOW_MS + 3_599_999, "s": SYMBOL, "i": "1h", "f": 1, "L": 9}
    bar |= {"o": "100.10", "c": "101.5", "h": "102.0", "l": "99.9", "v": "12.5", "n": 9}
    bar |= {"x": closed, "q": "1250.1", "V": "6", "Q": "600", "B": "0"} | changed
    return binance("kline_1h", {"e": "kline", "E": NOW_MS, "s": symbol, "k": bar})


def mark_price(**changed: Any) -> bytes:
    data: Data = {"e": "markPriceUpdate", "E": NOW_MS, "s": SYMBOL, "p": "100.15", "P": "100.2"}
    data |= {"ap": "100.16", "i": "100.12", "r": "-0.00005", "T": to_ms(FUNDING_AT)} | changed
    return binance("markPrice@1s", data)


def binance_ticker(**changed: Any) -> bytes:
    data: Data = {"e": "24hrTicker", "E": NOW_MS, "s": SYMBOL, "p": "1", "P": "1.0", "w": "100.5"}
    data |= {"c": "101", "Q": "1", "o": "100", "h": "103", "l": "99", "v": "500", "q": "50250"}
    data |= {"O": NOW_MS - 86_400_000, "C": NOW_MS, "F": 1, "L": 9, "n": 9} | changed
    return binance("ticker", data)


def aggregate_trade(**changed: Any) -> bytes:
    data: Data = {"e": "aggTrade", "E": NOW_MS, "a": 31, "s": SYMBOL, "p": "100.1", "q": "0.5"}
    data |= {"nq": "0.5", "f": 5, "l": 6, "T": NOW_MS - 3, "m": True} | changed
    return binance("aggTrade", data)


def spot_trade(**changed: Any) -> bytes:
    data: Data = {"e": "trade", "E": NOW_MS, "s": SYMBOL, "t": 31, "p": "100.1", "q": "0.5"}
    return binance("trade", data | {"T": NOW_MS - 3, "m": False, "M": True} | changed)


def bybit_top(*, ts: int = NOW_MS, **changed: Any) -> bytes:
    data: Data = {"s": SYMBOL, "b": [["100.1", "2"]], "a": [["100.2", "3"]], "u": 7, "seq": 70}
    return bybit("orderbook.1", data | changed, ts=ts)


def bybit_kline(*, confirm: bool = True, **changed: Any) -> bytes:
    bar: Data = {"start": NOW_MS, "end": NOW_MS + 3_599_999, "interval": "60", "open": "100.10"}
    bar |= {"close": "101.5", "high": "102.0", "low": "99.9", "volume": "12.5"}
    bar |= {"turnover": "1250.1", "confirm": confirm, "timestamp": NOW_MS} | changed
    return bybit("kline.60", [bar])


LINEAR_TICKER: Data = {
    "symbol": SYMBOL,
    "tickDirection": "PlusTick",
    "price24hPcnt": "0.01",
    "lastPrice": "101",
    "prevPrice24h": "100",
    "highPrice24h": "103",
    "lowPrice24h": "99",
    "prevPrice1h": "100.5",
    "markPrice": "100.15",
    "indexPrice": "100.12",
    "openInterest": "59000",
    "turnover24h": "50250",
    "volume24h": "500",
    "fundingIntervalHour": "8",
    "nextFundingTime": str(to_ms(FUNDING_AT)),
    "fundingRate": "-0.00005",
    "bid1Price": "100.1",
    "bid1Size": "2",
    "ask1Price": "100.2",
    "ask1Size": "3",
    "preOpenPrice": "",
}


def linear_ticker(**changed: Any) -> bytes:
    """A snapshot; None leaves a field out."""
    data = LINEAR_TICKER | changed
    return bybit("tickers", {name: text for name, text in data.items() if text is not None})


def ticker_delta(*, ts: int = NOW_MS + 100, **fields: Any) -> bytes:
    return bybit("tickers", {"symbol": SYMBOL} | fields, kind="delta", ts=ts)


def spot_ticker(**changed: Any) -> bytes:
    data: Data = {"symbol": SYMBOL, "lastPrice": "101", "highPrice24h": "103", "lowPrice24h": "99"}
    data |= {"prevPrice24h": "100", "volume24h": "500", "turnover24h": "50250"}
    data |= {"price24hPcnt": "0.01", "usdIndexPrice": ""}
    return bybit("tickers", data | changed)


def public_trades(*sides: str, **changed: Any) -> bytes:
    return bybit(
        "publicTrade",
        [
            {"T": NOW_MS - 3, "s": SYMBOL, "S": side, "v": "0.5", "p": "100.1", "L": "PlusTick"}
            | {"i": f"trade-{number}", "BT": False}
            | changed
            for number, side in enumerate(sides)
        ],
    )
