"""HTTP: the live order books.

Prices and quantities are the exchange's own decimals and served as decimal strings, and so are
the amounts computed from them; ratios are numbers.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors import clock
from collectors.livebook import MOST_LEVELS, LiveBook, cut
from collectors.models import Instrument
from collectors.orderbook import OrderBook
from collectors.selectors import BookListing, book_listings, find_listing, live_books
from collectors.sources import FEEDS, VENUES

DEFAULT_LEVELS = 20
# As many digits as the double has: its shortest decimal that reads back as the same double.
EXACT: dict[str, Any] = {"max_digits": None, "decimal_places": None, "normalize_output": True}
# Sums of products of doubles, of which the last digits mean nothing.
NOTIONAL: dict[str, Any] = EXACT | {"decimal_places": 2}


class BookHealthSerializer(serializers.Serializer[Any]):
    """How the book has been kept since the stream process began to follow it.

    `withheld_s` are wall seconds in which it was not served; `latency_ms` is a median, null when
    market time runs faster than wall time.
    """

    synced_since = serializers.DateTimeField(allow_null=True)
    withheld_s = serializers.FloatField()
    gaps = serializers.IntegerField()
    crossings = serializers.IntegerField()
    resyncs = serializers.IntegerField()
    malformed = serializers.IntegerField()
    messages_per_s = serializers.FloatField()
    latency_ms = serializers.FloatField(allow_null=True)


class BookSerializer(serializers.Serializer[Any]):
    """The top of a book, and how it stands.

    A book that is not synchronised says why in `reason`; its best prices are then those that the
    exchange sends apart from the book, null where none are known or all are too old.
    """

    instrument = serializers.CharField()
    exchange = serializers.CharField()
    symbol = serializers.CharField()
    is_synced = serializers.BooleanField()
    reason = serializers.CharField(help_text="empty while the book is synchronised")
    best_bid = serializers.DecimalField(allow_null=True, **EXACT)
    bid_quantity = serializers.DecimalField(allow_null=True, **EXACT)
    best_ask = serializers.DecimalField(allow_null=True, **EXACT)
    ask_quantity = serializers.DecimalField(allow_null=True, **EXACT)
    mid_price = serializers.DecimalField(allow_null=True, **EXACT)
    spread_bps = serializers.FloatField(allow_null=True)
    sequence = serializers.IntegerField(allow_null=True, help_text="the exchange's own")
    event_time = serializers.DateTimeField(allow_null=True, help_text="market time")
    received_at = serializers.DateTimeField(allow_null=True, help_text="wall time")
    age_s = serializers.FloatField(allow_null=True, help_text="wall seconds since received_at")
    health = BookHealthSerializer()


def level() -> serializers.ListField:
    """[price, quantity]."""
    return serializers.ListField(child=serializers.DecimalField(**EXACT))


class DepthSerializer(serializers.Serializer[Any]):
    """The levels of both sides as [price, quantity], best first; none unless synchronised."""

    bids = serializers.ListField(child=level())
    asks = serializers.ListField(child=level())


class TradeCostSerializer(serializers.Serializer[Any]):
    """What a market order would pay or get; `slippage_bps` is measured from the mid price,
    positive when the order pays."""

    average_price = serializers.DecimalField(**EXACT)
    slippage_bps = serializers.FloatField()


class CostSerializer(serializers.Serializer[Any]):
    """What it would cost to trade `quantity` (base units) at once in the levels that are known;
    null where these are too few."""

    quantity = serializers.DecimalField(**EXACT)
    buy = TradeCostSerializer(allow_null=True)
    sell = TradeCostSerializer(allow_null=True)


class BookDetailSerializer(BookSerializer):
    """A book with its levels.

    `imbalance` runs from -1 (all asks) to 1; `depth_bps` gives by "10" and "50" the [bid, ask]
    notional within so many basis points of the mid price, null where the book is not known so far.
    `cost` is null unless a `quantity` is asked about.
    """

    imbalance = serializers.FloatField(allow_null=True)
    depth_bps = serializers.DictField(
        child=serializers.ListField(
            child=serializers.DecimalField(allow_null=True, **NOTIONAL), allow_null=True
        )
    )
    depth = DepthSerializer()
    cost = CostSerializer(allow_null=True)


class BookListQuery(serializers.Serializer[Any]):
    """Which books; all without parameters."""

    instrument = serializers.SlugRelatedField(
        slug_field="coin_id", queryset=Instrument.objects.all(), required=False
    )
    exchange = serializers.ChoiceField(choices=list(FEEDS), required=False)


class BookQuery(serializers.Serializer[Any]):
    """How much of a book."""

    levels = serializers.IntegerField(min_value=1, max_value=MOST_LEVELS, default=DEFAULT_LEVELS)
    quantity = serializers.DecimalField(
        max_digits=30,
        decimal_places=12,
        min_value=Decimal("1e-12"),
        required=False,
        help_text="base units; what trading them would cost, in up to 50 levels of each side",
    )


class BookList(APIView):
    """The newest books."""

    @extend_schema(parameters=[BookListQuery], responses=BookSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Every book that is streamed now, by instrument and exchange, without levels."""
        query = BookListQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        wanted = query.validated_data
        listings = [
            item
            for item in book_listings(at=clock.now())
            if item.is_followed
            and ("instrument" not in wanted or item.coin_id == wanted["instrument"].coin_id)
            and item.exchange == wanted.get("exchange", item.exchange)
        ]
        books = live_books([(item.exchange, item.symbol) for item in listings])
        rows = [_told(item, book) for item, book in zip(listings, books, strict=True)]
        return Response(BookSerializer(rows, many=True).data)


class BookDetail(APIView):
    """One book."""

    @extend_schema(parameters=[BookQuery], responses=BookDetailSerializer)
    def get(self, request: Request, exchange: str, symbol: str) -> Response:
        """The newest state of a symbol's book at an exchange."""
        query = BookQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        if exchange not in VENUES:
            raise NotFound(f"unknown exchange {exchange!r}; known: {', '.join(VENUES)}")
        listing = find_listing(exchange=exchange, symbol=symbol, at=clock.now())
        if listing is None:
            raise NotFound(f"{exchange} has no symbol {symbol!r} that is collected here")
        [book] = live_books([(exchange, symbol)])
        said = _told(listing, book)
        served = cut(book, query.validated_data["levels"])
        said["depth"] = {"bids": served.bids, "asks": served.asks}
        quantity = query.validated_data.get("quantity")
        said["cost"] = None if quantity is None else _cost(book, quantity)
        return Response(BookDetailSerializer(said).data)


def _told(listing: BookListing, book: LiveBook) -> dict[str, Any]:
    """The fields of a book by their names in the answer."""
    said: dict[str, Any] = {name: getattr(book, name) for name in book.__struct_fields__}
    said["instrument"] = listing.coin_id
    said["age_s"] = None
    if book.received_at is not None:
        age = (clock.wall_now() - book.received_at).total_seconds()
        # The writer's clock may be ahead of ours.
        said["age_s"] = round(max(age, 0.0), 3)
    return said


def _cost(book: LiveBook, quantity: Decimal) -> dict[str, Any]:
    """What buying and selling the quantity would cost in all levels that the value holds."""
    kept = OrderBook()
    kept.reset(book.bids, book.asks)
    buy, sell = (kept.cost(side, float(quantity)) for side in ("buy", "sell"))
    return {
        "quantity": quantity,
        "buy": buy and buy._asdict(),
        "sell": sell and sell._asdict(),
    }
