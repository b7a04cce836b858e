"""Each feed against the sandbox, which speaks the venues' protocols without sharing our code."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from websockets.asyncio.client import connect

from collectors.feeds import (
    Kind,
    MarkPrice,
    PublicTrade,
    Refusal,
    StreamedCandle,
    Topic,
    Update,
)
from collectors.keptbook import KeptBook
from collectors.marketdata import Quote
from collectors.sources import FEEDS
from collectors.venues import DayTicker
from tests.collectors.worlds import SandboxWorld, running_world

SYMBOLS = ("BTCUSDT", "ETHUSDT")
# What shows that a topic of the kind was understood.
SAYS: dict[Kind, type] = {
    Kind.BOOK: KeptBook,
    Kind.TOP: Quote,
    Kind.CANDLE: StreamedCandle,
    Kind.MARK: MarkPrice,
    Kind.TICKER: DayTicker,
    Kind.TRADE: PublicTrade,
}


@pytest.fixture(scope="module")
def world() -> Iterator[SandboxWorld]:
    with running_world(speed=3600) as running:
        yield running


class Heard:
    """What came over one connection."""

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.updates: Counter[tuple[str, type]] = Counter()
        self.refusals: list[Refusal] = []

    def is_complete(self, topics: list[Topic]) -> bool:
        """Whether each topic has said what its kind says."""
        said = [(name, kind) for name, found in self.updates for kind in found.__mro__]
        return all((topic.name, SAYS[topic.kind]) in said for topic in topics)


def address(world: SandboxWorld, exchange: str, group: str) -> str:
    host = world.url.replace("http://", "ws://")
    urls = {
        "BINANCE_WS_URL": f"{host}/binance",
        "BINANCE_SPOT_WS_URL": f"{host}/binance/spot",
        "BYBIT_WS_URL": f"{host}/bybit/v5/public",
    }
    return FEEDS[exchange].url(urls[FEEDS[exchange].url_setting], group)


async def hear(
    world: SandboxWorld, exchange: str, group: str, topics: list[Topic], extra: str = ""
) -> Heard:
    """Follow the topics until each has said something, at most ten seconds."""
    feed = FEEDS[exchange]
    reader = feed.reader()
    reader.follow(topics)
    heard = Heard()
    names = [topic.name for topic in topics] + [extra] * bool(extra)
    async with connect(address(world, exchange, group), proxy=None) as connection:
        for request in feed.subscribe(names):
            await connection.send(request)
        if feed.ping:
            await connection.send(feed.ping)
        async with asyncio.timeout(10):
            while not heard.is_complete(topics) or (extra and not heard.refusals):
                raw = await connection.recv(decode=False)
                name = reader.topic_of(raw)
                heard.messages[name] += 1
                found: list[Update] = list(reader.read(raw, datetime.now(UTC)))
                heard.updates.update((name, type(update)) for update in found)
                heard.refusals += [update for update in found if isinstance(update, Refusal)]
    return heard


@pytest.mark.parametrize("exchange", FEEDS)
async def test_every_topic_of_a_feed_is_heard_and_understood(
    world: SandboxWorld, exchange: str
) -> None:
    groups: dict[str, list[Topic]] = {}
    for symbol in SYMBOLS:
        for topic in FEEDS[exchange].topics(symbol, timeframes=["1m", "1h"], kinds=set(Kind)):
            groups.setdefault(topic.group, []).append(topic)
    assert len(groups) == 4
    found = await asyncio.gather(
        *(hear(world, exchange, group, topics) for group, topics in groups.items())
    )
    for heard, topics in zip(found, groups.values(), strict=True):
        assert heard.refusals == []
        assert set(heard.messages) - {""} == {topic.name for topic in topics}


@pytest.mark.parametrize("exchange", ["bybit", "bybit_spot"])
async def test_one_wrong_symbol_does_not_hold_up_the_others(
    world: SandboxWorld, exchange: str
) -> None:
    topics = FEEDS[exchange].topics("BTCUSDT", timeframes=["1h"], kinds={Kind.TOP})
    heard = await hear(world, exchange, "tops", topics, extra="orderbook.1.NOTHERE")
    (refusal,) = heard.refusals
    assert refusal.topic == "orderbook.1.NOTHERE"
    assert "NOTHERE" in refusal.reason


@pytest.mark.parametrize("exchange", FEEDS)
async def test_what_is_unsubscribed_from_falls_silent(world: SandboxWorld, exchange: str) -> None:
    feed = FEEDS[exchange]
    reader = feed.reader()
    gone, kept = (
        topic.name
        for symbol in SYMBOLS
        for topic in feed.topics(symbol, timeframes=[], kinds={Kind.TOP})
    )
    async with connect(address(world, exchange, "tops"), proxy=None) as connection:
        names: list[str] = []

        async def answered(requests: list[str]) -> None:
            """Send them and wait for as many answers, which name no topic."""
            for request in requests:
                await connection.send(request)
            expected = names.count("") + len(requests)
            while names.count("") < expected:
                names.append(reader.topic_of(await connection.recv(decode=False)))

        async with asyncio.timeout(10):
            await answered(feed.subscribe([gone, kept]))
            while not {gone, kept} < set(names):
                names.append(reader.topic_of(await connection.recv(decode=False)))
            await answered(feed.unsubscribe([gone]))
            after = [reader.topic_of(await connection.recv(decode=False)) for _ in range(12)]
    assert set(after) == {kept}
