"""Faults of the streams: what a client sees of each, and that it ends when told."""

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import websockets

from tests.sandbox.sockets import ask, collect, open_socket, texts

BINANCE, SPOT = "/binance/stream", "/binance/spot/stream"
LINEAR, BYBIT_SPOT = "/bybit/v5/public/linear", "/bybit/v5/public/spot"

Faults = Callable[[object], None]


async def change(faults: Faults, wanted: object) -> None:
    """Change the world's faults beside the streams."""
    await asyncio.to_thread(faults, wanted)


async def subscribed(socket: Any, *topics: str) -> list[Any]:
    """What comes at once when a Bybit socket subscribes."""
    await socket.send(json.dumps({"op": "subscribe", "args": topics}))
    return await collect(socket, 0.4)


async def test_a_truncated_message_is_no_json_and_breaks_the_chain(
    calm_world: Any, faults: Faults
) -> None:
    async with open_socket(calm_world, f"{BINANCE}?streams=dotusdt@depth@100ms") as socket:
        found = await texts(socket, 0.3)
        await change(faults, {"binance": {"ws_truncate": {"next": 2}}})
        found += await texts(socket, 0.9)
    whole, cut = [], []
    for text in found:
        try:
            whole.append(json.loads(text)["data"])
        except ValueError:
            cut.append(text)
    assert len(cut) == 2 and all(text.startswith('{"stream":"dotusdt') for text in cut)
    assert sum(later["pu"] != earlier["u"] for earlier, later in pairwise(whole)) == 1


async def test_garbage_takes_the_place_of_messages(calm_world: Any, faults: Faults) -> None:
    async with open_socket(calm_world, LINEAR) as socket:
        await subscribed(socket, "orderbook.50.DOTUSDT")
        await change(faults, {"bybit": {"ws_garbage": {"next": 16, "stream": "DOT"}}})
        found = await texts(socket, 2.2)
    odd = [text for text in found if not text.startswith('{"topic":"orderbook.50.DOTUSDT"')]
    assert len(found) > 16 and len(odd) >= 12
    assert any(len(text) > 10_000 for text in odd)
    with pytest.raises(RecursionError):
        json.loads(max(odd, key=len))
    kept = [json.loads(text)["data"]["u"] for text in found[17:]]
    assert kept == list(range(kept[0], kept[0] + len(kept)))


async def test_the_payload_of_another_symbol(calm_world: Any, faults: Faults) -> None:
    async with (
        open_socket(calm_world, f"{SPOT}?streams=adausdt@bookTicker") as spot,
        open_socket(calm_world, LINEAR) as bybit,
    ):
        await subscribed(bybit, "orderbook.50.ADAUSDT")
        wrong = {"ws_wrong_symbol": {"next": 1}}
        await change(faults, {"binance_spot": wrong, "bybit": wrong})
        tops, books = await asyncio.gather(collect(spot, 0.7), collect(bybit, 0.7))
    assert [event["stream"] for event in tops] == ["adausdt@bookTicker"] * len(tops)
    assert sum(event["data"]["s"] == "BTCUSDT" for event in tops) == 1
    assert {event["topic"] for event in books} == {"orderbook.50.ADAUSDT"}
    assert sum(event["data"]["s"] == "BTCUSDT" for event in books) == 1


@pytest.mark.parametrize(
    ("provider", "path", "name"),
    [
        ("binance", BINANCE, "dotusdt@depth@100ms"),
        ("binance", BINANCE, "dotusdt@bookTicker"),
        ("binance_spot", SPOT, "dotusdt@depth10@100ms"),
        ("bybit", LINEAR, "orderbook.50.DOTUSDT"),
        ("bybit", LINEAR, "orderbook.1.DOTUSDT"),
        ("bybit_spot", BYBIT_SPOT, "orderbook.200.DOTUSDT"),
    ],
)
async def test_a_message_that_crosses_its_book(
    calm_world: Any, faults: Faults, provider: str, path: str, name: str
) -> None:
    book = f"/control/book?exchange={provider}&symbol=DOTUSDT"
    bybit = provider.startswith("bybit")
    async with open_socket(calm_world, path if bybit else f"{path}?streams={name}") as socket:
        if bybit:
            await subscribed(socket, name)
        truth = await ask(calm_world, book)
        await change(faults, {provider: {"ws_crossed": {"next": 1}}})
        events = await collect(socket, 1.2)
        while len(events) < 2:  # the machine may be slow: the next one has to come
            events += await collect(socket, 0.2)
    best_ask = float(truth["asks"][0][0])
    bodies = [event["data"] for event in events]
    bids = [body.get("bids", body.get("b")) for body in bodies]
    if name.endswith("bookTicker"):
        crossed = [body for body in bodies if float(body["b"]) > float(body["a"])]
    else:
        crossed = [side for side in bids if side and float(side[0][0]) > best_ask * 1.005]
    assert len(crossed) == 1 and len(bodies) >= 2


async def test_absurd_prices_come_one_after_another(calm_world: Any, faults: Faults) -> None:
    names = ["dotusdt@bookTicker", "dotusdt@depth@100ms", "dotusdt@markPrice@1s"]
    async with open_socket(calm_world, f"{BINANCE}?streams={'/'.join(names)}") as socket:
        await collect(socket, 0.2)
        await change(faults, {"binance": {"ws_absurd": {"next": 24}}})
        events = await collect(socket, 2.0)
    seen: dict[str, set[str]] = {name: set() for name in names}
    for event in events:
        body = event["data"]
        price = body["p"] if "p" in body else body["b"]
        seen[event["stream"]].add(price if isinstance(price, str) else price[0][0])
    absurd = {"-1", "0", "1e308", "NaN", ""}
    assert seen[names[0]] & absurd and seen[names[1]] & absurd
    assert absurd <= seen[names[0]] | seen[names[1]] | seen[names[2]]


@pytest.mark.parametrize("seconds", [-3, 3])
async def test_event_times_before_and_behind_the_clock(
    calm_world: Any, faults: Faults, seconds: float
) -> None:
    late = {"ws_late": {"seconds": seconds}}
    # Before anything is open, or an event from before it could be among the first.
    await change(faults, {"binance": late, "bybit": late})
    async with (
        open_socket(calm_world, f"{BINANCE}?streams=dotusdt@depth/dotusdt@markPrice@1s") as binance,
        open_socket(calm_world, LINEAR) as bybit,
    ):
        await subscribed(bybit, "publicTrade.DOTUSDT", "orderbook.50.DOTUSDT")
        events, others = await asyncio.gather(collect(binance, 1.3), collect(bybit, 1.3))
        now_ms = (await ask(calm_world, "/control/world"))["market_time_ms"]
    stamps = [event["data"]["E"] for event in events] + [event["ts"] for event in others]
    trades = [event["data"][0]["T"] for event in others if "Trade" in event["topic"]]
    assert len(events) > 3 and trades
    for stamp in (*stamps, *trades):
        assert -4 < (now_ms - stamp) / 1000 - seconds < 4
    assert min(abs(now_ms - stamp) for stamp in stamps) > 1000
    marks = [event["data"] for event in events if event["data"]["e"] == "markPriceUpdate"]
    assert marks and all(mark["T"] % 3_600_000 == 0 for mark in marks)


async def test_silence_answers_pings_and_nothing_else(calm_world: Any, faults: Faults) -> None:
    async with (
        open_socket(calm_world, LINEAR) as bybit,
        open_socket(calm_world, f"{BINANCE}?streams=dotusdt@bookTicker/dotusdt@trade") as binance,
    ):
        await change(faults, {"bybit": {"ws_silent": True}})
        await change(faults, {"binance": {"ws_silent": {"stream": "bookTicker"}}})
        answers = await subscribed(bybit, "orderbook.50.DOTUSDT", "tickers.DOTUSDT")
        assert [answer["op"] for answer in answers] == ["subscribe"]
        await collect(binance, 0.1)
        await bybit.send('{"op":"ping"}')
        await asyncio.wait_for(await binance.ping(), 2)
        others, events = await asyncio.gather(collect(bybit, 1), collect(binance, 1))
        assert [answer["ret_msg"] for answer in others] == ["pong"]
        assert {event["stream"] for event in events} == {"dotusdt@trade"}
        await change(faults, {"bybit": {"ws_silent": False}})
        assert len(await collect(bybit, 1)) > 5


async def test_a_restart_closes_refuses_and_begins_anew(start: Callable[..., Any]) -> None:
    world = start("--seed", "5")
    before = await ask(world, "/control/book?exchange=binance&symbol=DOTUSDT")
    async with open_socket(world, LINEAR) as bybit, open_socket(world, BINANCE) as binance:
        first = await subscribed(bybit, "orderbook.50.DOTUSDT", "orderbook.200.DOTUSDT")
        assert min(event["data"]["u"] for event in first if "topic" in event) > 1
        restart = {"ws_restart": {"seconds": 1.0}}
        await change(world.faults, {"bybit": restart, "binance": restart})
        for socket in (bybit, binance):
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                while True:
                    await asyncio.wait_for(socket.recv(), 2)
    for path in (LINEAR, BINANCE):
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            async with open_socket(world, path):
                pass
        assert refused.value.response.status_code == 503
    async with open_socket(world, BYBIT_SPOT):
        pass
    await asyncio.sleep(1.2)
    assert await ask(world, "/control/faults") == {}
    async with open_socket(world, LINEAR) as bybit:
        events = await subscribed(bybit, "orderbook.50.DOTUSDT", "orderbook.200.DOTUSDT")
    for name in ("orderbook.50.DOTUSDT", "orderbook.200.DOTUSDT"):
        books = [event for event in events if event.get("topic") == name]
        assert (books[0]["type"], books[0]["data"]["u"]) == ("snapshot", 1)
        assert [event["data"]["u"] for event in books] == list(range(1, len(books) + 1))
    after = await ask(world, "/binance/fapi/v1/depth?symbol=DOTUSDT&limit=5")
    assert after["lastUpdateId"] > before["update_id"] + 1_000_000


async def test_a_delisted_symbol(calm_world: Any, faults: Faults) -> None:
    async with (
        open_socket(calm_world, LINEAR) as bybit,
        open_socket(calm_world, f"{BINANCE}?streams=dotusdt@trade/adausdt@trade") as binance,
    ):
        await subscribed(bybit, "publicTrade.DOTUSDT")
        gone = {"delisted": {"symbol": "DOTUSDT, XRPUSDT"}}
        await change(faults, {"bybit": gone, "binance": gone})
        await asyncio.gather(collect(bybit, 0.2), collect(binance, 0.2))
        silent, events = await asyncio.gather(collect(bybit, 0.8), collect(binance, 0.8))
        assert silent == [] and {event["data"]["s"] for event in events} == {"ADAUSDT"}
        refused = await subscribed(bybit, "orderbook.50.XRPUSDT")
        assert [answer["success"] for answer in refused] == [False]
        await binance.send('{"method":"SUBSCRIBE","params":["xrpusdt@trade"],"id":1}')
        events = await collect(binance, 0.6)
        assert {"result": None, "id": 1} in events
        assert {event["data"]["s"] for event in events if "data" in event} == {"ADAUSDT"}
    status, body, _ = calm_world.call("/binance/fapi/v1/depth?symbol=DOTUSDT")
    assert (status, body["code"]) == (400, -1121)
    assert calm_world.call("/binance/api/v3/depth?symbol=DOTUSDT")[0] == 200
    for path in ("orderbook", "tickers"):
        query = "category=linear&symbol=DOTUSDT"
        assert calm_world.get(f"/bybit/v5/market/{path}?{query}")["retCode"] == 10001
    listed = calm_world.get("/binance/fapi/v1/exchangeInfo")["symbols"]
    assert "DOTUSDT" not in {row["symbol"] for row in listed} and len(listed) > 5
    await change(faults, {"binance": {"delisted": False}})
    assert calm_world.call("/binance/fapi/v1/depth?symbol=DOTUSDT")[0] == 200
