"""Bybit v5 public WebSocket, linear and spot: topics, requests and message shapes.

Shapes follow bybit-exchange.github.io/docs/v5/ws and recorded traffic: a book topic opens with a
snapshot and goes on in deltas with consecutive u, level 1 sends snapshots only and repeats after
three quiet seconds. Linear ticker deltas leave out what did not change; spot tickers are always
snapshots.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from sandbox.binance import kline_extras
from sandbox.books import Book, Levels, Side, Watch
from sandbox.bybit import INTERVALS, last_price, linear_fields, quote_fields, spot_fields
from sandbox.figures import decimal_text
from sandbox.hub import Hub, Subscriber
from sandbox.path import MINUTE_MS, Candle
from sandbox.topics import Kind, Topic
from sandbox.world import Coin, World

BOOK_SIZES = ("1", "50", "200", "1000")
TICKS_PER_FULL_TICKER = 10
QUIET_STEPS = 30
FIRST_UPDATE = 1001
MOST_SPOT_ARGUMENTS = 10


class _Known:
    """What listeners know of one side: the sizes, by rank, of its best `size` levels."""

    def __init__(self, side: Side, size: int) -> None:
        self._size = size
        self.sizes = {rank: side.sizes[rank] for rank in side.ranks[:size]}
        self._last = self._end(side)

    def catch_up(self, side: Side, touched: set[int]) -> Levels:
        """Take over what is new, given the touched ranks; it as ranks and sizes, zero for gone."""
        ranks, sizes, known = side.ranks, side.sizes, self.sizes
        last = self._end(side)
        # Levels that were not touched come into view or leave it at the far end alone.
        before = bisect_right(ranks, self._last)
        edge = ranks[min(before, self._size) : max(before, self._size)]
        far = max(last, self._last)
        moved: Levels = []
        for rank in sorted([*edge, *[rank for rank in touched if rank <= far]]):
            units = sizes.get(rank, 0) if rank <= last else 0
            if units == known.get(rank, 0):
                continue
            moved.append((rank, units))
            if units:
                known[rank] = units
            else:
                del known[rank]
        self._last = last
        return moved

    def _end(self, side: Side) -> float:
        return side.ranks[self._size - 1] if len(side.ranks) >= self._size else math.inf


@dataclass
class _Told:
    """What the listeners of a book topic know, as of a step, and what moved since."""

    book: Book
    watch: Watch
    step: int
    bids: _Known
    asks: _Known


class BybitStream:
    """The stream side of one category of Bybit: what topics mean, what their messages look like.

    `rate` is how many times ten the streams' ticks per wall second are.
    """

    def __init__(self, world: World, name: str, rate: float = 1.0) -> None:
        self.name = name
        self._world = world
        self._rate = rate
        self._is_spot = name == "bybit_spot"
        self._first_update = FIRST_UPDATE
        self._updates: dict[str, int] = {}
        self._told: dict[str, _Told] = {}
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

    def opened(self, topic: Topic) -> bytes | None:
        """The snapshot that a new subscriber of books or tickers gets first."""
        now_ms = self._world.clock.now_ms()
        coin = self._world.by_symbol(self.name, topic.symbol, now_ms)
        if coin is None or topic.kind is Kind.KLINE:
            return None
        book = self._world.book(self.name, coin)
        book.streamed = True
        if topic.kind is Kind.DEPTH:
            if topic.name not in self._told:
                self._follow(topic, book)
            return self._snapshot(topic, coin, self._told[topic.name])
        if topic.kind is Kind.TICKER:
            if topic.name not in self._tickers:
                self._tickers[topic.name] = self._fields(coin, now_ms)
            return _ticker_message(topic, book, "snapshot", self._tickers[topic.name])
        return None

    def closed(self, topic: Topic) -> None:
        """The topic has no listeners any more."""
        self._tickers.pop(topic.name, None)
        told = self._told.pop(topic.name, None)
        if told:
            told.book.unwatch(told.watch)

    def restart(self) -> None:
        """Begin anew: books open with u = 1, and their ids jump."""
        for told in self._told.values():
            told.book.unwatch(told.watch)
        self._told.clear()
        self._tickers.clear()
        self._updates.clear()
        self._first_update = 1
        for coin in self._world.coins.values():
            if self.name in coin.books:
                coin.books[self.name].restart()

    def message(self, topic: Topic, coin: Coin, now_ms: int) -> bytes | None:
        """The next message of a topic other than klines, None when there is nothing new."""
        book = coin.books[self.name]
        match topic.kind:
            case Kind.DEPTH:
                return self._depth(topic, coin, book)
            case Kind.TICKER:
                return self._ticker(topic, coin, book, now_ms)
        return self._trades(topic, coin, book)

    def kline(
        self, topic: Topic, coin: Coin, candle: Candle, now_ms: int, *, closed: bool
    ) -> bytes:
        """A kline message; `closed` once per candle, together with the one that has just begun."""
        rows = [_kline_row(topic, coin, candle, now_ms, closed=closed)]
        forming = coin.path.forming(topic.size, now_ms) if closed else None
        if forming and forming.open_ms == candle.open_ms + topic.size * MINUTE_MS:
            rows.append(_kline_row(topic, coin, forming, now_ms, closed=False))
        return msgspec.json.encode(
            {"topic": topic.name, "data": rows, "ts": now_ms, "type": "snapshot"}
        )

    def states(self, symbol: str) -> dict[str, int]:
        """The last u sent per book topic of a symbol."""
        return {name: self._updates[name] for name in self._told if name.endswith(f".{symbol}")}

    def request(self, hub: Hub, subscriber: Subscriber, text: str, route: str) -> None:
        """Answer one request of a client: subscribe, unsubscribe or ping."""
        try:
            message = msgspec.json.decode(text)
            operation, number = message["op"], message.get("req_id", "")
            names = message.get("args", [])
            wanted = [self.topic(name) for name in names]
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            operation, number, names, wanted = "", "", [], []
        answer = {"success": True, "ret_msg": "", "conn_id": subscriber.number, "req_id": number}
        if operation == "ping":
            answer = {**answer, "ret_msg": "pong", "op": "ping"}
            subscriber.put(msgspec.json.encode(answer).decode())
            return
        if reason := self._refusal(operation, names, wanted):
            answer = {**answer, "success": False, "ret_msg": reason, "op": operation}
            subscriber.put(msgspec.json.encode(answer).decode())
            return
        acknowledged = msgspec.json.encode({**answer, "op": operation}).decode()
        # Real sockets give no order between the acknowledgement and the first data.
        late = operation == "subscribe" and len(subscriber.topics) % 2 == 1
        if not late:
            subscriber.put(acknowledged)
        for topic in wanted:
            if topic and operation == "subscribe" and topic.name not in subscriber.topics:
                hub.subscribe(subscriber, topic, self.opened(topic))
            elif topic and operation == "unsubscribe" and topic.name in subscriber.topics:
                hub.unsubscribe(subscriber, topic)
        if late:
            subscriber.put(acknowledged)

    def _refusal(self, operation: str, names: list[str], wanted: list[Topic | None]) -> str:
        if operation not in ("subscribe", "unsubscribe"):
            return "Invalid op"
        if self._is_spot and len(names) > MOST_SPOT_ARGUMENTS:
            return f"args size >{MOST_SPOT_ARGUMENTS}"
        now_ms = self._world.clock.now_ms()
        for name, topic in zip(names, wanted, strict=True):
            if topic is None:
                return f"error:handler not found,topic:{name}"
            if operation == "subscribe" and (
                self._world.by_symbol(self.name, topic.symbol, now_ms) is None
            ):
                return f"Invalid symbol :[{name}]"
        return ""

    def _follow(self, topic: Topic, book: Book) -> None:
        """Take the book of this moment as what the topic's listeners know."""
        known = [_Known(side, topic.size) for side in book.sides()]
        self._told[topic.name] = _Told(book, book.watch(), book.step, *known)
        self._updates[topic.name] = self._updates.get(topic.name, self._first_update - 1) + 1

    def _depth(self, topic: Topic, coin: Coin, book: Book) -> bytes | None:
        told = self._told.get(topic.name)
        if told is None:
            self._follow(topic, book)
            return self._snapshot(topic, coin, self._told[topic.name])
        bids, asks = book.sides()
        moved_bids = told.bids.catch_up(bids, told.watch.bids)
        moved_asks = told.asks.catch_up(asks, told.watch.asks)
        told.watch.bids.clear()
        told.watch.asks.clear()
        if moved_bids or moved_asks:
            self._updates[topic.name] += 1
        elif topic.size > 1 or book.step - told.step < QUIET_STEPS * self._rate:
            return None
        told.step = book.step
        if topic.size == 1:
            return self._snapshot(topic, coin, told)
        return self._book_message(topic, coin, told.book, "delta", moved_bids, moved_asks)

    def _snapshot(self, topic: Topic, coin: Coin, told: _Told) -> bytes:
        bids, asks = sorted(told.bids.sizes.items()), sorted(told.asks.sizes.items())
        return self._book_message(topic, coin, told.book, "snapshot", bids, asks)

    def _book_message(
        self, topic: Topic, coin: Coin, book: Book, kind: str, bids: Levels, asks: Levels
    ) -> bytes:
        content = {
            "s": topic.symbol,
            "b": _rows(coin, bids),
            "a": _rows(coin, asks),
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

    def _fields(self, coin: Coin, now_ms: int) -> dict[str, str]:
        if self._is_spot:
            return spot_fields(self._world, coin, now_ms)
        return {**linear_fields(self._world, coin, now_ms), **quote_fields(self.name, coin)}

    def _ticker(self, topic: Topic, coin: Coin, book: Book, now_ms: int) -> bytes | None:
        sent = self._tickers.get(topic.name)
        if sent is None:
            self._tickers[topic.name] = self._fields(coin, now_ms)
            return _ticker_message(topic, book, "snapshot", self._tickers[topic.name])
        # The costly fields once a second, and whenever a settlement has passed.
        due = book.step % (TICKS_PER_FULL_TICKER * self._rate) < 1
        if not due and not self._is_spot:
            due = sent["nextFundingTime"] != str(coin.funding[self.name].next_ms(now_ms))
        if self._is_spot:
            fields = self._fields(coin, now_ms) if due else {}
        else:
            fields = self._fields(coin, now_ms) if due else quote_fields(self.name, coin)
        moved = {name: value for name, value in fields.items() if sent.get(name) != value}
        if not moved:
            return None
        sent.update(moved)
        if self._is_spot:
            return _ticker_message(topic, book, "snapshot", sent)
        return _ticker_message(topic, book, "delta", {"symbol": topic.symbol, **moved})

    def _trades(self, topic: Topic, coin: Coin, book: Book) -> bytes:
        sells = book.step % 2 == 1
        size = max(1, book.top[1 if sells else 3] // 9)
        row = {
            "T": book.at_ms,
            "s": topic.symbol,
            "S": "Sell" if sells else "Buy",
            "v": coin.sizes[size],
            "p": coin.prices[last_price(self.name, coin)],
            "L": "MinusTick" if sells else "PlusTick",
            "i": f"{book.update_id:032x}",
            "BT": False,
            "seq": book.update_id,
        }
        return msgspec.json.encode(
            {"topic": topic.name, "type": "snapshot", "ts": book.at_ms, "data": [row]}
        )


def _rows(coin: Coin, levels: Iterable[tuple[int, int]]) -> list[tuple[str, str]]:
    """Levels by rank as text, with a bare "0" where one is gone."""
    prices, sizes = coin.prices, coin.sizes
    return [(prices[abs(rank)], sizes[size] if size else "0") for rank, size in levels]


def _kline_row(topic: Topic, coin: Coin, candle: Candle, now_ms: int, *, closed: bool) -> object:
    path = coin.path
    first, high, low, last = (decimal_text(price, path.price_decimals) for price in candle[1:5])
    return {
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
