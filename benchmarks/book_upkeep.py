"""Order books kept by our rules, beside bare upkeep and beside cryptofeed's own handlers."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from bisect import bisect_left
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import msgspec

from benchmarks.book_traffic import Traffic, binance_depth, bybit_orderbook
from benchmarks.measures import Measure, in_turns
from collectors.exchanges.binance import stream as binance_stream
from collectors.exchanges.bybit import stream as bybit_stream
from collectors.feeds import Feed, Kind, Topic
from collectors.marketdata import EPOCH
from collectors.venues import DepthSnapshot, Level

RUNS = 7
SYMBOL, RECEIVED_AT = "BTCUSDT", EPOCH
BINANCE_LEVELS, BYBIT_LEVELS = 600, 50
OF_THE_FLOOR, OF_THE_PEER = 1 / 0.75, 1 / 3
INSTALL_PEER = (
    "cryptofeed is not installed: run this in an environment of its own, with"
    " `pip install -r requirements.txt` and `pip install -r requirements-benchmarks.txt`,"
    " or leave the peer out with --without cryptofeed"
)
Work = Callable[[], float]  # the sum of best bid and best ask over all messages
Pairs = list[tuple[float, float]]


class Case(NamedTuple):
    """One venue's traffic and the three works on it."""

    name: str
    traffic: Traffic
    ours: Callable[[Traffic], float]
    floor: Callable[[Traffic], float]
    peer: Callable[[Traffic], float]


def measure_books(messages: int, *, with_peer: bool) -> list[Measure]:
    """Microseconds for a message, decoded and applied, the top of the book read each time.

    Raises RuntimeError when the works come to different books, ModuleNotFoundError without the
    peer.
    """
    if with_peer and importlib.util.find_spec("cryptofeed") is None:
        raise ModuleNotFoundError(INSTALL_PEER)
    return [measure for case in _cases(messages) for measure in _measure(case, with_peer)]


def _cases(messages: int) -> list[Case]:
    spot = binance_depth(messages, is_spot=True, levels=BINANCE_LEVELS)
    futures = binance_depth(messages, is_spot=False, levels=BINANCE_LEVELS)
    bybit = bybit_orderbook(2 * messages, levels=BYBIT_LEVELS)
    return [
        Case("Binance spot", spot, _keep_spot, _bare_spot, _peer_spot),
        Case("Binance USD-M", futures, _keep_futures, _bare_futures, _peer_futures),
        Case("Bybit", bybit, _keep_bybit, _bare_bybit, _peer_bybit),
    ]


def _measure(case: Case, with_peer: bool) -> list[Measure]:
    works = [case.ours, case.floor, *([case.peer] if with_peer else [])]
    sums = {round(work(case.traffic), 2) for work in works}
    if len(sums) != 1:
        raise RuntimeError(f"{case.name}: the books differ: {sums}")
    count = len(case.traffic.messages)
    size = sum(map(len, case.traffic.messages)) / count
    runs = [partial(work, case.traffic) for work in works]
    taken = in_turns(RUNS, *runs, clock=time.process_time)
    ours, floor, *peer = (1e6 * seconds / count for seconds in taken)
    beside = f"{size:.0f} bytes; {_rate(ours)} a second beside {_rate(floor)}, sum {sums.pop()}"
    measures = [Measure(f"{case.name}: bare upkeep", ours, floor, "us", OF_THE_FLOOR, beside)]
    if peer:
        beside = f"{_rate(peer[0])} a second"
        claim = f"{case.name}: cryptofeed"
        measures.append(Measure(claim, ours, peer[0], "us", OF_THE_PEER, beside))
    return measures


def _rate(microseconds: float) -> str:
    return f"{1e3 / microseconds:,.0f}k"


# Ours: every message checked for its topic, symbol, bounds, continuity and a crossed book.


def _keep(traffic: Traffic, feed: Feed, topic_name: str) -> float:
    """Through the reader of a connection, as the product does."""
    topic = Topic(
        exchange=feed.exchange,
        symbol=SYMBOL,
        kind=Kind.BOOK,
        name=topic_name,
        group="books",
        quiet_s=None,
    )
    reader = feed.reader()
    reader.follow([topic])
    kept, read, total = reader.books[SYMBOL], reader.read, 0.0
    kept.take_snapshot(_snapshot(traffic, feed.exchange))
    for raw in traffic.messages:
        read(raw, RECEIVED_AT)
        total += kept.book.bid_prices[-1] + kept.book.ask_prices[0]
    if not kept.is_synced or kept.messages != len(traffic.messages):
        raise RuntimeError(f"withheld: {kept.reason}")
    return total


def _snapshot(traffic: Traffic, exchange: str) -> DepthSnapshot:
    bids, asks = (
        tuple(Level(float(price), float(quantity)) for price, quantity in side)
        for side in traffic.start
    )
    return DepthSnapshot(
        exchange=exchange, symbol=SYMBOL, sequence=traffic.sequence, bids=bids, asks=asks
    )


def _keep_spot(traffic: Traffic) -> float:
    return _keep(traffic, binance_stream.SPOT_FEED, "btcusdt@depth@100ms")


def _keep_futures(traffic: Traffic) -> float:
    return _keep(traffic, binance_stream.USDM_FEED, "btcusdt@depth@100ms")


def _keep_bybit(traffic: Traffic) -> float:
    return _keep(traffic, bybit_stream.LINEAR_FEED, f"orderbook.{BYBIT_LEVELS}.{SYMBOL}")


# The floor: typed decode, a dict and a sorted list for each side, and no check at all.


class BareSpotDiff(msgspec.Struct):
    """The fields of a spot diff."""

    E: int
    s: str
    U: int
    u: int
    b: Pairs
    a: Pairs


class BareFuturesDiff(BareSpotDiff):
    """The fields of a USD-M diff."""

    pu: int


class BareSpot(msgspec.Struct):
    """A spot diff as it arrives."""

    stream: str
    data: BareSpotDiff


class BareFutures(msgspec.Struct):
    """A USD-M diff as it arrives."""

    stream: str
    data: BareFuturesDiff


class BareChange(msgspec.Struct):
    """The fields of a book of Bybit's."""

    s: str
    b: Pairs
    a: Pairs
    u: int
    seq: int


class BareBybit(msgspec.Struct):
    """A message of Bybit's as it arrives."""

    topic: str
    type: str
    ts: int
    data: BareChange


class BareBook:
    """Quantities by price, and the prices in order."""

    def __init__(self, bids: Pairs, asks: Pairs) -> None:
        self.sides = [dict(bids), dict(asks)]
        self.prices = [sorted(side) for side in self.sides]

    def apply(self, bids: Pairs, asks: Pairs) -> None:
        """Set the levels, or remove them."""
        for side, prices, changes in zip(self.sides, self.prices, (bids, asks), strict=True):
            for price, quantity in changes:
                if quantity:
                    if price not in side:
                        prices.insert(bisect_left(prices, price), price)
                    side[price] = quantity
                elif price in side:
                    del side[price]
                    del prices[bisect_left(prices, price)]

    def top(self) -> float:
        """Best bid plus best ask."""
        return self.prices[0][-1] + self.prices[1][0]


def _bare_book(traffic: Traffic) -> BareBook:
    bids, asks = ([(float(price), float(size)) for price, size in side] for side in traffic.start)
    return BareBook(bids, asks)


def _bare_diffs(traffic: Traffic, decode: Callable[[bytes], Any]) -> float:
    book, total = _bare_book(traffic), 0.0
    for raw in traffic.messages:
        data = decode(raw).data
        book.apply(data.b, data.a)
        total += book.top()
    return total


def _bare_spot(traffic: Traffic) -> float:
    return _bare_diffs(traffic, msgspec.json.Decoder(BareSpot, strict=False).decode)


def _bare_futures(traffic: Traffic) -> float:
    return _bare_diffs(traffic, msgspec.json.Decoder(BareFutures, strict=False).decode)


def _bare_bybit(traffic: Traffic) -> float:
    decode = msgspec.json.Decoder(BareBybit, strict=False).decode
    book, total = BareBook([], []), 0.0
    for raw in traffic.messages:
        message = decode(raw)
        if message.type == "snapshot":
            book = BareBook(message.data.b, message.data.a)
        else:
            book.apply(message.data.b, message.data.a)
        total += book.top()
    return total


# The peer: cryptofeed's own handlers, its callback reading the top of the book.


class PeerConnection:
    """What the handlers ask of a connection."""

    address = "wss://stream.bybit.com/v5/public/linear"
    uuid = "benchmark"


def _peer(traffic: Traffic, exchange: str, pair: str, kind: str, *, is_seeded: bool) -> float:
    from cryptofeed import exchanges
    from cryptofeed.defines import L2_BOOK
    from cryptofeed.symbols import Symbols
    from cryptofeed.types import OrderBook

    feed_class = getattr(exchanges, exchange)
    Symbols.set(feed_class.id, {pair: "BTCUSDT"}, {"instrument_type": {pair: kind}})
    total = 0.0

    async def read_top(book: Any, _: float) -> None:
        nonlocal total
        total += float(book.book.bids.index(0)[0]) + float(book.book.asks.index(0)[0])

    feed = feed_class(symbols=[pair], channels=[L2_BOOK], callbacks={L2_BOOK: read_top})
    if is_seeded:
        sides = [
            {Decimal(price): Decimal(quantity) for price, quantity in side}
            for side in traffic.start
        ]
        book = OrderBook(feed.id, pair, max_depth=0, bids=sides[0], asks=sides[1])
        book.delta = {}  # the handler takes None for a book that waits for its first diff
        feed._l2_book[pair] = book
        feed.last_update_id = {pair: traffic.sequence}
    texts = [raw.decode() for raw in traffic.messages]

    async def run() -> None:
        connection = PeerConnection()
        for text in texts:
            await feed.message_handler(text, connection, 1.7e9)

    asyncio.run(run())
    return total


def _peer_spot(traffic: Traffic) -> float:
    return _peer(traffic, "Binance", "BTC-USDT", "spot", is_seeded=True)


def _peer_futures(traffic: Traffic) -> float:
    return _peer(traffic, "BinanceFutures", "BTC-USDT-PERP", "perpetual", is_seeded=True)


def _peer_bybit(traffic: Traffic) -> float:
    return _peer(traffic, "Bybit", "BTC-USDT-PERP", "perpetual", is_seeded=False)
