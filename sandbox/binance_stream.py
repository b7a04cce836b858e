"""Binance USD-M futures WebSocket: stream names, requests and message shapes.

Shapes follow developers.binance.com/docs/derivatives and recorded traffic. Depth and bookTicker
are served below `/public`, the others below `/market`, all on the classic paths.
"""

import re

import msgspec

from sandbox.binance import INTERVALS, kline_extras, level_texts, mark_prices
from sandbox.books import MOST_ID_GAP, Book, Levels, changes
from sandbox.figures import decimal_text
from sandbox.hub import Hub, Kind, Subscriber, Topic
from sandbox.noise import mix
from sandbox.path import DAY_MS, MINUTE_MS, Candle
from sandbox.world import Coin, World, next_funding_ms

PUBLIC = {Kind.DEPTH, Kind.PARTIAL_DEPTH, Kind.TOP}
PATH = re.compile(r"(?:/(public|market))?/(ws|stream)(?:/(.*))?")
DEPTH = re.compile(r"depth(5|10|20)?(?:@(0|100|250|500)ms)?")
MARK = re.compile(r"markPrice(?:@([13])s)?")
PLAIN = {
    "bookTicker": (Kind.TOP, 100),
    "aggTrade": (Kind.AGGREGATE_TRADE, 100),
    "trade": (Kind.TRADE, 100),
    "ticker": (Kind.TICKER, 2000),
}


class BinanceStream:
    """The stream side of Binance: what topics mean and what their messages look like."""

    name = "binance"

    def __init__(self, world: World) -> None:
        self._world = world
        self._sent: dict[str, tuple[int, Levels, Levels]] = {}

    def topic(self, name: str, route: str = "") -> Topic | None:
        """The topic of a stream name on a route (`public`, `market` or ""), None if unknown."""
        symbol, _, rest = name.partition("@")
        if not symbol or symbol != symbol.lower():
            return None
        parsed = _kind(rest)
        if parsed is None or (route and (parsed[0] in PUBLIC) != (route == "public")):
            return None
        return Topic(self.name, name, parsed[0], symbol.upper(), parsed[1], parsed[2])

    def opened(self, subscriber: Subscriber, topic: Topic) -> None:
        """A new subscription: the first diff goes on from the book of this moment."""
        coin = self._world.by_symbol(topic.symbol, self._world.clock.now_ms())
        if coin is None or topic.kind is Kind.KLINE:
            return
        book = self._world.book(self.name, coin)
        book.streamed = True
        if topic.kind is Kind.DEPTH and topic.name not in self._sent:
            self._sent[topic.name] = (book.update_id, *book.levels())

    def closed(self, topic: Topic) -> None:
        """The topic has no listeners any more."""
        self._sent.pop(topic.name, None)

    def message(self, topic: Topic, coin: Coin, now_ms: int) -> bytes | None:
        """The next message of a topic other than klines, None when there is nothing new."""
        book = coin.books[self.name]
        found: dict[str, object] | None
        match topic.kind:
            case Kind.TOP:
                found = _book_ticker(coin, book)
            case Kind.DEPTH:
                found = self._depth(topic, coin, book)
            case Kind.PARTIAL_DEPTH:
                bids, asks = book.levels()
                found = _depth_update(
                    coin, book, book.update_id - 64, bids[: topic.size], asks[: topic.size]
                )
            case Kind.MARK:
                found = self._mark_price(coin, now_ms)
            case Kind.TICKER:
                found = _ticker(coin, now_ms)
            case _:
                found = _trade(topic.kind, coin, book)
        return msgspec.json.encode(found) if found else None

    def kline(
        self, topic: Topic, coin: Coin, candle: Candle, now_ms: int, *, closed: bool
    ) -> bytes:
        """A kline message; `closed` once per candle."""
        path = coin.path
        quote, trades, taken = kline_extras(coin, candle)
        first, high, low, last = (decimal_text(price, path.price_decimals) for price in candle[1:5])
        return msgspec.json.encode(
            {
                "e": "kline",
                "E": now_ms,
                "s": topic.symbol,
                "k": {
                    "t": candle.open_ms,
                    "T": candle.open_ms + topic.size * MINUTE_MS - 1,
                    "s": topic.symbol,
                    "i": topic.name.rpartition("_")[2],
                    "f": candle.open_ms // 100,
                    "L": candle.open_ms // 100 + trades,
                    "o": first,
                    "c": last,
                    "h": high,
                    "l": low,
                    "v": decimal_text(candle.volume, path.volume_decimals),
                    "n": trades,
                    "x": closed,
                    "q": f"{quote:.8f}",
                    "V": decimal_text(int(candle.volume * taken), path.volume_decimals),
                    "Q": f"{quote * taken:.8f}",
                    "B": "0",
                },
            }
        )

    def states(self, symbol: str) -> dict[str, int]:
        """The last update id sent per depth topic of a symbol."""
        prefix = f"{symbol.lower()}@"
        return {name: sent[0] for name, sent in self._sent.items() if name.startswith(prefix)}

    def _depth(self, topic: Topic, coin: Coin, book: Book) -> dict[str, object] | None:
        bids, asks = book.levels()
        before = self._sent.get(topic.name)
        self._sent[topic.name] = (book.update_id, bids, asks)
        if before is None:
            return None
        changed = (changes(before[1], bids), changes(before[2], asks))
        if book.step % 7 == 0:
            # Real books remove levels far below what any snapshot shows.
            changed[0].append((max(1, bids[-1][0] // 2), 0))
        return _depth_update(coin, book, before[0], *changed)

    def _mark_price(self, coin: Coin, now_ms: int) -> dict[str, object]:
        mark, index = mark_prices(self._world, coin, now_ms)
        rate = self._world.funding_rate(self.name, coin, next_funding_ms(now_ms))
        return {
            "e": "markPriceUpdate",
            "E": now_ms,
            "s": coin.listing.symbol,
            "p": f"{mark:.8f}",
            "ap": f"{mark:.8f}",
            "P": f"{index:.8f}",
            "i": f"{index:.8f}",
            "r": f"{rate:.8f}",
            # The next funding time rolls over a second after the rate has.
            "T": next_funding_ms(now_ms - 1000),
        }


def _kind(rest: str) -> tuple[Kind, int, int] | None:
    """Kind, size and wall interval in ms of the part behind the symbol."""
    if rest in PLAIN:
        kind, every_ms = PLAIN[rest]
        return kind, 0, every_ms
    if rest.startswith("kline_") and rest[6:] in INTERVALS:
        return Kind.KLINE, INTERVALS[rest[6:]], 500
    if match := MARK.fullmatch(rest):
        return Kind.MARK, 0, int(match[1] or 3) * 1000
    if match := DEPTH.fullmatch(rest):
        every_ms = max(100, int(match[2] or 250))
        return (Kind.PARTIAL_DEPTH if match[1] else Kind.DEPTH), int(match[1] or 0), every_ms
    return None


def request(stream: BinanceStream, hub: Hub, subscriber: Subscriber, text: str, route: str) -> None:
    """Answer one request of a client: SUBSCRIBE, UNSUBSCRIBE or LIST_SUBSCRIPTIONS."""
    try:
        message = msgspec.json.decode(text)
        method, number = message["method"], message.get("id")
        names = message.get("params", [])
        wanted = [stream.topic(name, route) for name in names]
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        subscriber.put('{"error":{"code":3,"msg":"Invalid JSON: expected value"}}')
        return
    result: object = None
    if method == "LIST_SUBSCRIPTIONS":
        result = list(subscriber.topics)
    elif method not in ("SUBSCRIBE", "UNSUBSCRIBE") or None in wanted:
        error = {"code": 2, "msg": "Invalid request: unknown method or stream name"}
        subscriber.put(msgspec.json.encode({"error": error, "id": number}).decode())
        return
    subscriber.put(msgspec.json.encode({"result": result, "id": number}).decode())
    for topic in wanted:
        if topic and method == "SUBSCRIBE":
            stream.opened(subscriber, topic)
            hub.subscribe(subscriber, topic)
        elif topic and topic.name in subscriber.topics:
            hub.unsubscribe(subscriber, topic)


def _depth_update(
    coin: Coin, book: Book, before: int, bids: Levels, asks: Levels
) -> dict[str, object]:
    gap = 1 + mix(0, book.update_id) % MOST_ID_GAP
    return {
        "e": "depthUpdate",
        "E": book.at_ms,
        "T": book.at_ms,
        "s": coin.listing.symbol,
        "U": before + gap,
        "u": book.update_id,
        "pu": before,
        "b": level_texts(coin, bids),
        "a": level_texts(coin, asks),
    }


def _book_ticker(coin: Coin, book: Book) -> dict[str, object]:
    (bid, bid_size), (ask, ask_size) = level_texts(coin, [book.top[:2], book.top[2:]])
    return {
        "e": "bookTicker",
        "u": book.update_id,
        "s": coin.listing.symbol,
        "b": bid,
        "B": bid_size,
        "a": ask,
        "A": ask_size,
        "T": book.at_ms,
        "E": book.at_ms,
    }


def _trade(kind: Kind, coin: Coin, book: Book) -> dict[str, object]:
    sells = book.step % 2 == 1
    level = book.top[:2] if sells else book.top[2:]
    ((price, size),) = level_texts(coin, [(level[0], max(1, level[1] // 9))])
    shared = {"E": book.at_ms, "T": book.at_ms, "s": coin.listing.symbol, "p": price, "q": size}
    number = book.update_id
    if kind is Kind.TRADE:
        return {"e": "trade", **shared, "t": number, "X": "MARKET", "m": sells}
    return {
        "e": "aggTrade",
        **shared,
        "nq": size,
        "a": number // 2,
        "f": number,
        "l": number,
        "m": sells,
    }


def _ticker(coin: Coin, now_ms: int) -> dict[str, object] | None:
    day = coin.path.day_summary(now_ms)
    if day is None:
        return None
    decimals, volume = coin.path.price_decimals, day.volume / 10**coin.path.volume_decimals
    return {
        "e": "24hrTicker",
        "E": now_ms,
        "s": coin.listing.symbol,
        "p": decimal_text(day.last - day.first, decimals),
        "P": f"{(day.last / day.first - 1) * 100:.3f}",
        "w": f"{day.turnover / volume if volume else 0:.{decimals}f}",
        "c": decimal_text(day.last, decimals),
        "Q": decimal_text(1, coin.listing.step_decimals),
        "o": decimal_text(day.first, decimals),
        "h": decimal_text(day.high, decimals),
        "l": decimal_text(day.low, decimals),
        "v": decimal_text(day.volume, coin.path.volume_decimals),
        "q": f"{day.turnover:.2f}",
        "O": now_ms - DAY_MS,
        "C": now_ms,
        "F": (now_ms - DAY_MS) // 100,
        "L": now_ms // 100,
        "n": DAY_MS // 100,
    }
