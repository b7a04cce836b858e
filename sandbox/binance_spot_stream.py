"""Binance spot WebSocket: what differs from the futures' streams.

Shapes follow developers.binance.com/docs/binance-spot-api-docs: a diff begins with the id after
the last one of the diff before it, the book ticker has no times, partial depth no symbol.
"""

from sandbox.binance import level_texts
from sandbox.binance_stream import BinanceStream, Fields, Rows, traded
from sandbox.books import Book
from sandbox.topics import Kind, Topic
from sandbox.world import Coin


class BinanceSpotStream(BinanceStream):
    """The stream side of Binance's spot market."""

    name = "binance_spot"

    def kind(self, rest: str) -> tuple[Kind, int, int] | None:
        """Kind, size and wall interval in ms of the part of a name behind the symbol."""
        found = super().kind(rest)
        if found is None or found[0] is Kind.MARK:
            return None
        if found[0] in (Kind.DEPTH, Kind.PARTIAL_DEPTH):
            _, _, speed = rest.partition("@")
            if speed not in ("", "100ms"):
                return None
            return found[0], found[1], 100 if speed else 1000
        return found if found[0] is not Kind.TICKER else (Kind.TICKER, 0, 1000)

    def diff(self, coin: Coin, book: Book, before: int, bids: Rows, asks: Rows) -> Fields:
        """A change of the book after the update id `before`."""
        return {
            "e": "depthUpdate",
            "E": book.at_ms,
            "s": coin.listing.symbol,
            "U": before + 1,
            "u": book.update_id,
            "b": bids,
            "a": asks,
        }

    def partial_depth(self, topic: Topic, coin: Coin, book: Book) -> Fields:
        """The best levels of the book; only the stream's name says of which symbol."""
        bids, asks = book.levels()
        return {
            "lastUpdateId": book.update_id,
            "bids": level_texts(coin, bids[: topic.size]),
            "asks": level_texts(coin, asks[: topic.size]),
        }

    def top(self, coin: Coin, book: Book) -> Fields:
        """The best quotes."""
        found = super().top(coin, book)
        return {name: found[name] for name in ("u", "s", "b", "B", "a", "A")}

    def trade(self, kind: Kind, coin: Coin, book: Book) -> Fields:
        """A trade at the best quote, or the same as an aggregate."""
        sells, price, size = traded(coin, book)
        number = book.update_id
        begin = {"e": kind.value, "E": book.at_ms, "s": coin.listing.symbol}
        if kind is Kind.TRADE:
            middle = {"t": number, "p": price, "q": size}
        else:
            middle = {"a": number // 2, "p": price, "q": size, "f": number, "l": number}
        return {**begin, **middle, "T": book.at_ms, "m": sells, "M": True}

    def ticker(self, coin: Coin, now_ms: int) -> Fields | None:
        """The rolling 24 hours, None before there are any."""
        found = super().ticker(coin, now_ms)
        if found is None:
            return None
        quote = self.top(coin, coin.books[self.name])
        return {**found, "x": found["o"], **{name: quote[name] for name in ("b", "B", "a", "A")}}
