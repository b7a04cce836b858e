"""The ASGI application: one port, four providers below their prefixes, and the control surface."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import parse_qsl

from sandbox.binance import Binance
from sandbox.binance_spot import BinanceSpot
from sandbox.binance_spot_stream import BinanceSpotStream
from sandbox.binance_stream import PATH, BinanceStream
from sandbox.bybit import Bybit
from sandbox.bybit_stream import BybitStream
from sandbox.coingecko import CoinGecko
from sandbox.control import Control
from sandbox.faults import FaultBoard
from sandbox.fred import Fred
from sandbox.hub import Hub, Subscriber
from sandbox.limits import RequestLog
from sandbox.replies import Call, Params, Reply, json_reply
from sandbox.streams import Stream, StreamRunner
from sandbox.world import EXCHANGES, World

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BYBIT_SOCKETS = {"/bybit/v5/public/linear": "bybit", "/bybit/v5/public/spot": "bybit_spot"}
BOOK_CALLS = ("depth", "orderbook")
GOODBYE_SECONDS = 1

UNREACHABLE = Reply(503, b"upstream connect error", content_type="text/plain")
BLOCKED = json_reply(
    {"code": 0, "msg": "Service unavailable from a restricted location. See the terms of use."}, 451
)


class Provider(Protocol):
    """The REST side of a provider."""

    @property
    def name(self) -> str:
        """The name faults and counts use."""

    def endpoint(self, path: str) -> str:
        """The name a path is counted under."""

    def over_limit(self, call: Call) -> Reply | None:
        """Count the call against the provider's limit; the refusal if it is too much."""

    def rate_limited(self, retry_after: int) -> Reply:
        """The refusal of a call above the limit."""

    def answer(self, call: Call) -> Reply:
        """The answer to a call."""


class Sandbox:
    """The application: `run` moves its streams, `stop` lets go of everyone who waits."""

    def __init__(self, world: World, stream_rate: float = 1.0) -> None:
        self._world = world
        self._faults = FaultBoard(world.seed)
        self._log = RequestLog()
        self._hub = Hub(self._faults)
        self._streams: dict[str, Stream] = {
            "binance": BinanceStream(world),
            "binance_spot": BinanceSpotStream(world),
            "bybit": BybitStream(world, "bybit", stream_rate),
            "bybit_spot": BybitStream(world, "bybit_spot", stream_rate),
        }
        self._runner = StreamRunner(world, self._hub, self._streams, stream_rate)
        self._control = Control(world, self._faults, self._log, self._hub, self._streams)
        self._prefixes: dict[str, Provider] = {
            "/coingecko/api/v3/": CoinGecko(world),
            "/fred/fred/": Fred(world),
            "/binance/api/": BinanceSpot(world),
            "/binance/": Binance(world),
            "/bybit/": Bybit(world),
        }
        self._stopping = asyncio.Event()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One connection, as ASGI describes it."""
        if scope["type"] == "http":
            await self._serve_http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._serve_socket(scope, receive, send)

    async def run(self) -> None:
        """Move the streams until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._runner.run_quotes())
            group.create_task(self._runner.run_candles())

    def stop(self) -> None:
        """Close the streams and answer the calls that a fault holds back."""
        self._stopping.set()
        for exchange in EXCHANGES:
            self._hub.end_all(exchange)

    async def _serve_http(self, scope: Message, receive: Receive, send: Send) -> None:
        path = scope["path"]
        params = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        if path.startswith("/control/"):
            body = await _body(receive)
            name = path.removeprefix("/control/").rstrip("/")
            reply = self._control.answer(scope["method"], name, params, body)
        else:
            reply = await self._provide(scope, path, params)
        for message in _http_reply(reply, "http.response"):
            await send(message)

    async def _provide(self, scope: Message, path: str, params: Params) -> Reply:
        for prefix, provider in self._prefixes.items():
            if path.startswith(prefix):
                headers = {name.decode(): value.decode() for name, value in scope["headers"]}
                rest = path.removeprefix(prefix).strip("/")
                call = Call(rest, params, headers, self._world.clock.now_ms())
                reply = await self._answer(provider, call, scope["method"])
                self._log.count(provider.name, provider.endpoint(rest), reply.status)
                return reply
        return json_reply({"error": f"nothing is served at {path}"}, 404)

    async def _answer(self, provider: Provider, call: Call, method: str) -> Reply:
        name = provider.name
        if self._faults.is_on(name, "outage"):
            return UNREACHABLE
        if self._faults.hit(name, "geo_block", call.path):
            return BLOCKED
        if (ban := self._faults.current(name, "ban")) and isinstance(provider, Binance):
            if ban.is_known:
                self._log.count_violation(name)
            ban.is_known = True
            return provider.banned(ban.until - time.monotonic())
        if fault := self._faults.hit(name, "timeout", call.path):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), fault.seconds)
            return Reply(504, b"stream timeout", content_type="text/plain")
        if fault := self._faults.hit(name, "rate_limit", call.path):
            return provider.rate_limited(fault.retry_after)
        if fault := self._faults.hit(name, "server_error", call.path):
            return Reply(fault.status, b"<html>Server Error</html>", content_type="text/html")
        if method != "GET":
            return json_reply({"error": "method not allowed"}, 405)
        if refused := provider.over_limit(call):
            self._log.count_violation(name)
            return refused
        if call.path.endswith(BOOK_CALLS) and self._faults.hit(name, "stale_snapshot", call.path):
            call = replace(call, is_stale=True)
        reply = provider.answer(call)
        if self._faults.hit(name, "malformed", call.path):
            return Reply(reply.status, reply.body[: len(reply.body) // 2], reply.headers)
        return reply

    async def _serve_socket(self, scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        found = self._socket(scope)
        if found is None:
            await send({"type": "websocket.close", "code": 1000})
            return
        stream, route, wraps, names = found
        if refusal := self._refusal(stream.name):
            for message in _http_reply(refusal, "websocket.http.response"):
                await send(message)
            return
        await send({"type": "websocket.accept"})
        subscriber = Subscriber(wraps=wraps)
        self._hub.connect(stream.name, subscriber)
        for topic in filter(None, (stream.topic(name, route) for name in names)):
            self._hub.subscribe(subscriber, topic, stream.opened(topic))
        reader = asyncio.create_task(self._read(stream, route, subscriber, receive))
        writer = asyncio.create_task(_write(subscriber, send))
        ends: list[asyncio.Future[Any]] = [reader, writer, subscriber.ended]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._hub.disconnect(stream.name, subscriber)
            reader.cancel()
            writer.cancel()
            read, _ = await asyncio.gather(reader, writer, return_exceptions=True)
        if isinstance(read, Exception):
            raise read
        if subscriber.ended.done():
            # One that does not read takes no goodbye either: the keepalive cuts it off.
            close = {"type": "websocket.close", "code": subscriber.ended.result()}
            with suppress(TimeoutError):
                await asyncio.wait_for(send(close), GOODBYE_SECONDS)

    def _socket(self, scope: Message) -> tuple[Stream, str, bool, list[str]] | None:
        """Stream side, route, whether it wraps, and the topics named in the address."""
        path = scope["path"]
        if exchange := BYBIT_SOCKETS.get(path.rstrip("/")):
            return self._streams[exchange], "", False, []
        if not path.startswith("/binance/"):
            return None
        path = path.removeprefix("/binance")
        exchange = "binance_spot" if path.startswith("/spot/") else "binance"
        match = PATH.fullmatch(path.removeprefix("/spot"))
        if match is None or (match[1] and exchange == "binance_spot"):
            return None
        query = dict(parse_qsl(scope["query_string"].decode()))
        listed = match[3] or query.get("streams", "") if match[2] == "stream" else match[3] or ""
        names = list(filter(None, listed.split("/")))
        return self._streams[exchange], match[1] or "", match[2] == "stream", names

    def _refusal(self, exchange: str) -> Reply | None:
        """Why an exchange takes no new connection now."""
        if self._faults.is_on(exchange, "geo_block"):
            return BLOCKED
        if self._faults.is_on(exchange, "outage") or self._faults.is_on(exchange, "ws_restart"):
            return UNREACHABLE
        return None

    async def _read(
        self, stream: Stream, route: str, subscriber: Subscriber, receive: Receive
    ) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            stream.request(self._hub, subscriber, message.get("text") or "", route)


def _http_reply(reply: Reply, kind: str) -> tuple[Message, Message]:
    """A reply as ASGI wants it, to a call or in place of a WebSocket."""
    headers = {"content-type": reply.content_type, **reply.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", str(len(reply.body)).encode()))
    return (
        {"type": f"{kind}.start", "status": reply.status, "headers": raw},
        {"type": f"{kind}.body", "body": reply.body},
    )


async def _write(subscriber: Subscriber, send: Send) -> None:
    while True:
        await send({"type": "websocket.send", "text": await subscriber.queue.get()})


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)
