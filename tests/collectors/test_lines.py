"""How connections are kept: made again, changed while open, replaced in time, and never believed
to be alive only because they are open."""

import asyncio
import dataclasses
import itertools
import time

import pytest
from websockets.asyncio.server import serve

from collectors.backoff import backoff
from collectors.exchange import Banned, GeographicBlock, ProviderError
from collectors.feeds import Kind, PublicTrade, Refusal
from collectors.keptbook import Want
from collectors.stream_session import Session
from collectors.venues import DepthSnapshot
from tests.collectors.toy_venue import (
    FAST,
    ToyBook,
    ToyFeed,
    ToyVenue,
    follow,
    listening,
    until,
)


async def test_a_lost_connection_is_made_again_with_its_subscriptions() -> None:
    async with listening("A", "B") as (venue, listener):
        for number in (1, 2, 3):
            await until(lambda n=number: len(venue.open) == 1 and len(venue.connections) == n)
            await until(lambda: all(book.is_synced for book in listener.stream.books()))
            (connection,) = venue.open
            await until(lambda c=connection: venue.subscribed[c] == {"book.A", "book.B"})
            await connection.close()
            await until(lambda c=connection: c not in venue.open)
        await until(lambda: len(venue.connections) == 4)
    assert ("A", False, "not yet synchronised") in listener.book_states
    assert any("connection lost" in reason for _, _, reason in listener.book_states)


async def test_subscriptions_change_without_a_new_connection() -> None:
    feed = ToyFeed()
    async with listening("A", "B", feed=feed) as (venue, listener):
        await until(lambda: listener.book("A").is_synced and listener.book("B").is_synced)
        kept = listener.book("A")
        follow(listener, feed, "A", "C")
        await until(lambda: listener.book("C").is_synced)
        await venue.say("book.A")
        await until(lambda: kept.numbers == [1, 2])
        assert listener.book("A") is kept
    sent = [text for _, text in venue.requests]
    assert sent == ["+book.A", "+book.B", "-book.B", "+book.C"]
    assert len(venue.connections) == 1


async def test_topics_are_spread_over_connections_within_the_venues_limits() -> None:
    symbols = "ABCDEFGHIJKL"
    async with listening(*symbols) as (venue, listener):
        await until(lambda: sum(b.is_synced for b in listener.stream.books()) == 9)
        await asyncio.sleep(0.05)
        # Three lines of three: the fourth connection is kept for the overlap of a replacement.
        assert len(venue.connections) == 3
        assert [count.topics for count in listener.stream.counts()] == [3, 3, 3]
        follow(listener, ToyFeed(), "A", "B", "L")
        await until(lambda: listener.book("L").is_synced)
        await until(lambda: len(venue.open) == 1)


async def test_requests_keep_to_the_venues_rate() -> None:
    feed = ToyFeed(requests_per_second=20, topics_per_connection=10)
    async with listening(*"ABCDEF", feed=feed) as (venue, _):
        began = time.monotonic()
        await until(lambda: len(venue.requests) == 6)
        assert time.monotonic() - began > 4 / 20


async def test_a_connection_that_is_open_and_silent_is_left() -> None:
    feed = ToyFeed(quiet_s={Kind.TRADE: 0.15})
    async with listening("A", kinds={Kind.TRADE}, feed=feed) as (venue, _):
        await until(lambda: venue.open)
        for _ in range(20):
            await venue.say("trade.A")
            await asyncio.sleep(0.02)
        assert len(venue.connections) == 1  # as long as it speaks
        await until(lambda: len(venue.connections) == 2)
        await until(lambda: len(venue.open) == 1)  # the first one is closed


async def test_a_topic_that_stalls_alone_is_taken_anew_alone() -> None:
    feed = ToyFeed(quiet_s={Kind.BOOK: 0.2})
    async with listening("A", "B", feed=feed) as (venue, listener):
        await until(lambda: listener.book("A").is_synced and listener.book("B").is_synced)
        kept = listener.book("B")

        async def talk() -> None:
            while True:
                await venue.say("book.B")
                await asyncio.sleep(0.01)

        talking = asyncio.create_task(talk())
        await until(lambda: ("A", False, "its stream has stalled") in listener.book_states)
        await until(lambda: listener.book("A").is_synced)
        assert listener.book("B") is kept
        assert kept.is_synced and kept.gaps == 0
        talking.cancel()
    assert len(venue.connections) == 1
    assert [text for _, text in venue.requests[:4]] == ["+book.A", "+book.B", "-book.A", "+book.A"]


async def test_a_gap_costs_only_its_own_book() -> None:
    async with listening("A", "B") as (venue, listener):
        await until(lambda: listener.book("A").is_synced and listener.book("B").is_synced)
        await venue.say("book.B")
        venue.numbers["book.A"] += 1  # a message that nobody got
        await venue.say("book.A")
        await until(lambda: ("A", False, "a gap") in listener.book_states)
        await until(lambda: listener.book("A").is_synced)
        await venue.say("book.A")
        await until(lambda: listener.book("A").numbers[-1] == 4)
        assert listener.book("B").numbers == [1, 2]
    assert [text for _, text in venue.requests[2:]] == ["-book.A", "+book.A"]
    assert ("B", False, "a gap") not in listener.book_states


@pytest.mark.parametrize(
    ("error", "least_s"),
    [(Banned("418", 0.6), 0.6), (GeographicBlock("451"), 600.0)],
    ids=["banned until a time", "not served in this country"],
)
async def test_a_refused_snapshot_is_asked_for_again_when_the_venue_may(
    error: ProviderError, least_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyBook, "wants", Want.SNAPSHOT)
    errors: list[ProviderError] = [error]
    asked: list[float] = []

    def prepare(venue: ToyVenue) -> None:
        venue.opens_books = False
        own = venue.snapshot

        async def snapshot(exchange: str, symbol: str) -> DepthSnapshot:
            asked.append(time.monotonic())
            if errors:
                raise errors.pop()
            return await own(exchange, symbol)

        venue.snapshot = snapshot  # type: ignore[method-assign]

    async with listening("A", prepare=prepare) as (venue, listener):
        await until(lambda: venue.open and venue.subscribed[next(iter(venue.open))])
        began = time.monotonic()
        while not listener.book("A").is_synced and time.monotonic() - began < 1.5:
            await venue.say("book.A")
            await asyncio.sleep(0.02)
        waited = [later - before for before, later in itertools.pairwise(asked)]
        if least_s > 1.5:
            assert len(asked) == 1
            assert not listener.book("A").is_synced
        else:
            assert waited and waited[0] >= least_s
            assert listener.book("A").is_synced


async def test_a_snapshot_that_fails_in_an_unknown_way_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ToyBook, "wants", Want.SNAPSHOT)
    errors: list[Exception] = [RuntimeError("nobody thought of this")]

    def prepare(venue: ToyVenue) -> None:
        venue.opens_books = False
        own = venue.snapshot

        async def snapshot(exchange: str, symbol: str) -> DepthSnapshot:
            if errors:
                raise errors.pop()
            return await own(exchange, symbol)

        venue.snapshot = snapshot  # type: ignore[method-assign]

    async with listening("A", prepare=prepare) as (venue, listener):
        await until(lambda: venue.open and venue.subscribed[next(iter(venue.open))])
        await venue.say("book.A")
        await until(lambda: listener.book("A").is_synced)
    assert not errors


async def test_a_book_that_is_lost_again_and_again_leaves_calls_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ToyBook, "wants", Want.SNAPSHOT)
    asked: list[str] = []

    def prepare(venue: ToyVenue) -> None:
        venue.opens_books = False
        own = venue.snapshot

        async def snapshot(exchange: str, symbol: str) -> DepthSnapshot:
            asked.append(symbol)
            return await own(exchange, symbol)

        venue.snapshot = snapshot  # type: ignore[method-assign]

    async with listening("A", "B", prepare=prepare) as (venue, listener):
        await until(lambda: venue.open and len(venue.subscribed[next(iter(venue.open))]) == 2)
        for _ in range(150):
            venue.numbers["book.A"] = venue.numbers.get("book.A", 0) + 1  # nobody gets it
            await venue.say("book.A")
            await asyncio.sleep(0.01)
        assert asked == ["A"] * 12
        assert not listener.book("A").is_synced
        await venue.say("book.B")
        await until(lambda: listener.book("B").is_synced)


async def test_a_refused_topic_is_left_alone_and_the_others_go_on() -> None:
    def prepare(venue: ToyVenue) -> None:
        venue.refuses = {"book.GONE"}

    pace = dataclasses.replace(FAST, refused_first_s=0.3)
    async with listening("GONE", "A", prepare=prepare, pace=pace) as (venue, listener):
        await until(lambda: any(isinstance(each, Refusal) for each in listener.updates))
        await until(lambda: listener.book("A").is_synced)
        await until(lambda: [book.symbol for book in listener.stream.books()] == ["A"])
        assert ("GONE", False, "refused: no such symbol") in listener.book_states
        venue.refuses = set()
        await until(
            lambda: any(b.symbol == "GONE" and b.is_synced for b in listener.stream.books())
        )
    assert len(venue.connections) == 1


@pytest.mark.parametrize("opens", [True, False], ids=["snapshots", "diffs alone"])
async def test_an_old_connection_is_replaced_without_losing_anything(opens: bool) -> None:
    """Books go on without being withheld, and each trade is handed out once."""
    pace = dataclasses.replace(FAST, longest_age_s=0.3)

    def prepare(venue: ToyVenue) -> None:
        venue.opens_books = opens

    kinds = {Kind.BOOK, Kind.TRADE}
    async with listening("A", kinds=kinds, pace=pace, prepare=prepare) as (venue, listener):
        await until(lambda: sum(bool(venue.subscribed[each]) for each in venue.open) == 2)
        if not opens:
            listener.book("A").take_snapshot(await venue.snapshot("toy", "A"))
        await until(lambda: listener.book("A").is_synced)
        began = len(listener.book_states)
        first_trade = venue.numbers.get("trade.A", 0) + 1
        for _ in range(300):
            await venue.say("book.A")
            await venue.say("trade.A")
            await asyncio.sleep(0.003)
        last = venue.numbers["book.A"]
        await until(lambda: listener.book("A").sequence == last)
        numbers = listener.book("A").numbers
        assert numbers == list(range(numbers[0], last + 1))
        counts = listener.stream.counts()
    assert sum(count.replaced for count in counts) >= 2
    assert all(count.lost == 0 for count in counts)
    withheld = [state for state in listener.book_states[began:-1] if not state[1]]
    assert withheld == []
    trades = [int(u.trade_id) for u in listener.updates if isinstance(u, PublicTrade)]
    assert trades == list(range(first_trade, venue.numbers["trade.A"] + 1))


async def test_an_old_connection_serves_on_while_no_second_can_be_had() -> None:
    pace = dataclasses.replace(FAST, longest_age_s=0.15, join_s=0.1)
    async with listening("A", pace=pace) as (venue, listener):
        await until(lambda: listener.book("A").is_synced)
        (first,) = venue.open
        venue.accepts = False
        for _ in range(60):
            await venue.say("book.A")
            await asyncio.sleep(0.01)
        assert listener.book("A").is_synced
        assert venue.open == {first}
        assert len(venue.connections) > 1


async def test_one_wrong_name_does_not_hold_up_the_others_of_its_request() -> None:
    """Where the venue refuses the request whole and does not say for which name."""

    def prepare(venue: ToyVenue) -> None:
        venue.refuses, venue.names_what_it_refuses = {"book.GONE"}, False

    feed = ToyFeed(is_batched=True)
    async with listening("A", "GONE", "B", feed=feed, prepare=prepare) as (venue, listener):
        await until(lambda: listener.book("A").is_synced and listener.book("B").is_synced)
        await asyncio.sleep(0.1)
        assert not listener.book("GONE").is_synced
        sent = [text for _, text in venue.requests]
    assert sent == ["+book.A book.GONE book.B", "+book.A", "+book.B", "+book.GONE"]
    assert len(venue.connections) == 1


async def test_a_venue_that_ends_every_connection_soon_is_not_stormed() -> None:
    """Not even where it answers each with data first."""
    pace = dataclasses.replace(FAST, first_backoff_s=0.05, longest_backoff_s=5.0)
    async with listening("A", pace=pace) as (venue, _):
        began = time.monotonic()
        while time.monotonic() - began < 1.2:
            for connection in [each for each in venue.open if venue.subscribed[each]]:
                await connection.close()
            await asyncio.sleep(0.005)
        assert 2 < len(venue.connections) < 8


async def test_an_heir_that_hears_nothing_does_not_take_over() -> None:
    pace = dataclasses.replace(FAST, longest_age_s=0.15, join_s=0.1)
    async with listening("A", pace=pace) as (venue, listener):
        await until(lambda: listener.book("A").is_synced)
        kept = listener.book("A")
        venue.hears = False
        while len(venue.connections) < 3:
            await venue.say("book.A")
            await asyncio.sleep(0.01)
        last = await venue.say("book.A")
        await until(lambda: kept.sequence == last)
        assert listener.book("A") is kept and kept.is_synced
        venue.hears = True
        await until(lambda: listener.book("A") is not kept)
        assert listener.book("A").is_synced


async def test_a_book_of_a_connection_that_is_gone_says_nothing_more() -> None:
    async with listening("A") as (venue, listener):
        await until(lambda: listener.book("A").is_synced)
        gone = listener.book("A")
        (connection,) = venue.open
        await connection.close()
        await until(lambda: listener.book("A") is not gone and listener.book("A").is_synced)
        told = list(listener.book_states)
        gone.withhold("differs from a snapshot that was asked for before")
        listener.stream.look_at(gone)
        assert listener.book_states == told


async def test_a_muted_connection_says_nothing_more() -> None:
    """As one that has been replaced: its books would take the place of its heir's."""
    heard: list[object] = []

    class Heard:
        def update(self, session: Session, update: object) -> None:
            heard.append(update)

        def impossible(self, item: object, reason: str) -> None:
            raise AssertionError(reason)

    venue, feed = ToyVenue(), ToyFeed()
    async with serve(venue.serve, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        session = Session(feed, url, name="old", heard=Heard(), pace=FAST)
        session.follow(feed.topics("A", timeframes=(), kinds={Kind.BOOK}))
        task = asyncio.create_task(session.run())
        await until(lambda: heard)
        count = len(heard)
        session.mute()
        venue.numbers["book.A"] += 1  # a gap would be told
        await venue.say("book.A")
        await asyncio.sleep(0.1)
        assert len(heard) == count
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_venues_own_ping_is_sent() -> None:
    feed = ToyFeed(ping="ping")
    async with listening("A", feed=feed) as (venue, _):
        await until(lambda: [text for _, text in venue.requests].count("ping") >= 3)


async def test_messages_that_cannot_be_read_are_counted_and_change_nothing() -> None:
    async with listening("A") as (venue, listener):
        await until(lambda: listener.book("A").is_synced)
        (connection,) = venue.open
        for text in ("{", "\x00", "[" * 1000):
            await connection.send(text)
        await connection.send(b"\xff\xfe")
        await venue.say("book.A")
        await until(lambda: listener.book("A").numbers == [1, 2])
        (count,) = listener.stream.counts()
        assert count.malformed == 4
        assert count.connections == 1


async def test_the_end_closes_everything_at_once() -> None:
    async with listening(*"ABCDEF") as (venue, listener):
        await until(lambda: len(venue.open) == 2)
        listener.stop.set()
        await until(lambda: not venue.open, timeout_s=2)


def test_backoff_doubles_to_a_cap_and_has_jitter() -> None:
    for failures, longest in enumerate([0.5, 1, 2, 4, 8, 16, 30, 30]):
        waits = {backoff(failures, first=0.5) for _ in range(50)}
        assert max(waits) <= longest and min(waits) >= longest / 2
        assert len(waits) > 1
