"""The subscribers of the streams: durable ones replay after their cursor, the market's skip.

The nudges of the sequencer carry nothing. A subscriber of a durable stream always reads the events
after the last one that it sent, one read at a time, so it can neither miss nor repeat one; without
a nudge it looks every two seconds. It reads no further while its client does not take what it was
sent, so a slow client costs one page of memory and delays nobody else. A slow client of a market
or an account costs the text that it has not taken yet, and gets the newest one after it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from channels.db import database_sync_to_async

from realtime import messages
from realtime.accountwatch import ACCOUNTS, find_account
from realtime.guarded import GuardedStream
from realtime.logins import query_parameter
from realtime.marketwatch import WATCH, find_listings
from realtime.selectors import PAGE, Extent, events_after, topic_extent
from realtime.services import events_group

POLL_S = 2.0


class EventStream(GuardedStream):
    """Serves the topic that the route names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._nudged = asyncio.Event()

    async def join(self) -> None:
        """Before the first read: what is numbered from here on is nudged or already read."""
        await self.channel_layer.group_add(events_group(self._topic), self.channel_name)

    async def leave(self) -> None:
        """No nudges any more."""
        await self.channel_layer.group_discard(events_group(self._topic), self.channel_name)

    async def events_numbered(self, message: dict[str, Any]) -> None:
        """The sequencer's nudge."""
        self._nudged.set()

    async def stream(self) -> None:
        """Greet, replay, follow."""
        sent = await self._greet()
        while True:
            await self.check_login()
            # Cleared before the read: a nudge during it leads to another read.
            self._nudged.clear()
            page = await database_sync_to_async(events_after)(topic=self._topic, seq=sent)
            for seq, text in page:
                await self.send(text_data=text)
                sent = seq
            if len(page) < PAGE:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._nudged.wait(), timeout=POLL_S)

    @property
    def _topic(self) -> str:
        return str(self.scope["url_route"]["kwargs"]["topic"])

    async def _greet(self) -> int:
        """Say hello; returns the seq after which events are to be sent."""
        extent: Extent = await database_sync_to_async(topic_extent)(topic=self._topic)
        hello = messages.Hello(topic=self._topic, seq=extent.newest)
        await self.send(text_data=messages.encode(hello))
        text = query_parameter(self.scope, "cursor")
        if text is None:
            return extent.newest
        cursor = messages.parse_cursor(text)
        messages.check_cursor(
            cursor,
            newest=extent.newest_of_all,
            oldest=extent.oldest,
            complete_after=extent.complete_after,
        )
        return cursor


class MarketStream(GuardedStream):
    """Serves the books of the symbol or coin that the address names, newest only."""

    # None of that name: what comes through a channel layer ends with it when Redis goes away.
    channel_layer_alias = "none"

    async def stream(self) -> None:
        """Greet, then send the newest message whenever there is one that was not sent yet."""
        name = self.scope["url_route"]["kwargs"]["symbol"]
        levels = messages.parse_levels(query_parameter(self.scope, "levels"))
        listings = await database_sync_to_async(find_listings)(name)
        if not listings:
            raise messages.SymbolUnknown(name)
        with WATCH.following(name, listings) as market:
            hello = messages.MarketHello(symbol=name, levels=levels, exchanges=market.exchanges)
            await self.send(text_data=messages.encode(hello))
            sent = 0
            while True:
                await market.newer_than(sent)
                await self.check_login()
                sent = market.version
                await self.send(text_data=market.text(levels))


class AccountStream(GuardedStream):
    """Serves the account that the address names, newest only."""

    channel_layer_alias = "none"

    async def stream(self) -> None:
        """Greet, then send the newest state whenever there is one that was not sent yet."""
        text = self.scope["url_route"]["kwargs"]["account"]
        account = await database_sync_to_async(find_account)(text)
        if account is None:
            raise messages.AccountUnknown(text)
        with ACCOUNTS.following(account.pk) as watched:
            hello = messages.AccountHello(account=account.pk, name=account.name)
            await self.send(text_data=messages.encode(hello))
            sent = 0
            while True:
                await watched.newer_than(sent)
                await self.check_login()
                sent = watched.version
                await self.send(text_data=watched.text)
