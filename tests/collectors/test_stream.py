"""Streams against a real WebSocket server that loses connections, is silent, or talks nonsense."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from websockets.asyncio.server import ServerConnection, serve

from collectors import clock
from collectors.exchanges import binance, bybit
from collectors.management.commands import stream_market_data
from collectors.marketdata import Candle, Quote, to_ms
from collectors.models import Instrument
from collectors.services import seed_instruments, streaming
from collectors.services.stream_writer import StreamWriter
from collectors.services.streaming import stream_subscriptions
from collectors.stream import Channel, MarketStream, StreamedCandle, backoff

AT = datetime(2025, 3, 3, 9, tzinfo=UTC)
Script = Callable[[ServerConnection, int], Awaitable[None]]


def ticker(number: int) -> str:
    event = {"u": number, "s": "BTCUSDT", "b": "1", "B": "1", "a": "2", "A": "1", "E": to_ms(AT)}
    return json.dumps({"stream": "btcusdt@bookTicker", "data": event})


class Listener:
    """A running stream and what it has handed out."""

    def __init__(self, url: str, **options: Any) -> None:
        self.quotes: list[Quote] = []
        self.candles: list[StreamedCandle] = []
        self.stop = asyncio.Event()
        channel = Channel(name="test", url=url, requests=('{"method":"SUBSCRIBE"}',))
        channel = options.pop("channel", channel)
        self.stream = MarketStream(
            channels=[(channel, options.pop("reader", binance.read_message))],
            on_candle=self.candles.append,
            on_quotes=self.take,
            first_backoff_s=0.01,
            **options,
        )

    async def take(self, quotes: Sequence[Quote]) -> None:
        self.quotes += quotes

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 (any state, not one event)
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def listening(script: Script, **options: Any) -> AsyncIterator[Listener]:
    """A server that plays `script(connection, number of the connection)`, and a stream on it."""
    count = 0

    async def play(connection: ServerConnection) -> None:
        nonlocal count
        count += 1
        await script(connection, count)

    async with serve(play, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        listener = Listener(f"ws://127.0.0.1:{port}/", **options)
        task = asyncio.create_task(listener.stream.run(listener.stop))
        try:
            yield listener
        finally:
            listener.stop.set()
            async with asyncio.timeout(2):
                await task


async def test_a_lost_connection_is_made_again_with_its_subscriptions() -> None:
    requests: list[str | bytes] = []

    async def script(connection: ServerConnection, number: int) -> None:
        requests.append(await connection.recv())
        await connection.send(ticker(number))
        if number == 3:
            await connection.wait_closed()

    async with listening(script) as listener:
        await listener.until(lambda: any(quote.sequence == 3 for quote in listener.quotes))
    assert len(requests) == 3
    assert listener.stream.counts["test"].connections == 3


async def test_only_a_channel_that_has_changed_is_connected_anew() -> None:
    requests: list[str | bytes] = []

    async def script(connection: ServerConnection, number: int) -> None:
        requests.append(await connection.recv())
        await connection.send(ticker(number))
        await connection.wait_closed()

    async with listening(script) as listener:
        (kept,) = listener.stream.channels
        other = dataclasses.replace(kept[0], name="other", requests=("old",))
        listener.stream.subscribe([kept, (other, kept[1])])
        await listener.until(lambda: len(requests) == 2)
        changed = dataclasses.replace(other, requests=("new",))
        listener.stream.subscribe([kept, (changed, kept[1])])
        await listener.until(lambda: len(requests) == 3)
        listener.stream.subscribe([kept])
        await listener.until(lambda: listener.stream._kept.keys() == {"test"})
    assert requests == ['{"method":"SUBSCRIBE"}', "old", "new"]
    assert listener.stream.counts["test"].connections == 1


@pytest.mark.django_db(transaction=True)
async def test_instruments_enabled_later_are_subscribed_to(
    monkeypatch: pytest.MonkeyPatch, market_now: datetime
) -> None:
    monkeypatch.setattr(stream_market_data, "LOOK_INTERVAL_S", 0.01)
    await sync_to_async(seed_instruments)()
    await Instrument.objects.exclude(coin_id="bitcoin").aupdate(is_enabled=False)

    def subscribed() -> list[streaming.Subscription]:
        return stream_subscriptions(at=clock.now())

    listener = Listener("")
    subscriptions = await sync_to_async(subscribed)()
    listener.stream.channels = channels = stream_market_data.channels_of(subscriptions)
    writer = StreamWriter(subscriptions)
    follower = asyncio.create_task(
        stream_market_data.follow_subscriptions(listener.stream, writer, subscribed)
    )
    await asyncio.sleep(0.1)
    assert listener.stream.channels is channels  # nothing has changed
    await Instrument.objects.filter(coin_id="solana").aupdate(is_enabled=True)
    await listener.until(lambda: "SOLUSDT" in str(listener.stream.channels))
    follower.cancel()
    await sync_to_async(connections.close_all)()
    candle = Candle(open_time=AT, open=5, high=9, low=1, close=5, volume=1, source="binance")
    due = writer.choice.due([StreamedCandle("binance", "SOLUSDT", "1h", candle)])
    assert [instrument.coin_id for instrument in due["1h"]] == ["solana"]


async def test_silence_is_a_loss() -> None:
    async def script(connection: ServerConnection, number: int) -> None:
        if number > 1:
            await connection.send(ticker(number))
        await connection.wait_closed()

    async with listening(script, silence_limit_s=0.1) as listener:
        await listener.until(lambda: bool(listener.quotes))


async def test_nonsense_is_counted_and_the_stream_goes_on() -> None:
    async def script(connection: ServerConnection, number: int) -> None:
        for nonsense in ("nonsense", ticker(1).replace(str(to_ms(AT)), "1" + "0" * 40)):
            await connection.send(nonsense)
        await connection.send(ticker(7))
        await connection.wait_closed()

    async with listening(script) as listener:
        await listener.until(lambda: bool(listener.quotes))
        assert listener.stream.counts["test"].malformed == 2
        assert listener.stream.counts["test"].connections == 1


async def test_an_impossible_candle_is_counted_and_handed_on_with_its_reason() -> None:
    kline = {"t": to_ms(AT), "i": "1h", "o": "5", "h": "4", "l": "3", "c": "3", "v": "1", "x": True}
    event = {"stream": "btcusdt@kline_1h", "data": {"s": "BTCUSDT", "k": kline}}
    rejected: list[tuple[StreamedCandle, str]] = []

    async def script(connection: ServerConnection, number: int) -> None:
        await connection.send(json.dumps(event))
        await connection.wait_closed()

    def take(item: StreamedCandle, reason: str) -> None:
        rejected.append((item, reason))

    async with listening(script, on_impossible=take) as listener:
        await listener.until(lambda: bool(rejected))
        assert listener.stream.counts["test"].malformed == 1
    ((item, reason),) = rejected
    assert (item.exchange, item.symbol, item.candle.high) == ("binance", "BTCUSDT", 4.0)
    assert reason == "open outside low and high"
    assert listener.candles == []


async def test_quotes_are_conflated_to_the_newest() -> None:
    async def script(connection: ServerConnection, number: int) -> None:
        for sequence in range(500):
            await connection.send(ticker(sequence))
        await connection.wait_closed()

    async with listening(script) as listener:
        await listener.until(lambda: bool(listener.quotes) and listener.quotes[-1].sequence == 499)
        assert len(listener.quotes) < 100


async def test_the_venues_own_ping_is_sent() -> None:
    pings: list[str | bytes] = []

    async def script(connection: ServerConnection, number: int) -> None:
        async for message in connection:
            pings.append(message)

    (channel,) = bybit.stream_channels("ws://x", candles=[], quotes=["BTCUSDT"])
    assert channel.ping_interval_s == 20
    assert json.loads(channel.requests[0])["args"] == ["orderbook.1.BTCUSDT"]

    async def play(connection: ServerConnection) -> None:
        await script(connection, 1)

    async with serve(play, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        fast = Channel(
            name="pinged",
            url=f"ws://127.0.0.1:{port}/",
            requests=(),
            ping=channel.ping,
            ping_interval_s=0.02,
        )
        listener = Listener("", channel=fast, reader=bybit.read_message)
        task = asyncio.create_task(listener.stream.run(listener.stop))
        await listener.until(lambda: len(pings) >= 3)
        listener.stop.set()
        await task
    assert set(pings) == {'{"op":"ping"}'}


def test_backoff_grows_to_a_cap() -> None:
    assert 0.25 <= backoff(0) <= 0.5
    assert all(15 <= backoff(failures) <= 30 for failures in (8, 20, 500))
