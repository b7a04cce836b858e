"""Binance USD-M futures WebSocket: stream names, requests and message shapes.

Shapes follow developers.binance.com/docs/derivatives and recorded traffic. Depth and bookTicker
are served below `/public`, the others below `/market`, all on the classic paths.
"""

import re
from dataclasses import dataclass

import msgspec

from sandbox.binance import INTERVALS, kline_extras, level_texts, mark_prices
from sandbox.books import MOST_ID_GAP, Book, Side, Watch
from sandbox.figures import decimal_text
from sandbox.hub import Hub, Subscriber
from sandbox.noise import mix
from sandbox.path import DAY_MS, MINUTE_MS, Candle
from sandbox.topics import Kind, Topic
from sandbox.world import Coin, World

Rows = list[tuple[str, str]]
Fields = dict[str, object]

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


@dataclass
class _Told:
    """What the listeners of a depth topic know: the book up to an id, and what moved since."""

    book: Book
    update_id: int
    watch: Watch


class BinanceStream:
    """The stream side of Binance: what topics mean and what their messages look like."""

    name = "binance"

    def __init__(self, world: World) -> None:
        self._world = world
        self._told: dict[str, _Told] = {}

    def topic(self, name: str, route: str = "") -> Topic | None:
        """The topic of a stream name on a route (`public`, `market` or ""), None if unknown."""
        symbol, _, rest = name.partition("@")
        if not symbol or symbol != symbol.lower():
            return None
        parsed = self.kind(rest)
        if parsed is None or (route and (parsed[0] in PUBLIC) != (route == "public")):
            return None
        return Topic(self.name, name, parsed[0], symbol.upper(), parsed[1], parsed[2])

    def kind(self, rest: str) -> tuple[Kind, int, int] | None:
        """Kind, size and wall interval in ms of the part of a name behind the symbol."""
        return _kind(rest)

    def opened(self, topic: Topic) -> bytes | None:
        """A new subscription: nothing first, but diffs go on from the book of this moment."""
        coin = self._world.by_symbol(self.name, topic.symbol, self._world.clock.now_ms())
        if coin is None or topic.kind is Kind.KLINE:
            return None
        book = self._world.book(self.name, coin)
        book.streamed = True
        if topic.kind is Kind.DEPTH and topic.name not in self._told:
            self._told[topic.name] = _Told(book, book.update_id, book.watch())
        return None

    def closed(self, topic: Topic) -> None:
        """The topic has no listeners any more."""
        told = self._told.pop(topic.name, None)
        if told:
            told.book.unwatch(told.watch)

    def restart(self) -> None:
        """Begin anew: the ids of all books jump."""
        for told in self._told.values():
            told.book.unwatch(told.watch)
        self._told.clear()
        for coin in self._world.coins.values():
            if self.name in coin.books:
                coin.books[self.name].restart()

    def message(self, topic: Topic, coin: Coin, now_ms: int) -> bytes | None:
        """The next message of a topic other than klines, None when there is nothing new."""
        book = coin.books[self.name]
        found: Fields | None
        match topic.kind:
            case Kind.TOP:
                found = self.top(coin, book)
            case Kind.DEPTH:
                found = self._depth(topic, coin, book)
            case Kind.PARTIAL_DEPTH:
                found = self.partial_depth(topic, coin, book)
            case Kind.MARK:
                found = self._mark_price(coin, now_ms)
            case Kind.TICKER:
                found = self.ticker(coin, now_ms)
            case _:
                found = self.trade(topic.kind, coin, book)
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
        known = self._told.items()
        return {name: told.update_id for name, told in known if name.startswith(prefix)}

    def request(self, hub: Hub, subscriber: Subscriber, text: str, route: str) -> None:
        """Answer one request of a client: SUBSCRIBE, UNSUBSCRIBE or LIST_SUBSCRIPTIONS."""
        try:
            message = msgspec.json.decode(text)
            method, number = message["method"], message.get("id")
            wanted = [self.topic(name, route) for name in message.get("params", [])]
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
                hub.subscribe(subscriber, topic, self.opened(topic))
            elif topic and topic.name in subscriber.topics:
                hub.unsubscribe(subscriber, topic)

    def diff(self, coin: Coin, book: Book, before: int, bids: Rows, asks: Rows) -> Fields:
        """A change of the book after the update id `before`."""
        return {
            "e": "depthUpdate",
            "E": book.at_ms,
            "T": book.at_ms,
            "s": coin.listing.symbol,
            "U": before + 1 + mix(0, book.update_id) % MOST_ID_GAP,
            "u": book.update_id,
            "pu": before,
            "b": bids,
            "a": asks,
        }

    def partial_depth(self, topic: Topic, coin: Coin, book: Book) -> Fields:
        """The best levels of the book."""
        bids, asks = book.levels()
        rows = (level_texts(coin, bids[: topic.size]), level_texts(coin, asks[: topic.size]))
        return self.diff(coin, book, book.update_id - 64, *rows)

    def top(self, coin: Coin, book: Book) -> Fields:
        """The best quotes."""
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

    def trade(self, kind: Kind, coin: Coin, book: Book) -> Fields:
        """A trade at the best quote, or the same as an aggregate."""
        sells, price, size = traded(coin, book)
        shared = {"E": book.at_ms, "T": book.at_ms, "s": coin.listing.symbol, "p": price, "q": size}
        number = book.update_id
        if kind is Kind.TRADE:
            return {"e": "trade", **shared, "t": number, "X": "MARKET", "m": sells}
        ids = {"a": number // 2, "f": number, "l": number}
        return {"e": "aggTrade", **shared, "nq": size, **ids, "m": sells}

    def ticker(self, coin: Coin, now_ms: int) -> Fields | None:
        """The rolling 24 hours, None before there are any."""
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

    def _depth(self, topic: Topic, coin: Coin, book: Book) -> Fields | None:
        told = self._told.get(topic.name)
        if told is None:
            self._told[topic.name] = _Told(book, book.update_id, book.watch())
            return None
        before, bids, asks = told.update_id, *book.sides()
        moved = (_rows(coin, bids, told.watch.bids), _rows(coin, asks, told.watch.asks))
        if book.step % 7 == 0:
            # Real books remove levels far below what any snapshot shows.
            moved[0].append((coin.prices[max(1, -bids.ranks[-1] // 2)], coin.sizes[0]))
        told.update_id = book.update_id
        told.watch.bids.clear()
        told.watch.asks.clear()
        return self.diff(coin, book, before, *moved)

    def _mark_price(self, coin: Coin, now_ms: int) -> Fields:
        mark, index = mark_prices(self._world, coin, now_ms)
        funding = coin.funding[self.name]
        rate = funding.rate(funding.next_ms(now_ms))
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
            "T": funding.next_ms(now_ms - 1000),
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


def traded(coin: Coin, book: Book) -> tuple[bool, str, str]:
    """The trade of a step: whether the taker sold, price and size."""
    sells = book.step % 2 == 1
    level = book.top[:2] if sells else book.top[2:]
    ((price, size),) = level_texts(coin, [(level[0], max(1, level[1] // 9))])
    return sells, price, size


def _rows(coin: Coin, side: Side, ranks: set[int]) -> Rows:
    prices, texts, sizes = coin.prices, coin.sizes, side.sizes
    return [(prices[abs(rank)], texts[sizes.get(rank, 0)]) for rank in sorted(ranks)]
