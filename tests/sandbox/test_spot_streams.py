"""The spot sockets of both exchanges: their own books, by their own rules of continuity."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
import websockets

from tests.sandbox.sockets import apply, ask, collect, open_socket

BINANCE, BYBIT = "/binance/spot/stream", "/bybit/v5/public/spot"


async def test_binance_spot_diffs_rebuild_the_book_of_the_world(calm_world: Any) -> None:
    async with open_socket(calm_world, f"{BINANCE}?streams=ethusdt@depth@100ms") as socket:
        await asyncio.sleep(0.3)
        snapshot = await ask(calm_world, "/binance/api/v3/depth?symbol=ETHUSDT&limit=1000")
        events = await collect(socket, 2.2)
        truth = await ask(calm_world, "/control/book?exchange=binance_spot&symbol=ETHUSDT")
        events += await collect(socket, 0.3)
    assert {event["stream"] for event in events} == {"ethusdt@depth@100ms"}
    diffs = [event["data"] for event in events]
    assert all(later["U"] == earlier["u"] + 1 for earlier, later in pairwise(diffs))
    assert all(set(diff) == {"e", "E", "s", "U", "u", "b", "a"} for diff in diffs)
    last_id = snapshot["lastUpdateId"]
    applied = [diff for diff in diffs if diff["u"] > last_id]
    assert len(applied) < len(diffs)
    assert applied[0]["U"] <= last_id + 1 <= applied[0]["u"]
    bids, asks = dict(snapshot["bids"]), dict(snapshot["asks"])
    for diff in applied:
        if diff["u"] <= truth["update_id"]:
            apply(bids, diff["b"])
            apply(asks, diff["a"])
    assert bids == dict(truth["bids"]) and asks == dict(truth["asks"])
    perpetual = await ask(calm_world, "/control/book?exchange=binance&symbol=ETHUSDT")
    assert perpetual["bids"] != truth["bids"]


async def test_shapes_of_binance_spot(calm_world: Any) -> None:
    names = ["depth5@100ms", "bookTicker", "trade", "aggTrade", "kline_1m", "ticker"]
    streams = "/".join(f"solusdt@{name}" for name in names)
    async with open_socket(calm_world, f"{BINANCE}?streams={streams}") as socket:
        events = await collect(socket, 1.6)
    by_name = {event["stream"].partition("@")[2]: event["data"] for event in events}
    assert set(by_name) == set(names)
    partial = by_name["depth5@100ms"]
    assert set(partial) == {"lastUpdateId", "bids", "asks"} and len(partial["bids"]) == 5
    top = by_name["bookTicker"]
    assert set(top) == {"u", "s", "b", "B", "a", "A"} and top["s"] == "SOLUSDT"
    assert (by_name["trade"]["e"], by_name["aggTrade"]["e"]) == ("trade", "aggTrade")
    assert "X" not in by_name["trade"] and by_name["trade"]["T"] <= by_name["trade"]["E"]
    assert by_name["kline_1m"]["k"]["i"] == "1m"
    assert by_name["ticker"]["e"] == "24hrTicker"
    tops = {event["data"]["u"]: event["data"] for event in events if "bookT" in event["stream"]}
    partials = [event["data"] for event in events if "depth5" in event["stream"]]
    assert len(partials) > 5
    for partial in partials:
        top = tops[partial["lastUpdateId"]]
        assert partial["bids"][0] == [top["b"], top["B"]]


async def test_binance_spot_has_no_futures_streams(calm_world: Any) -> None:
    async with open_socket(calm_world, "/binance/spot/ws") as socket:
        for name in ("btcusdt@markPrice", "btcusdt@depth@500ms"):
            await socket.send(json.dumps({"method": "SUBSCRIBE", "params": [name], "id": 4}))
            assert json.loads(await socket.recv())["error"]["code"] == 2
        await socket.send('{"method":"SUBSCRIBE","params":["btcusdt@bookTicker"],"id":5}')
        events = await collect(socket, 0.5)
    assert events[0] == {"result": None, "id": 5}
    assert "e" not in events[-1] and events[-1]["s"] == "BTCUSDT"
    with pytest.raises(websockets.exceptions.InvalidStatus):
        async with open_socket(calm_world, "/binance/spot/public/ws"):
            pass


async def test_bybit_spot_books_and_tickers(calm_world: Any) -> None:
    topics = ["orderbook.50.XRPUSDT", "tickers.XRPUSDT", "publicTrade.XRPUSDT"]
    async with (
        open_socket(calm_world, BYBIT) as spot,
        open_socket(calm_world, "/bybit/v5/public/linear") as linear,
    ):
        for socket in (spot, linear):
            await socket.send(json.dumps({"op": "subscribe", "args": topics}))
        events, others = await asyncio.gather(collect(spot, 2.2), collect(linear, 2.2))
        truth = await ask(calm_world, "/control/book?exchange=bybit_spot&symbol=XRPUSDT")
        events += await collect(spot, 0.3)
    books = [event for event in events if event.get("topic") == topics[0]]
    assert [event["type"] for event in books] == ["snapshot"] + ["delta"] * (len(books) - 1)
    updates = [event["data"]["u"] for event in books]
    assert updates == list(range(updates[0], updates[0] + len(updates))) and len(updates) > 15
    bids: dict[str, str] = {}
    asks: dict[str, str] = {}
    for event in books:
        if event["data"]["u"] <= truth["topics"][topics[0]]:
            assert apply(bids, event["data"]["b"]) + apply(asks, event["data"]["a"]) == 0
    assert bids == dict(truth["bids"][:50]) and asks == dict(truth["asks"][:50])
    ids = {event["data"]["seq"] for event in others if event.get("topic") == topics[0]}
    assert ids and not ids & {event["data"]["seq"] for event in books}
    tickers = [event for event in events if event.get("topic") == topics[1]]
    assert len(tickers) >= 2
    assert {event["type"] for event in tickers} == {"snapshot"}
    assert {frozenset(event["data"]) for event in tickers} == {frozenset(tickers[0]["data"])}
    assert "lastPrice" in tickers[0]["data"] and "fundingRate" not in tickers[0]["data"]


async def test_bybit_spot_takes_ten_topics_at_once(calm_world: Any) -> None:
    coins = ("BTC", "ETH", "SOL", "XRP", "ADA", "DOT")
    topics = [f"{kind}.{coin}USDT" for coin in coins for kind in ("tickers", "publicTrade")]
    async with open_socket(calm_world, BYBIT) as socket:
        await socket.send(json.dumps({"op": "subscribe", "args": topics[:11]}))
        refused = json.loads(await socket.recv())
        assert refused["success"] is False and "10" in refused["ret_msg"]
        await socket.send(json.dumps({"op": "subscribe", "args": topics[:10]}))
        events = await collect(socket, 0.6)
    assert any(event.get("success") for event in events)
    assert {event["topic"] for event in events if "topic" in event} == set(topics[:10])


async def test_bybit_spot_rest_agrees_with_its_socket(calm_world: Any) -> None:
    query = "category=spot&symbol=LINKUSDT"
    async with open_socket(calm_world, BYBIT) as socket:
        await socket.send('{"op":"subscribe","args":["orderbook.200.LINKUSDT"]}')
        events = await collect(socket, 0.5)
        served = await ask(calm_world, f"/bybit/v5/market/orderbook?{query}&limit=200")
        ticker = await ask(calm_world, f"/bybit/v5/market/tickers?{query}")
        events += await collect(socket, 0.5)
    result = served["result"]
    bids: dict[str, str] = {}
    for event in events:
        if event.get("topic") and event["data"]["seq"] <= result["seq"]:
            apply(bids, event["data"]["b"])
    assert bids == dict(result["b"])
    row = ticker["result"]["list"][0]
    assert "fundingRate" not in row and float(row["bid1Price"]) < float(row["ask1Price"])
