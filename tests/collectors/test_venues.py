"""The REST clients of the exchanges: against the sandbox's own process, and on payloads written
for these tests."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis

from collectors.budget import CallBudget
from collectors.exchange import MalformedPayload, UnknownSymbol
from collectors.exchanges.binance import Binance, BinanceSpot, weights
from collectors.exchanges.bybit import Bybit, BybitSpot
from collectors.marketdata import to_ms
from collectors.venues import grid, settled_at
from tests.collectors.providers import Provider, json_answer

PROJECT = Path(__file__).resolve().parents[2]
START = datetime(2025, 3, 3, 10, 30, tzinfo=UTC)
DAY_AGO = START - timedelta(days=1)
CLIENTS = {"binance": Binance, "binance_spot": BinanceSpot, "bybit": Bybit, "bybit_spot": BybitSpot}
Client = Any
Open = Callable[[str], Client]


@pytest.fixture(scope="module")
def sandbox_url() -> Iterator[str]:
    """A seeded world at normal speed."""
    command = [sys.executable, "-m", "sandbox", "--port", "0", "--seed", "7"]
    command += ["--start", START.isoformat(), "--speed", "1"]
    child = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    line = child.stdout.readline()
    yield line.split()[3]
    child.terminate()
    child.wait(timeout=10)
    child.stdout.close()


def opened(name: str, url: str, client: redis.Redis) -> Client:
    return CLIENTS[name](base_url=url, budget=CallBudget(client), timeout_s=10)


@pytest.fixture
def world(sandbox_url: str, redis_client: redis.Redis) -> Open:
    """Opens a client of the sandbox."""
    return lambda name: opened(name, f"{sandbox_url}/{name.partition('_')[0]}", redis_client)


@pytest.fixture
def answering(provider: Provider, redis_client: redis.Redis) -> Open:
    """Opens a client of the test's provider."""
    return lambda name: opened(name, provider.url, redis_client)


@pytest.mark.parametrize("name", CLIENTS)
def test_candles_know_their_source(world: Open, name: str) -> None:
    candles = world(name).fetch_candles("BTCUSDT", "1h", DAY_AGO, START - timedelta(hours=1))
    opens = [candle.open_time for candle in candles]
    assert opens == [datetime(2025, 3, 2, 11, tzinfo=UTC) + timedelta(hours=n) for n in range(23)]
    assert {candle.source for candle in candles} == {name}
    with pytest.raises(UnknownSymbol):
        world(name).fetch_candles("NOSUCHUSDT", "1h", DAY_AGO, START)


@pytest.mark.parametrize("name", CLIENTS)
def test_the_book_is_a_book(world: Open, name: str) -> None:
    depth = world(name).fetch_depth("BTCUSDT", 20)
    assert (depth.exchange, depth.symbol) == (name, "BTCUSDT")
    assert len(depth.bids) == len(depth.asks) == 20
    bids, asks = [level.price for level in depth.bids], [level.price for level in depth.asks]
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]
    assert depth.sequence > 0


@pytest.mark.parametrize("name", CLIENTS)
def test_tickers_of_every_symbol(world: Open, name: str) -> None:
    client = world(name)
    tickers = {item.symbol: item for item in client.fetch_day_tickers()}
    tops = {item.symbol: item for item in client.fetch_book_tops()}
    assert set(tickers) == set(tops) > {"BTCUSDT", "SOLUSDT"}
    ticker, top = tickers["BTCUSDT"], tops["BTCUSDT"]
    assert 0 < ticker.low <= ticker.last_price <= ticker.high
    assert ticker.volume > 0 < ticker.turnover
    assert 0 < top.best_bid < top.best_ask
    assert top.bid_quantity > 0 < top.ask_quantity
    assert abs(top.best_bid / ticker.last_price - 1) < 0.05


@pytest.mark.parametrize("name", CLIENTS)
def test_symbols_with_their_grids(world: Open, name: str) -> None:
    symbols = {item.symbol: item for item in world(name).fetch_symbols()}
    bitcoin = symbols["BTCUSDT"]
    assert (bitcoin.exchange, bitcoin.base_asset, bitcoin.quote_asset) == (name, "BTC", "USDT")
    assert (bitcoin.tick_size, bitcoin.quantity_step) == ("0.1", "0.001")
    assert bitcoin.min_notional == "100"
    assert bitcoin.is_trading


@pytest.mark.parametrize("name", ["binance", "bybit"])
def test_settlements_and_outlook(world: Open, name: str) -> None:
    client = world(name)
    settled = client.fetch_settlements("BTCUSDT", START - timedelta(days=100), START)
    times = [item.funding_time for item in settled]
    assert len(times) == 300
    assert all(later - sooner == timedelta(hours=8) for sooner, later in pairwise(times))
    assert times[-1] == datetime(2025, 3, 3, 8, tzinfo=UTC)
    assert all(abs(item.rate) <= 0.0075 for item in settled)
    assert (settled[0].mark_price is None) == (name == "bybit")
    assert client.fetch_settlements("BTCUSDT", times[1], times[2]) == settled[1:2]
    outlooks = {item.symbol: item for item in client.fetch_outlooks()}
    assert outlooks["BTCUSDT"].next_funding_time == datetime(2025, 3, 3, 16, tzinfo=UTC)
    assert outlooks["BTCUSDT"].mark_price > 0


def test_one_call_gives_everybodys_settlements(world: Open, sandbox_url: str) -> None:
    client = world("binance")
    settled = client.fetch_all_settlements(START - timedelta(hours=8), START)
    assert {item.funding_time for item in settled} == {datetime(2025, 3, 3, 8, tzinfo=UTC)}
    assert {item.symbol for item in settled} == {s.symbol for s in client.fetch_symbols()}
    alone = client.fetch_settlements("SOLUSDT", START - timedelta(hours=8), START)
    assert alone == [item for item in settled if item.symbol == "SOLUSDT"]
    assert client.fetch_funding_intervals()["BTCUSDT"] == 8


def funding_row(symbol: str, at: int, **changed: object) -> dict[str, object]:
    row = {"symbol": symbol, "fundingTime": at, "fundingRate": "0.0001", "markPrice": "9.5"}
    return row | changed


def test_a_funding_time_is_its_minute(provider: Provider, answering: Open) -> None:
    at = to_ms(datetime(2025, 3, 3, 8, tzinfo=UTC))
    provider.routes["/fapi/v1/fundingRate"] = lambda _: json_answer(
        [funding_row("BTCUSDT", at + 7), funding_row("ETHUSDT", at + 2, markPrice="")]
    )
    settled = answering("binance").fetch_all_settlements(DAY_AGO, START)
    assert [(item.symbol, item.funding_time) for item in settled] == [
        ("BTCUSDT", settled_at(at)),
        ("ETHUSDT", settled_at(at)),
    ]
    assert [item.mark_price for item in settled] == [9.5, None]


def test_pages_of_settlements_end_where_they_are_cut(provider: Provider, answering: Open) -> None:
    first = to_ms(DAY_AGO)
    rows = [funding_row(f"S{number}", first + number // 700) for number in range(1500)]

    def answer(params: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        since = [row for row in rows if row["fundingTime"] >= int(params["startTime"])]  # type: ignore[operator]
        return json_answer(since[: int(params["limit"])])

    provider.routes["/fapi/v1/fundingRate"] = answer
    settled = answering("binance").fetch_all_settlements(DAY_AGO, START)
    assert len({item.symbol for item in settled}) == 1500
    assert len(provider.requests) == 2


def symbol_row(**changed: object) -> dict[str, object]:
    row: dict[str, object] = {
        "symbol": "XUSDT",
        "contractType": "PERPETUAL",
        "status": "TRADING",
        "baseAsset": "X",
        "quoteAsset": "USDT",
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": "0.00010000"},
            {"filterType": "LOT_SIZE", "stepSize": "1"},
            {"filterType": "MIN_NOTIONAL", "notional": "5.0"},
            {"filterType": "SOMETHING_NEW", "limit": 7},
        ],
    }
    return row | changed


def serve_symbols(provider: Provider, *rows: object) -> None:
    provider.routes["/fapi/v1/exchangeInfo"] = lambda _: json_answer({"symbols": rows})


def test_only_perpetuals_in_tether_are_listed(provider: Provider, answering: Open) -> None:
    serve_symbols(
        provider,
        symbol_row(),
        symbol_row(symbol="XUSDT_250627", contractType="CURRENT_QUARTER"),
        symbol_row(symbol="XUSDC", quoteAsset="USDC"),
        symbol_row(symbol="YUSDT", status="SETTLING"),
        symbol_row(symbol="ZUSDT", filters=[]),
        {"symbol": None},
    )
    listed = answering("binance").fetch_symbols()
    assert [(item.symbol, item.is_trading) for item in listed] == [
        ("XUSDT", True),
        ("YUSDT", False),
    ]
    assert (listed[0].tick_size, listed[0].quantity_step) == ("0.0001", "1")
    assert listed[0].min_notional == "5"


def test_a_list_without_any_readable_row_is_malformed(provider: Provider, answering: Open) -> None:
    serve_symbols(provider, {"symbol": 1}, {})
    with pytest.raises(MalformedPayload):
        answering("binance").fetch_symbols()


def bybit_answer(rows: list[object], **more: object) -> tuple[int, dict[str, str], bytes]:
    return json_answer({"retCode": 0, "retMsg": "OK", "result": {"list": rows} | more})


def bybit_row(symbol: str) -> dict[str, object]:
    return {
        "symbol": symbol,
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "baseCoin": symbol.removesuffix("USDT"),
        "quoteCoin": "USDT",
        "priceFilter": {"tickSize": "0.50"},
        "lotSizeFilter": {"qtyStep": "0.010", "minNotionalValue": "5"},
    }


def test_bybit_lists_in_pages(provider: Provider, answering: Open) -> None:
    pages = {"": ("AUSDT", "next"), "next": ("BUSDT", "")}

    def answer(params: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        symbol, cursor = pages[params.get("cursor", "")]
        return bybit_answer([bybit_row(symbol)], nextPageCursor=cursor)

    provider.routes["/v5/market/instruments-info"] = answer
    assert [item.symbol for item in answering("bybit").fetch_symbols()] == ["AUSDT", "BUSDT"]
    pages[""] = ("AUSDT", "")
    pages["next"] = ("BUSDT", "next")
    pages[""] = ("AUSDT", "next")
    with pytest.raises(MalformedPayload):
        answering("bybit").fetch_symbols()


def bybit_ticker(**changed: object) -> dict[str, object]:
    row: dict[str, object] = {
        "symbol": "XUSDT",
        "lastPrice": "10",
        "prevPrice24h": "9",
        "highPrice24h": "11",
        "lowPrice24h": "8",
        "volume24h": "100",
        "turnover24h": "1000",
        "bid1Price": "9.9",
        "bid1Size": "1",
        "ask1Price": "10.1",
        "ask1Size": "2",
        "markPrice": "10",
        "indexPrice": "10.01",
        "fundingRate": "-0.0001",
        "nextFundingTime": str(to_ms(START)),
    }
    return row | changed


def test_what_a_dated_contract_lacks(provider: Provider, answering: Open) -> None:
    rows: list[object] = [
        bybit_ticker(),
        bybit_ticker(symbol="D1", fundingRate="", nextFundingTime="0", bid1Price="", bid1Size=""),
        bybit_ticker(symbol="BAD", lastPrice="ten"),
        bybit_ticker(symbol="NAN", fundingRate="nan"),
    ]
    provider.routes["/v5/market/tickers"] = lambda _: bybit_answer(rows)
    client = answering("bybit")
    (outlook,) = client.fetch_outlooks()
    assert (outlook.symbol, outlook.rate, outlook.next_funding_time) == ("XUSDT", -0.0001, START)
    assert [item.symbol for item in client.fetch_book_tops()] == ["XUSDT"]
    assert [item.symbol for item in client.fetch_day_tickers()] == ["XUSDT", "D1"]


def test_weights_are_the_venues() -> None:
    depths = (5, 50, 51, 100, 101, 500, 501, 1000)
    assert [weights.FUTURES.depth(limit) for limit in depths] == [2, 2, 5, 5, 10, 10, 20, 20]
    spot = (100, 101, 500, 501, 1000, 1001, 5000)
    assert [weights.SPOT.depth(limit) for limit in spot] == [5, 25, 25, 50, 50, 250, 250]
    assert (weights.SPOT.klines(1000), weights.SPOT.exchange_info) == (2, 20)


@pytest.mark.parametrize(
    ("text", "plain"), [("0.10", "0.1"), ("1e-05", "0.00001"), ("100", "100"), ("1.0", "1")]
)
def test_a_grid_is_a_plain_decimal(text: str, plain: str) -> None:
    assert grid(text) == plain


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "x", "0" * 50 + "1"])
def test_what_is_no_grid(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        grid(text)
