"""What the venues' streams are asked for and what their messages mean."""

import json
from datetime import timedelta
from typing import Any

import pytest

from collectors.exchange import MalformedPayload
from collectors.feeds import (
    ImpossibleCandle,
    Kind,
    MarkPrice,
    PublicTrade,
    Refusal,
    StreamedCandle,
)
from collectors.keptbook import Want
from collectors.marketdata import Candle, Quote
from collectors.sources import FEEDS
from collectors.venues import DayTicker, DepthSnapshot, Level
from tests.collectors import messages
from tests.collectors.messages import AT, FUNDING_AT, NOW_MS, RECEIVED, SYMBOL, following

EXCHANGES = tuple(FEEDS)
ALL = set(Kind)


def read(exchange: str, *raws: bytes) -> list[Any]:
    """What a fresh reader says to each message, in one list."""
    reader = following(exchange)
    return [update for raw in raws for update in reader.read(raw, RECEIVED)]


def names(exchange: str, group: str | None = None, *, kinds: set[Kind] = ALL) -> list[str]:
    topics = FEEDS[exchange].topics(SYMBOL, timeframes=["15m", "1h"], kinds=kinds)
    return [topic.name for topic in topics if group in (None, topic.group)]


def test_the_topics_of_a_symbol_carry_the_venues_names() -> None:
    assert names("binance", "books") == names("binance_spot", "books") == ["btcusdt@depth@100ms"]
    assert names("bybit", "books") == names("bybit_spot", "books") == ["orderbook.200.BTCUSDT"]
    assert names("binance", "tops") == ["btcusdt@bookTicker"]
    assert names("binance", "trades") == ["btcusdt@aggTrade"]
    assert names("binance", "market") == [
        "btcusdt@kline_15m",
        "btcusdt@kline_1h",
        "btcusdt@markPrice@1s",
        "btcusdt@ticker",
    ]
    assert names("binance_spot", "trades") == ["btcusdt@trade"]
    assert "btcusdt@markPrice@1s" not in names("binance_spot")
    assert names("bybit", "tops") == names("bybit_spot", "tops") == ["orderbook.1.BTCUSDT"]
    assert names("bybit", "trades") == ["publicTrade.BTCUSDT"]
    assert set(names("bybit", "market")) == {
        "tickers.BTCUSDT",
        "kline.15.BTCUSDT",
        "kline.60.BTCUSDT",
    }


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_name_is_asked_for_once_and_only_for_the_kinds_that_are_wanted(exchange: str) -> None:
    assert len(set(names(exchange))) == len(names(exchange))
    assert names(exchange, kinds=set()) == []
    for kind in Kind:
        topics = FEEDS[exchange].topics(SYMBOL, timeframes=["1h"], kinds={kind})
        has_none = kind is Kind.MARK and exchange.endswith("_spot")
        assert [topic.kind for topic in topics] == ([] if has_none else [kind])


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_books_tops_candles_and_trades_do_not_share_connections(exchange: str) -> None:
    topics = FEEDS[exchange].topics(SYMBOL, timeframes=["1h"], kinds=ALL)
    groups = {topic.kind: topic.group for topic in topics}
    apart = [groups[kind] for kind in (Kind.BOOK, Kind.TOP, Kind.CANDLE, Kind.TRADE)]
    assert len(set(apart)) == 4
    # Each group with another connection that is about to take its place, one after the other.
    assert FEEDS[exchange].most_connections > len(set(groups.values()))


def test_a_venues_markets_stay_within_its_connections_together() -> None:
    for venue, limit in (("binance", 10), ("bybit", 20)):
        both = [FEEDS[name].most_connections for name in (venue, f"{venue}_spot")]
        assert sum(both) <= limit


def test_addresses() -> None:
    usdm, spot = FEEDS["binance"], FEEDS["binance_spot"]
    addresses = {kind: usdm.url("ws://x", group(usdm, kind)) for kind in ALL}
    public, market = "ws://x/public/stream", "ws://x/market/stream"
    assert addresses == dict.fromkeys(ALL, market) | {Kind.BOOK: public, Kind.TOP: public}
    assert {spot.url("ws://x", group(spot, kind)) for kind in ALL - {Kind.MARK}} == {
        "ws://x/stream"
    }
    assert FEEDS["bybit"].url("ws://x", "books") == "ws://x/linear"
    assert FEEDS["bybit_spot"].url("ws://x", "books") == "ws://x/spot"


def group(feed: Any, kind: Kind) -> str:
    (topic,) = feed.topics(SYMBOL, timeframes=["1h"], kinds={kind})
    return str(topic.group)


def test_binance_takes_many_streams_in_a_request() -> None:
    wanted = [f"a{number}usdt@depth@100ms" for number in range(250)]
    for feed in (FEEDS["binance"], FEEDS["binance_spot"]):
        requests = [json.loads(text) for text in feed.subscribe(wanted)]
        assert {request["method"] for request in requests} == {"SUBSCRIBE"}
        assert [name for request in requests for name in request["params"]] == wanted
        assert all(len(text) < 4096 for text in feed.subscribe(wanted))
        (gone,) = map(json.loads, feed.unsubscribe(wanted[:2]))
        assert (gone["method"], gone["params"]) == ("UNSUBSCRIBE", wanted[:2])
        assert feed.subscribe([]) == []


def test_bybit_is_asked_for_one_topic_at_a_time_under_its_name() -> None:
    wanted = ["orderbook.1.BTCUSDT", "tickers.BTCUSDT"]
    for feed in (FEEDS["bybit"], FEEDS["bybit_spot"]):
        requests = [json.loads(text) for text in feed.subscribe(wanted)]
        assert [request["args"] for request in requests] == [[name] for name in wanted]
        assert [request["req_id"] for request in requests] == wanted
        assert {request["op"] for request in requests} == {"subscribe"}
        assert {json.loads(text)["op"] for text in feed.unsubscribe(wanted)} == {"unsubscribe"}
        assert json.loads(feed.ping) == {"op": "ping"}
        assert feed.ping_interval_s == 20


def test_a_book_is_told_of_when_it_finds_or_loses_its_place() -> None:
    reader = following("bybit")
    book = reader.books[SYMBOL]

    def delta(number: int) -> bytes:
        return messages.bybit_book(kind="delta", u=number, b=[["100.0", "1"]], a=[])

    assert list(reader.read(messages.bybit_book(), RECEIVED)) == [book]
    assert book.is_synced
    assert list(reader.read(delta(8), RECEIVED)) == []
    assert list(reader.read(delta(10), RECEIVED)) == [book]
    assert (book.is_synced, book.gaps) == (False, 1)
    assert list(reader.read(delta(11), RECEIVED)) == []
    assert list(reader.read(messages.bybit_book(u=12), RECEIVED)) == [book]
    assert (book.is_synced, book.resyncs, book.messages) == (True, 1, 5)


@pytest.mark.parametrize("exchange", ["binance", "binance_spot"])
def test_a_book_of_binance_waits_for_its_snapshot(exchange: str) -> None:
    is_spot = exchange == "binance_spot"
    diff = messages.spot_diff if is_spot else messages.futures_diff
    reader = following(exchange)
    book = reader.books[SYMBOL]
    assert list(reader.read(diff(), RECEIVED)) == [book]
    assert (book.is_synced, book.want) == (False, Want.SNAPSHOT)
    level = Level(100.0, 5.0), Level(101.0, 6.0)
    snapshot = DepthSnapshot(
        exchange=exchange, symbol=SYMBOL, sequence=12, bids=level[:1], asks=level[1:]
    )
    assert book.take_snapshot(snapshot)
    view = book.view(5)
    assert view is not None
    assert (view.sequence, view.event_ms) == (15, NOW_MS)
    assert list(view.bids) == [(100.1, 2.0), (100.0, 5.0)]
    assert list(view.asks) == [(100.2, 3.0), (101.0, 6.0)]
    continued = {"U": 16, "u": 16} | ({} if is_spot else {"pu": 15})
    assert list(reader.read(diff(**continued), RECEIVED)) == []
    assert list(reader.read(diff(**continued), RECEIVED)) == [book]  # the same one again
    assert not book.is_synced


def test_the_best_prices_of_bybit_count_otherwise_than_its_book() -> None:
    reader = following("bybit")
    book = reader.books[SYMBOL]
    reader.read(messages.bybit_book(), RECEIVED)
    for number in range(1, 9):
        (quote,) = reader.read(messages.bybit_top(u=7 + number, b=[[f"9{number}", "1"]]), RECEIVED)
        assert isinstance(quote, Quote)
        assert not book.check_top(quote)
        reader.read(messages.bybit_book(kind="delta", u=7 + number, b=[], a=[]), RECEIVED)
    assert (book.is_synced, book.messages) == (True, 9)


def test_books_come_and_go_with_their_topics() -> None:
    for exchange, feed in FEEDS.items():
        reader = following(exchange)
        assert list(reader.books) == [SYMBOL]
        book = reader.books[SYMBOL]
        others = feed.topics("ETHUSDT", timeframes=["1h"], kinds=ALL)
        topics = feed.topics(SYMBOL, timeframes=["1h"], kinds=ALL)
        reader.follow([*topics, *others])
        assert set(reader.books) == {SYMBOL, "ETHUSDT"}
        assert reader.books[SYMBOL] is book
        reader.follow(others)
        assert list(reader.books) == ["ETHUSDT"]
        reader.follow([*topics, *others])
        assert reader.books[SYMBOL] is not book


@pytest.mark.parametrize(
    ("exchange", "raw"),
    [
        ("binance", messages.binance_top()),
        ("binance_spot", messages.spot_top()),
        ("bybit", messages.bybit_top()),
        ("bybit_spot", messages.bybit_top()),
    ],
)
def test_a_top_is_a_quote(exchange: str, raw: bytes) -> None:
    # Spot of Binance gives no time: then the event is as old as the news of it.
    at = RECEIVED if exchange == "binance_spot" else AT
    assert read(exchange, raw) == [
        Quote(
            exchange=exchange,
            symbol=SYMBOL,
            best_bid=100.1,
            bid_quantity=2.0,
            best_ask=100.2,
            ask_quantity=3.0,
            event_time=at,
            received_at=RECEIVED,
            sequence=7,
        )
    ]


def test_a_clock_that_runs_behind_refuses_no_quote() -> None:
    later = NOW_MS + 3_600_000
    (quote,) = read("binance", messages.binance_top(E=later))
    assert quote.event_time - quote.received_at > timedelta(minutes=59)
    assert read("bybit", messages.bybit_top(ts=later))


@pytest.mark.parametrize("side", ["a", "b"])
def test_an_empty_side_is_no_quote(side: str) -> None:
    assert read("bybit", messages.bybit_top(**{side: []})) == []


@pytest.mark.parametrize(
    ("exchange", "closed", "forming"),
    [
        ("binance", messages.binance_kline(), messages.binance_kline(closed=False)),
        ("binance_spot", messages.binance_kline(), messages.binance_kline(closed=False)),
        ("bybit", messages.bybit_kline(), messages.bybit_kline(confirm=False)),
        ("bybit_spot", messages.bybit_kline(), messages.bybit_kline(confirm=False)),
    ],
)
def test_only_a_closed_bar_is_a_candle(exchange: str, closed: bytes, forming: bytes) -> None:
    candle = Candle(
        open_time=AT, open=100.10, high=102.0, low=99.9, close=101.5, volume=12.5, source=exchange
    )
    expected = StreamedCandle(exchange, SYMBOL, "1h", candle)
    assert read(exchange, forming, closed, forming) == [expected]


@pytest.mark.parametrize(
    ("exchange", "raw"),
    [("binance", messages.binance_kline(h="99")), ("bybit", messages.bybit_kline(high="99"))],
)
def test_an_impossible_candle_is_told_with_its_values(exchange: str, raw: bytes) -> None:
    with pytest.raises(ImpossibleCandle) as caught:
        read(exchange, raw)
    item = caught.value.item
    assert (item.exchange, item.symbol, item.timeframe) == (exchange, SYMBOL, "1h")
    assert (item.candle.high, caught.value.reason) == (99.0, "high below low")


MARK = MarkPrice(
    exchange="binance",
    symbol=SYMBOL,
    mark_price=100.15,
    index_price=100.12,
    funding_rate=-0.00005,
    next_funding_time=FUNDING_AT,
    event_time=AT,
    received_at=RECEIVED,
)


@pytest.mark.parametrize("extra", [{}, {"ap": None}, {"brand": {"new": [1]}}])
def test_binance_mark_prices_come_with_their_funding(extra: dict[str, Any]) -> None:
    assert read("binance", messages.mark_price(**extra)) == [MARK]


def test_a_funding_time_is_told_to_the_minute() -> None:
    (mark,) = read("binance", messages.mark_price(T=messages.to_ms(FUNDING_AT) + 7))
    assert mark.next_funding_time == FUNDING_AT


def test_a_dated_contract_has_no_funding() -> None:
    assert read("binance", messages.mark_price(r="", T=0)) == []
    dated = messages.linear_ticker(fundingRate="", nextFundingTime="")
    (day,) = read("bybit", dated, messages.ticker_delta(markPrice="100.2"))
    assert isinstance(day, DayTicker)


def test_bybit_merges_deltas_into_the_snapshot_before() -> None:
    reader = following("bybit")
    snapshot = reader.read(messages.linear_ticker(), RECEIVED)
    mark = {name: getattr(MARK, name) for name in MARK.__struct_fields__} | {"exchange": "bybit"}
    assert snapshot == [MarkPrice(**mark), day_ticker("bybit")]
    later = mark | {"event_time": AT + timedelta(milliseconds=100)}
    delta = reader.read(messages.ticker_delta(markPrice="100.3"), RECEIVED)
    assert delta == [MarkPrice(**later | {"mark_price": 100.3})]
    delta = reader.read(messages.ticker_delta(fundingRate="0.0002"), RECEIVED)
    assert delta == [MarkPrice(**later | {"mark_price": 100.3, "funding_rate": 0.0002})]
    rolled = FUNDING_AT + timedelta(hours=8)
    (update,) = reader.read(
        messages.ticker_delta(nextFundingTime=str(messages.to_ms(rolled))), RECEIVED
    )
    assert isinstance(update, MarkPrice)
    assert (update.next_funding_time, update.funding_rate) == (rolled, 0.0002)
    (day,) = reader.read(messages.ticker_delta(lastPrice="102"), RECEIVED)
    assert isinstance(day, DayTicker)
    assert (day.last_price, day.high) == (102.0, 103.0)
    # What has nothing to do with either, or says the same again, is no news.
    assert reader.read(messages.ticker_delta(bid1Price="100", openInterest="1"), RECEIVED) == ()
    assert reader.read(messages.ticker_delta(markPrice="100.3"), RECEIVED) == ()


def test_a_delta_before_its_snapshot_is_left_alone() -> None:
    delta = messages.ticker_delta(markPrice="100.3", fundingRate="0.1")
    mark, day = read("bybit", delta, messages.linear_ticker())
    assert (mark.mark_price, mark.funding_rate, day.last_price) == (100.15, -0.00005, 101.0)


def test_an_impossible_delta_changes_nothing() -> None:
    reader = following("bybit")
    reader.read(messages.linear_ticker(), RECEIVED)
    for fields in ({"markPrice": "-1"}, {"fundingRate": "nan"}, {"nextFundingTime": "9" * 16}):
        with pytest.raises(MalformedPayload):
            reader.read(messages.ticker_delta(lastPrice="55", **fields), RECEIVED)
    (mark,) = reader.read(messages.ticker_delta(indexPrice="100.2"), RECEIVED)
    assert isinstance(mark, MarkPrice)
    assert (mark.mark_price, mark.index_price, mark.funding_rate) == (100.15, 100.2, -0.00005)


def test_each_connection_merges_for_itself() -> None:
    read("bybit", messages.linear_ticker())
    assert read("bybit", messages.ticker_delta(markPrice="100.3")) == []


def test_a_topic_that_is_followed_again_starts_anew() -> None:
    reader = following("bybit")
    topics = FEEDS["bybit"].topics(SYMBOL, timeframes=["1h"], kinds=ALL)
    assert len(reader.read(messages.linear_ticker(), RECEIVED)) == 2
    reader.follow(topics)
    assert reader.read(messages.ticker_delta(markPrice="100.3"), RECEIVED)
    reader.follow([topic for topic in topics if topic.kind is not Kind.MARK])
    assert reader.read(messages.linear_ticker(), RECEIVED) == ()
    reader.follow(topics)
    assert reader.read(messages.ticker_delta(markPrice="100.4"), RECEIVED) == ()


def day_ticker(exchange: str) -> DayTicker:
    return DayTicker(
        exchange=exchange,
        symbol=SYMBOL,
        last_price=101.0,
        open=100.0,
        high=103.0,
        low=99.0,
        volume=500.0,
        turnover=50250.0,
    )


@pytest.mark.parametrize(
    ("exchange", "raw"),
    [
        ("binance", messages.binance_ticker()),
        ("binance_spot", messages.binance_ticker()),
        ("bybit_spot", messages.spot_ticker()),
    ],
)
def test_tickers_are_the_last_day(exchange: str, raw: bytes) -> None:
    assert read(exchange, raw) == [day_ticker(exchange)]


@pytest.mark.parametrize(
    ("exchange", "raw", "number", "side"),
    [
        ("binance", messages.aggregate_trade(), "31", "sell"),
        ("binance", messages.aggregate_trade(m=False), "31", "buy"),
        ("binance_spot", messages.spot_trade(), "31", "buy"),
        ("binance_spot", messages.spot_trade(X="MARKET", m=True), "31", "sell"),
        ("bybit", messages.public_trades("Buy"), "trade-0", "buy"),
        ("bybit_spot", messages.public_trades("Sell"), "trade-0", "sell"),
    ],
)
def test_trades_carry_the_takers_side(exchange: str, raw: bytes, number: str, side: str) -> None:
    trade = PublicTrade(
        exchange=exchange,
        symbol=SYMBOL,
        trade_id=number,
        price=100.1,
        quantity=0.5,
        side=side,
        traded_at=AT - timedelta(milliseconds=3),
    )
    assert read(exchange, raw) == [trade]


def test_a_message_may_carry_several_trades() -> None:
    found = read("bybit", messages.public_trades("Buy", "Sell", "Buy"))
    assert [trade.side for trade in found] == ["buy", "sell", "buy"]


@pytest.mark.parametrize("origin", ["INSURANCE_FUND", "ADL", "NA"])
def test_what_the_market_did_not_trade_is_no_trade(origin: str) -> None:
    assert read("binance", messages.aggregate_trade(X=origin)) == []
    assert read("binance_spot", messages.spot_trade(X=origin, p="0", q="0")) == []


@pytest.mark.parametrize(
    ("exchange", "answer"),
    [
        ("binance", {"result": None, "id": 1}),
        ("binance_spot", {"id": 1, "result": None}),
        ("bybit", {"success": True, "ret_msg": "", "op": "subscribe", "req_id": "x"}),
        ("bybit", {"success": True, "ret_msg": "pong", "op": "ping", "conn_id": "x"}),
        ("bybit", {"success": False, "ret_msg": "no such topic", "op": "unsubscribe"}),
        (
            "bybit_spot",
            {"success": False, "ret_msg": "error:already subscribed,topic:x", "op": "subscribe"},
        ),
        ("bybit_spot", {"op": "pong", "args": ["1700000000000"]}),
    ],
)
def test_answers_that_refuse_nothing(exchange: str, answer: object) -> None:
    reader = following(exchange)
    assert list(reader.read(messages.compact(answer), RECEIVED)) == []
    assert reader.topic_of(messages.compact(answer)) == ""


@pytest.mark.parametrize(
    ("exchange", "answer", "topic", "reason"),
    [
        ("binance", {"error": {"code": 2, "msg": "Invalid request"}, "id": 1}, "", "2 Invalid"),
        ("binance_spot", {"code": 3, "msg": "Invalid JSON"}, "", "3 Invalid JSON"),
        (
            "bybit",
            {
                "success": False,
                "ret_msg": "error:handler not found,topic:kline.60.NONE",
                "req_id": "kline.60.NONE",
                "op": "subscribe",
            },
            "kline.60.NONE",
            "handler not found",
        ),
    ],
)
def test_a_refusal_names_its_topic_where_it_can(
    exchange: str, answer: object, topic: str, reason: str
) -> None:
    (refusal,) = read(exchange, messages.compact(answer))
    assert isinstance(refusal, Refusal)
    assert (refusal.exchange, refusal.topic) == (exchange, topic)
    assert reason in refusal.reason


@pytest.mark.parametrize(
    ("exchange", "raw", "name"),
    [
        ("binance", messages.binance_top(), "btcusdt@bookTicker"),
        ("bybit", messages.bybit_top(), "orderbook.1.BTCUSDT"),
    ],
)
def test_a_topic_is_found_wherever_its_name_stands(exchange: str, raw: bytes, name: str) -> None:
    reader = following(exchange)
    expected = reader.read(raw, RECEIVED)
    assert len(expected) == 1
    message = json.loads(raw)
    turned = dict(reversed(message.items()))
    escaped = raw.replace(name.encode(), name.replace("b", "\\u0062").encode(), 1)
    for form in (json.dumps(message).encode(), messages.compact(turned), escaped):
        assert reader.topic_of(form) == name
        assert reader.read(form, RECEIVED) == expected


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_unknown_topics_are_left_to_be_counted(exchange: str) -> None:
    reader = following(exchange)
    key = "stream" if "binance" in exchange else "topic"
    raw = messages.compact({key: "something.NEW", "data": {"a": [1, None]}})
    assert list(reader.read(raw, RECEIVED)) == []
    assert reader.topic_of(raw) == "something.NEW"
    reader.follow([])
    assert list(reader.read(messages.bybit_top(), RECEIVED)) == []
    assert list(reader.read(messages.binance_top(), RECEIVED)) == []


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_only_what_comes_by_the_clock_stalls_within_seconds(exchange: str) -> None:
    topics = FEEDS[exchange].topics(SYMBOL, timeframes=["1h"], kinds=ALL)
    quiet = {topic.kind: topic.quiet_s for topic in topics}
    assert quiet[Kind.TRADE] is None  # nobody has to trade
    by_the_clock = {Kind.MARK: 1} if exchange == "binance" else {}
    by_the_clock |= {Kind.TOP: 3} if "bybit" in exchange else {}
    for kind, bound in quiet.items():
        rhythm = by_the_clock.get(kind)
        if rhythm is not None:
            assert bound is not None
            assert 3 * rhythm < bound <= 15
        elif bound is not None:
            assert bound >= 30
