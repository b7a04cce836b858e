"""The streams of both exchanges, as a client that keeps its own book sees them."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import websockets

from tests.sandbox.sockets import apply, ask, collect, open_socket

BINANCE, BYBIT = "/binance/stream", "/bybit/v5/public/linear"


async def test_binance_diffs_rebuild_the_book_of_the_world(calm_world: Any) -> None:
    async with open_socket(calm_world, f"{BINANCE}?streams=ethusdt@depth@100ms") as socket:
        snapshot = await ask(calm_world, "/binance/fapi/v1/depth?symbol=ETHUSDT&limit=1000")
        events = await collect(socket, 2.2)
        truth = await ask(calm_world, "/control/book?exchange=binance&symbol=ETHUSDT")
        events += await collect(socket, 0.3)
    diffs = [event["data"] for event in events]
    assert all(later["pu"] == earlier["u"] for earlier, later in pairwise(diffs))
    assert all(diff["pu"] < diff["U"] <= diff["u"] for diff in diffs)
    last_id = snapshot["lastUpdateId"]
    applied = [diff for diff in diffs if diff["u"] >= last_id]
    assert applied[0]["U"] <= last_id <= applied[0]["u"]
    bids, asks = dict(snapshot["bids"]), dict(snapshot["asks"])
    unknown = 0
    for diff in applied:
        if diff["u"] > truth["update_id"]:
            break
        unknown += apply(bids, diff["b"]) + apply(asks, diff["a"])
    assert bids == dict(truth["bids"]) and asks == dict(truth["asks"])
    assert len(bids) >= 50 and len(asks) >= 50
    assert unknown > 0


async def test_book_ticker_is_the_top_at_its_update_id(calm_world: Any) -> None:
    names = "solusdt@depth5@100ms/solusdt@bookTicker"
    async with open_socket(calm_world, f"{BINANCE}?streams={names}") as socket:
        events = [event["data"] for event in await collect(socket, 1.5)]
    tops = {event["u"]: event for event in events if event["e"] == "bookTicker"}
    partials = [event for event in events if event["e"] == "depthUpdate"]
    assert len(partials) >= 8
    for partial in partials:
        top = tops[partial["u"]]
        assert partial["b"][0] == [top["b"], top["B"]]
        assert partial["a"][0] == [top["a"], top["A"]]
        assert float(top["b"]) < float(top["a"])
        assert len(partial["b"]) == len(partial["a"]) == 5


async def test_bybit_deltas_rebuild_the_book_of_the_world(calm_world: Any) -> None:
    async with open_socket(calm_world, BYBIT) as socket:
        topics = [f"orderbook.{size}.XRPUSDT" for size in (1, 50, 200)]
        await socket.send(json.dumps({"op": "subscribe", "args": topics, "req_id": "9"}))
        events = await collect(socket, 2.2)
        truth = await ask(calm_world, "/control/book?exchange=bybit&symbol=XRPUSDT")
        events += await collect(socket, 0.3)
    acknowledged = [event for event in events if "op" in event]
    assert [(event["success"], event["req_id"]) for event in acknowledged] == [(True, "9")]
    for size in (50, 200):
        name = f"orderbook.{size}.XRPUSDT"
        books = [event for event in events if event.get("topic") == name]
        assert books[0]["type"] == "snapshot"
        assert {event["type"] for event in books[1:]} == {"delta"}
        updates = [event["data"]["u"] for event in books]
        assert updates == list(range(updates[0], updates[0] + len(updates)))
        bids: dict[str, str] = {}
        asks: dict[str, str] = {}
        for event in books:
            if event["data"]["u"] <= truth["topics"][name]:
                assert apply(bids, event["data"]["b"]) + apply(asks, event["data"]["a"]) == 0
        assert bids == dict(truth["bids"][:size]) and asks == dict(truth["asks"][:size])
    single = [event for event in events if event.get("topic") == "orderbook.1.XRPUSDT"]
    assert {event["type"] for event in single} == {"snapshot"}
    assert all(len(event["data"]["b"]) == 1 for event in single)


async def test_bybit_ticker_deltas_leave_out_what_stayed(calm_world: Any) -> None:
    async with open_socket(calm_world, BYBIT) as socket:
        await socket.send('{"op":"subscribe","args":["tickers.BTCUSDT","publicTrade.BTCUSDT"]}')
        await socket.send('{"op":"ping","req_id":"5"}')
        events = await collect(socket, 2)
    assert any(event.get("ret_msg") == "pong" for event in events)
    tickers = [event for event in events if event.get("topic") == "tickers.BTCUSDT"]
    assert tickers[0]["type"] == "snapshot"
    assert {"lastPrice", "fundingRate", "nextFundingTime"} <= tickers[0]["data"].keys()
    deltas = [event["data"] for event in tickers[1:]]
    assert deltas and all(len(delta) < len(tickers[0]["data"]) for delta in deltas)
    assert sum("lastPrice" not in delta for delta in deltas) > len(deltas) / 2
    trades = [event for event in events if event.get("topic") == "publicTrade.BTCUSDT"]
    assert trades and isinstance(trades[0]["data"][0]["p"], str)


async def test_each_candle_closes_once_and_equals_the_rest_one(fast_world: Any) -> None:
    names = "btcusdt@kline_1m/btcusdt@kline_15m/btcusdt@kline_1h"
    async with (
        open_socket(fast_world, f"{BINANCE}?streams={names}") as binance,
        open_socket(fast_world, BYBIT) as bybit,
    ):
        await bybit.send('{"op":"subscribe","args":["kline.15.BTCUSDT"]}')
        events, bybit_events = await asyncio.gather(collect(binance, 2.5), collect(bybit, 2.5))
    closed: dict[str, dict[int, Any]] = defaultdict(dict)
    for event in events:
        kline = event["data"]["k"]
        if kline["x"]:
            assert kline["t"] not in closed[kline["i"]]
            assert kline["T"] < event["data"]["E"]
            closed[kline["i"]][kline["t"]] = kline
        else:
            assert kline["t"] not in closed[kline["i"]]
    for interval, size_ms in (("1m", 60_000), ("15m", 900_000), ("1h", 3_600_000)):
        opens = list(closed[interval])
        assert len(opens) >= 2
        assert opens == list(range(opens[0], opens[0] + len(opens) * size_ms, size_ms))
    for interval in ("15m", "1h"):
        first = min(closed[interval])
        query = f"symbol=BTCUSDT&interval={interval}&startTime={first}"
        served = await ask(fast_world, f"/binance/fapi/v1/klines?{query}")
        for row in served[: len(closed[interval])]:
            kline = closed[interval][row[0]]
            assert row[1:6] == [kline[name] for name in "ohlcv"]
    confirmed = [row for event in bybit_events for row in event.get("data", []) if row["confirm"]]
    assert len({row["start"] for row in confirmed}) == len(confirmed) >= 6
    for row in confirmed:
        if row["start"] in closed["15m"]:
            assert row["close"] == closed["15m"][row["start"]]["c"]


async def test_at_most_ten_quotes_a_second_at_any_speed(fast_world: Any) -> None:
    async with open_socket(fast_world, f"{BINANCE}?streams=bnbusdt@bookTicker") as socket:
        events = await collect(socket, 2)
    assert 5 <= len(events) <= 21


async def test_a_higher_rate_sends_more_of_all_but_candles(start: Callable[..., Any]) -> None:
    world = start("--seed", "5", "--stream-rate", "10", "--more-coins", "6")
    names = "nearusdt@bookTicker/nearusdt@depth@100ms/nearusdt@kline_1m"
    async with open_socket(world, f"{BINANCE}?streams={names}") as socket:
        events = [event["data"] for event in await collect(socket, 2)]
    diffs = [event for event in events if event["e"] == "depthUpdate"]
    assert all(later["pu"] == earlier["u"] for earlier, later in pairwise(diffs))
    assert len(diffs) > 40 and sum(event["e"] == "bookTicker" for event in events) > 40
    assert sum(event["e"] == "kline" for event in events) <= 6


async def test_requests_and_routes_of_binance(calm_world: Any) -> None:
    async with open_socket(calm_world, "/binance/public/ws") as socket:
        await socket.send('{"method":"SUBSCRIBE","params":["btcusdt@bookTicker"],"id":1}')
        await socket.send('{"method":"SUBSCRIBE","params":["btcusdt@kline_1m"],"id":2}')
        await socket.send('{"method":"LIST_SUBSCRIPTIONS","id":3}')
        await socket.send("nonsense")
        events = await collect(socket, 0.5)
        await socket.send('{"method":"UNSUBSCRIBE","params":["btcusdt@bookTicker"],"id":4}')
        await collect(socket, 0.2)
        assert await collect(socket, 0.3) == []
    assert {"result": None, "id": 1} in events
    assert {"result": ["btcusdt@bookTicker"], "id": 3} in events
    assert [event["error"]["code"] for event in events if "error" in event] == [2, 3]
    assert {event["e"] for event in events if "e" in event} == {"bookTicker"}
    names = "btcusdt@markPrice@1s/btcusdt@aggTrade/btcusdt@bookTicker"
    async with open_socket(calm_world, f"/binance/market/stream?streams={names}") as socket:
        kinds = {event["data"]["e"] for event in await collect(socket, 1.2)}
    assert kinds == {"markPriceUpdate", "aggTrade"}


async def test_unknown_addresses_are_refused(calm_world: Any) -> None:
    for path in ("/binance/other", "/bybit/v5/public/inverse", "/elsewhere"):
        with pytest.raises(websockets.exceptions.InvalidStatus):
            async with open_socket(calm_world, path):
                pass


async def test_stream_faults(calm_world: Any, faults: Callable[[object], None]) -> None:
    async with open_socket(calm_world, f"{BINANCE}?streams=dotusdt@depth@100ms") as socket:
        events = await collect(socket, 0.3)
        await asyncio.to_thread(faults, {"binance": {"ws_drop": {"next": 1, "stream": "dot"}}})
        events += await collect(socket, 0.7)
        diffs = [event["data"] for event in events]
        assert sum(later["pu"] != earlier["u"] for earlier, later in pairwise(diffs)) == 1
        await asyncio.to_thread(faults, {"binance": {"ws_duplicate": {"next": 1}}})
        ids = [event["data"]["u"] for event in await collect(socket, 0.7)]
        assert len(ids) == len(set(ids)) + 1
        await asyncio.to_thread(faults, {"binance": {"ws_reorder": {"next": 1}}})
        ids = [event["data"]["u"] for event in await collect(socket, 0.7)]
        assert len(ids) == len(set(ids)) and ids != sorted(ids)
        await asyncio.to_thread(faults, {"binance": {"ws_disconnect": True}})
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            while True:
                await asyncio.wait_for(socket.recv(), 2)
    async with open_socket(calm_world, f"{BINANCE}?streams=dotusdt@depth@100ms") as socket:
        assert await collect(socket, 0.4)


async def test_an_outage_ends_streams_and_refuses_new_ones(
    calm_world: Any, faults: Callable[[object], None]
) -> None:
    async with open_socket(calm_world, BYBIT) as socket:
        await asyncio.to_thread(faults, {"bybit": {"outage": True}})
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 2)
    with pytest.raises(websockets.exceptions.InvalidStatus):
        async with open_socket(calm_world, BYBIT):
            pass
    assert (await asyncio.to_thread(calm_world.call, "/bybit/v5/market/time"))[0] == 503
    await asyncio.to_thread(faults, {"bybit": {"outage": False}})
    async with open_socket(calm_world, BYBIT) as socket:
        await socket.send('{"op":"ping"}')
        assert json.loads(await socket.recv())["ret_msg"] == "pong"


async def test_a_client_that_does_not_read_delays_nobody(fast_world: Any) -> None:
    klines = "/".join(f"{coin}usdt@kline_1m" for coin in ("btc", "eth", "sol", "xrp", "ada"))
    depths = "/".join(f"{coin}usdt@depth@100ms" for coin in ("btc", "eth", "sol", "xrp", "ada"))
    reader, writer = await asyncio.open_connection("127.0.0.1", fast_world.port)
    handshake = (
        f"GET {BINANCE}?streams={klines}/{depths} HTTP/1.1\r\nHost: localhost\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    writer.write(handshake.encode())
    assert b"101" in await reader.readline()
    reader._transport.pause_reading()
    async with open_socket(fast_world, f"{BINANCE}?streams=btcusdt@bookTicker") as socket:
        events = await collect(socket, 2)
    assert len(events) >= 10
    writer.close()


async def test_odd_requests_break_nothing(calm_world: Any) -> None:
    odd = ["[]", "7", '{"op":7,"args":[7]}', '{"op":"subscribe","args":7}', '{"op":"subscribe"}']
    odd += ['{"method":"SUBSCRIBE","params":7}', '{"method":"SUBSCRIBE","params":[[1]]}', "{"]
    odd += ['{"method":"SUBSCRIBE","params":["@","x@depth7@1ms","BTC@trade"]}', '{"op":null}']
    for path in ("/binance/ws", BYBIT):
        async with open_socket(calm_world, path) as socket:
            for text in odd:
                await socket.send(text)
            answers = await collect(socket, 0.4)
            assert len(answers) == len(odd)
    assert calm_world.process.poll() is None
