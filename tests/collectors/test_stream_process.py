"""The whole stream process against a sandbox that goes wrong on demand: what it serves is the
truth, or is said not to be."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from collectors import selectors
from collectors.marketdata import Quote
from collectors.models import BookDowntime, BookHour, Instrument
from collectors.sources import FEEDS
from tests.collectors.stream_runs import TOPICS, running
from tests.collectors.toy_venue import until
from tests.collectors.worlds import SandboxWorld, running_world


@pytest.fixture(scope="module")
def world() -> Iterator[SandboxWorld]:
    with running_world(speed=1.0) as found:
        yield found


@pytest.fixture
def connected(world: SandboxWorld, settings: Any, bitcoin: Instrument) -> Iterator[SandboxWorld]:
    """Only bitcoin is collected, from all four markets."""
    settings.CANDLE_SOURCES = tuple(FEEDS)
    Instrument.objects.exclude(pk=bitcoin.pk).update(is_enabled=False)
    bitcoin.source_chain = list(FEEDS)
    bitcoin.save()
    for spot in ("binance_spot", "bybit_spot"):
        bitcoin.listings.create(
            exchange=spot, symbol="BTCUSDT", tick_size="0.01", quantity_step="0.001"
        )
    with world.entered(settings):
        yield world
        world.change_faults({"clear": True})


@pytest.mark.django_db(transaction=True)
async def test_all_four_markets_serve_their_true_books(connected: SandboxWorld) -> None:
    seen: list[Quote] = []
    async with running(watchers=[[].index, seen.append]) as now:
        for exchange in FEEDS:
            value = await now.serves(exchange, lambda book: book.is_synced)
            assert value.best_bid is not None and value.best_ask is not None
            assert 0 < value.best_bid < value.best_ask
            assert (value.best_bid, value.bid_quantity) == value.bids[0]
            assert (value.best_ask, value.ask_quantity) == value.asks[0]
            assert len(value.bids) == len(value.asks) == 50
            assert value.reason == ""
            assert value.imbalance is not None and -1 < value.imbalance < 1
            ten, fifty = value.depth_bps["10"], value.depth_bps["50"]
            assert ten is not None and ten[0] and ten[0] > 0
            assert fifty is not None
            await now.is_true(connected, exchange)
        served = await now.serves("binance", lambda book: book.health.messages_per_s > 0)
        assert 5 < served.health.messages_per_s < 15
        # The world's own time is another year; its stamps are of milliseconds ago.
        assert served.health.latency_ms is not None
        assert -2_000 < served.health.latency_ms < 10_000
        assert served.health.gaps == served.health.malformed == served.health.resyncs == 0
        lines = {count.name: count for count in now.process.stream.counts()}
        assert all(count.malformed == count.unknown == 0 for count in lines.values())
        # Whoever watches is called with every quote, also after another one that raises.
        assert {quote.exchange for quote in seen} == set(FEEDS)
        assert await now.client.get("heartbeat:stream")
        assert await now.client.get("tape:binance:BTCUSDT")
        assert await now.client.get("funding:binance:BTCUSDT")
    for exchange in FEEDS:
        # What is not followed looks dead at once.
        assert selectors.latest_quote(exchange=exchange, symbol="BTCUSDT") is None
        hour = await BookHour.objects.aget(exchange=exchange)
        assert hour.synced_s > 1 and hour.spread_bps_mean and hour.spread_bps_mean > 0
        downs = [row async for row in BookDowntime.objects.filter(exchange=exchange)]
        assert downs and all(row.ended_at is not None for row in downs)
        assert downs[0].reason == "not yet synchronised"


@pytest.mark.django_db(transaction=True)
async def test_instruments_come_and_go_without_a_new_connection(connected: SandboxWorld) -> None:
    async with running() as now:
        await now.serves("bybit", lambda book: book.is_synced)
        await now.serves("binance", lambda book: book.is_synced)
        kept = now.kept("binance")
        began = time.monotonic()
        await Instrument.objects.filter(coin_id="solana").aupdate(is_enabled=True)
        for exchange in ("binance", "bybit"):
            await now.serves(exchange, lambda book: book.is_synced, symbol="SOLUSDT")
        assert time.monotonic() - began < 5
        await now.is_true(connected, "binance", "SOLUSDT")
        await Instrument.objects.filter(coin_id="solana").aupdate(is_enabled=False)
        await until(lambda: "SOLUSDT" not in {book.symbol for book in now.process.stream.books()})
        async with asyncio.timeout(3):
            while await now.served("binance", "SOLUSDT"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert now.kept("binance") is kept and kept.gaps == 0
        assert all(count.connections == 1 for count in now.process.stream.counts())


FAULTS = (
    "ws_drop",
    "ws_duplicate",
    "ws_reorder",
    "ws_truncate",
    "ws_garbage",
    "ws_wrong_symbol",
    "ws_crossed",
    "ws_absurd",
)


@pytest.mark.django_db(transaction=True)
async def test_whatever_goes_wrong_with_a_message_costs_its_own_book_alone(
    connected: SandboxWorld,
) -> None:
    await Instrument.objects.filter(coin_id="ethereum").aupdate(is_enabled=True)
    async with running() as now:
        for exchange in FEEDS:
            await now.serves(exchange, lambda book: book.is_synced)
        await now.serves("binance", lambda book: book.is_synced, symbol="ETHUSDT")
        other = now.kept("binance", "ETHUSDT")
        for fault in FAULTS:
            before = {exchange: await now.served(exchange) for exchange in FEEDS}
            hit = {"next": 1, "stream": "BTCUSDT"}
            for exchange in FEEDS:
                hit = {"next": 1, "stream": TOPICS[exchange]}
                await asyncio.to_thread(connected.change_faults, {exchange: {fault: hit}})
            for exchange in FEEDS:
                was = before[exchange]
                assert was is not None
                resyncs = was.health.resyncs
                value = await now.serves(
                    exchange, lambda book, n=resyncs: book.is_synced and book.health.resyncs > n
                )
                assert value.health.withheld_s > was.health.withheld_s, (exchange, fault)
                await now.is_true(connected, exchange)
        assert other is now.kept("binance", "ETHUSDT")
        assert other.is_synced and other.gaps == 0
        assert all(count.connections == 1 for count in now.process.stream.counts())


@pytest.mark.django_db(transaction=True)
async def test_a_book_that_cannot_be_made_whole_says_why_and_the_best_prices_go_on(
    connected: SandboxWorld,
) -> None:
    async with running() as now:
        await now.serves("binance", lambda book: book.is_synced)
        broken = {"ws_drop": {"next": 1, "stream": "depth"}}
        for refusal in ({"ban": {"seconds": 2}}, {"geo_block": True}):
            await asyncio.to_thread(connected.change_faults, {"binance": {**refusal}})
            await asyncio.to_thread(connected.change_faults, {"binance": broken})
            value = await now.serves("binance", lambda book: not book.is_synced)
            assert "does not follow" in value.reason
            assert value.bids == value.asks == ()
            later = await now.serves(
                "binance", lambda book, n=value.sequence: (book.sequence or 0) > (n or 0)
            )
            assert later.best_bid is not None and later.best_bid > 0
            if "ban" in refusal:
                await now.serves("binance", lambda book: book.is_synced, timeout_s=20)
        await asyncio.to_thread(connected.change_faults, {"clear": True})


@pytest.mark.django_db(transaction=True)
async def test_connections_that_are_cut_silent_or_refused_come_back(
    connected: SandboxWorld,
) -> None:
    async with running() as now:
        for exchange in FEEDS:
            await now.serves(exchange, lambda book: book.is_synced)
        for fault in ({"ws_disconnect": True}, {"ws_restart": {"seconds": 1}}):
            resyncs = {}
            for exchange in FEEDS:
                value = await now.served(exchange)
                resyncs[exchange] = value.health.resyncs if value else 0
                await asyncio.to_thread(connected.change_faults, {exchange: fault})
            for exchange in FEEDS:
                await now.serves(
                    exchange,
                    lambda book, n=resyncs[exchange]: book.is_synced and book.health.resyncs > n,
                    timeout_s=20,
                )
                await now.is_true(connected, exchange)


@pytest.mark.django_db(transaction=True)
async def test_a_process_that_cannot_store_any_more_ends(connected: SandboxWorld) -> None:
    """It would look alive, and every candle would be lost."""
    with pytest.raises(RuntimeError, match="writer"):
        async with running() as now:
            await now.serves("bybit", lambda book: book.is_synced)
            await asyncio.to_thread(now.process._writer.close)
            lines = now.process.stream.counts
            await until(lambda: not any(line.is_open for line in lines()), timeout_s=12)


@pytest.mark.django_db(transaction=True)
async def test_a_delisted_symbol_is_withheld_with_a_reason_and_the_others_go_on(
    connected: SandboxWorld,
) -> None:
    await Instrument.objects.filter(coin_id="ethereum").aupdate(is_enabled=True)
    async with running() as now:
        for symbol in ("BTCUSDT", "ETHUSDT"):
            for exchange in ("binance", "bybit"):
                await now.serves(exchange, lambda book: book.is_synced, symbol=symbol)
        for exchange in ("binance", "bybit"):
            gone = {exchange: {"delisted": {"symbol": "ETHUSDT"}, "ws_disconnect": True}}
            await asyncio.to_thread(connected.change_faults, gone)
        bybit = await now.serves(
            "bybit", lambda book: book.reason.startswith("refused"), symbol="ETHUSDT"
        )
        binance = await now.serves("binance", lambda book: not book.is_synced, symbol="ETHUSDT")
        assert binance.reason and bybit.bids == binance.bids == ()
        for exchange in ("binance", "bybit"):
            await now.serves(
                exchange, lambda book: book.is_synced and book.health.resyncs > 0, timeout_s=20
            )
            await now.is_true(connected, exchange)
            value = await now.served(exchange, "ETHUSDT")
            assert value is not None and not value.is_synced
        assert {count.lost for count in now.process.stream.counts()} <= {0, 1}
