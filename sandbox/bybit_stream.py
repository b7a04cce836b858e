"""Bybit v5 linear WebSocket: topics, requests and message shapes.

Shapes follow bybit-exchange.github.io/docs/v5/ws and recorded traffic: a book topic opens with a
snapshot and goes on in deltas with consecutive u, level 1 sends snapshots only and repeats after
three quiet seconds, ticker deltas leave out what did not change.
"""

import msgspec

from sandbox.binance import kline_extras, level_texts
from sandbox.books import Book, Levels, changes
from sandbox.bybit import INTERVALS, last_price, quote_fields, ticker_fields
from sandbox.figures import decimal_text
from sandbox.hub import Hub, Kind, Subscriber, Topic
from sandbox.path import MINUTE_MS, Candle
from sandbox.world import Coin, World

BOOK_SIZES = ("1", "50", "200")
TICKS_PER_FULL_TICKER = 10
QUIET_STEPS = 30


class BybitStream:
    """The stream side of Bybit: what topics mean and what their messages look like."""

    name = "bybit"

    def __init__(self, world: World) -> None:
        self._world = world
        self._updates: dict[str, int] = {}
        self._books: dict[str, tuple[int, Levels, Levels]] = {}
        self._tickers: dict[str, dict[str, str]] = {}

    def topic(self, name: str, route: str = "") -> Topic | None:
        """The topic of a name such as `orderbook.50.BTCUSDT`, None if unknown."""
        match name.split("."):
            case ["orderbook", size, symbol] if size in BOOK_SIZES:
                return Topic(self.name, name, Kind.DEPTH, symbol, int(size), 100)
            case ["kline", interval, symbol] if interval in INTERVALS:
                return Topic(self.name, name, Kind.KLINE, symbol, INTERVALS[interval], 1000)
            case ["tickers", symbol]:
                return Topic(self.name, name, Kind.TICKER, symbol, 0, 100)
            case ["publicTrade", symbol]:
                return Topic(self.name, name, Kind.TRADE, symbol, 0, 100)
        return None

    def opened(self, subscriber: Subscriber, topic: Topic) -> None:
        """Send a new subscriber of books or tickers the snapshot that the deltas go on from."""
        now_ms = self._world.clock.now_ms()
        coin = self._world.by_symbol(topic.symbol, now_ms)
        if coin is None:
            return
        if topic.kind is Kind.KLINE:
            return
        book = self._world.book(self.name, coin)
        book.streamed = True
        if topic.kind is Kind.DEPTH:
            if topic.name not in self._books:
                self._keep_book(topic, book, 1)
            _, bids, asks = self._books[topic.name]
            message = self._book_message(topic, coin, book, "snapshot", bids, asks)
        elif topic.kind is Kind.TICKER:
            if topic.name not in self._tickers:
                self._tickers[topic.name] = ticker_fields(self._world, coin, now_ms)
            message = _ticker_message(topic, book, "snapshot", self._tickers[topic.name])
        else:
            return
        subscriber.put(message.decode())

    def closed(self, topic: Topic) -> None:
        """The topic has no listeners any more."""
        self._books.pop(topic.name, None)
        self._tickers.pop(topic.name, None)

    def message(self, topic: Topic, coin: Coin, now_ms: int) -> bytes | None:
        """The next message of a topic other than klines, None when there is nothing new."""
        book = coin.books[self.name]
        match topic.kind:
            case Kind.DEPTH:
                return self._depth(topic, coin, book)
            case Kind.TICKER:
                return self._ticker(topic, coin, book, now_ms)
        return _trades(topic, coin, book)

    def kline(
        self, topic: Topic, coin: Coin, candle: Candle, now_ms: int, *, closed: bool
    ) -> bytes:
        """A kline message; `closed` once per candle."""
        path = coin.path
        first, high, low, last = (decimal_text(price, path.price_decimals) for price in candle[1:5])
        row = {
            "start": candle.open_ms,
            "end": candle.open_ms + topic.size * MINUTE_MS - 1,
            "interval": topic.name.split(".")[1],
            "open": first,
            "close": last,
            "high": high,
            "low": low,
            "volume": decimal_text(candle.volume, path.volume_decimals),
            "turnover": f"{kline_extras(coin, candle)[0]:.4f}",
            "confirm": closed,
            "timestamp": now_ms,
        }
        return msgspec.json.encode(
            {"topic": topic.name, "data": [row], "ts": now_ms, "type": "snapshot"}
        )

    def states(self, symbol: str) -> dict[str, int]:
        """The last u sent per book topic of a symbol."""
        return {name: self._updates[name] for name in self._books if name.endswith(f".{symbol}")}

    def _keep_book(self, topic: Topic, book: Book, updates: int) -> None:
        bids, asks = book.levels()
        self._books[topic.name] = (book.step, bids[: topic.size], asks[: topic.size])
        self._updates[topic.name] = self._updates.get(topic.name, 1000) + updates

    def _depth(self, topic: Topic, coin: Coin, book: Book) -> bytes | None:
        if topic.name not in self._books:
            self._keep_book(topic, book, 1)
            _, bids, asks = self._books[topic.name]
            return self._book_message(topic, coin, book, "snapshot", bids, asks)
        step, old_bids, old_asks = self._books[topic.name]
        bids, asks = book.levels()
        changed = (changes(old_bids, bids[: topic.size]), changes(old_asks, asks[: topic.size]))
        if not any(changed):
            if topic.size > 1 or book.step - step < QUIET_STEPS:
                return None
            self._keep_book(topic, book, 0)
            return self._book_message(topic, coin, book, "snapshot", bids[:1], asks[:1])
        self._keep_book(topic, book, 1)
        if topic.size == 1:
            return self._book_message(topic, coin, book, "snapshot", bids[:1], asks[:1])
        return self._book_message(topic, coin, book, "delta", *changed)

    def _book_message(
        self, topic: Topic, coin: Coin, book: Book, kind: str, bids: Levels, asks: Levels
    ) -> bytes:
        content = {
            "s": topic.symbol,
            "b": _levels(coin, bids),
            "a": _levels(coin, asks),
            "u": self._updates[topic.name],
            "seq": book.update_id,
        }
        return msgspec.json.encode(
            {
                "topic": topic.name,
                "type": kind,
                "ts": book.at_ms,
                "data": content,
                "cts": book.at_ms,
            }
        )

    def _ticker(self, topic: Topic, coin: Coin, book: Book, now_ms: int) -> bytes | None:
        sent = self._tickers.get(topic.name)
        if sent is None:
            self._tickers[topic.name] = ticker_fields(self._world, coin, now_ms)
            return _ticker_message(topic, book, "snapshot", self._tickers[topic.name])
        full = book.step % TICKS_PER_FULL_TICKER == 0
        fields = ticker_fields(self._world, coin, now_ms) if full else quote_fields(coin)
        moved = {name: value for name, value in fields.items() if sent.get(name) != value}
        if not moved:
            return None
        sent.update(moved)
        return _ticker_message(topic, book, "delta", {"symbol": topic.symbol, **moved})


def request(
    stream: BybitStream, hub: Hub, subscriber: Subscriber, text: str, connection: str
) -> None:
    """Answer one request of a client: subscribe, unsubscribe or ping."""
    try:
        message = msgspec.json.decode(text)
        operation, number = message["op"], message.get("req_id", "")
        names = message.get("args", [])
        wanted = [stream.topic(name) for name in names]
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        operation, number, names, wanted = "", "", [], []
    answer = {"success": True, "ret_msg": "", "conn_id": connection, "req_id": number}
    if operation == "ping":
        subscriber.put(msgspec.json.encode({**answer, "ret_msg": "pong", "op": "ping"}).decode())
        return
    unknown = [name for name, topic in zip(names, wanted, strict=True) if topic is None]
    if operation not in ("subscribe", "unsubscribe") or unknown:
        reason = f"error:handler not found,topic:{unknown[0]}" if unknown else "Invalid op"
        answer = {**answer, "success": False, "ret_msg": reason}
        subscriber.put(msgspec.json.encode({**answer, "op": operation}).decode())
        return
    subscriber.put(msgspec.json.encode({**answer, "op": operation}).decode())
    for topic in wanted:
        if topic and operation == "subscribe" and topic.name not in subscriber.topics:
            stream.opened(subscriber, topic)
            hub.subscribe(subscriber, topic)
        elif topic and operation == "unsubscribe" and topic.name in subscriber.topics:
            hub.unsubscribe(subscriber, topic)


def _levels(coin: Coin, levels: Levels) -> list[tuple[str, str]]:
    """Levels as text, with a bare "0" where one is gone."""
    texts = level_texts(coin, [*levels])
    return [
        (price, size if units else "0")
        for (price, size), (_, units) in zip(texts, levels, strict=True)
    ]


def _ticker_message(topic: Topic, book: Book, kind: str, fields: dict[str, str]) -> bytes:
    return msgspec.json.encode(
        {
            "topic": topic.name,
            "type": kind,
            "data": fields,
            "cs": book.update_id,
            "ts": book.at_ms,
        }
    )


def _trades(topic: Topic, coin: Coin, book: Book) -> bytes:
    sells = book.step % 2 == 1
    size = max(1, book.top[1 if sells else 3] // 9)
    row = {
        "T": book.at_ms,
        "s": topic.symbol,
        "S": "Sell" if sells else "Buy",
        "v": decimal_text(size, coin.listing.step_decimals),
        "p": decimal_text(last_price(coin), coin.path.price_decimals),
        "L": "MinusTick" if sells else "PlusTick",
        "i": f"{book.update_id:032x}",
        "BT": False,
        "seq": book.update_id,
    }
    return msgspec.json.encode(
        {"topic": topic.name, "type": "snapshot", "ts": book.at_ms, "data": [row]}
    )
