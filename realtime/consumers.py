"""One subscriber of a durable stream: replay after its cursor, then live, from the same table.

The nudges of the sequencer carry nothing. A subscriber always reads the events after the last one
that it sent, one read at a time, so it can neither miss nor repeat one; without a nudge it looks
every two seconds. It reads no further while its client does not take what it was sent, so a slow
client costs one page of memory and delays nobody else.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from realtime import messages
from realtime.logins import (
    Login,
    identify,
    is_expired,
    is_own_origin,
    query_parameter,
    role_of,
)
from realtime.selectors import PAGE, Extent, events_after, topic_extent
from realtime.services import events_group

POLL_S = 2.0
LOGIN_CHECK_S = 60.0
VIEWER = 1

logger = structlog.get_logger(__name__)


class LoginEnded(Exception):
    """The login no longer opens this stream; `code` is the close code."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


class EventStream(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Serves the topic that the route names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._nudged = asyncio.Event()
        self._streaming: asyncio.Task[None] | None = None
        self._topic = ""

    async def connect(self) -> None:
        """Refuse foreign pages at the handshake, others by a close code that the client sees."""
        self._topic = self.scope["url_route"]["kwargs"]["topic"]
        if not is_own_origin(self.scope):
            await self.close()
            return
        login = await database_sync_to_async(identify)(self.scope)
        await self.accept()
        if login is None:
            await self.close(code=messages.LOGIN_NEEDED)
            return
        # Joined before the first read: what is numbered from here on is nudged or already read.
        await self.channel_layer.group_add(events_group(self._topic), self.channel_name)
        self._streaming = asyncio.create_task(self._stream_until_closed(login))

    async def disconnect(self, code: int) -> None:
        """The client has gone: stop reading for it."""
        if self._streaming is not None:
            self._streaming.cancel()
            with suppress(asyncio.CancelledError):
                await self._streaming
        await self.channel_layer.group_discard(events_group(self._topic), self.channel_name)

    async def events_numbered(self, message: dict[str, Any]) -> None:
        """The sequencer's nudge."""
        self._nudged.set()

    async def _stream_until_closed(self, login: Login) -> None:
        try:
            await self._stream(login)
        except LoginEnded as ended:
            await self.close(code=ended.code)
        except messages.CursorError as error:
            await self.send(text_data=messages.encode(error.failure))
            await self.close(code=messages.BAD_CURSOR)
        except OSError:
            pass  # the client has gone; `disconnect` follows
        except Exception:
            logger.exception("an event stream failed", topic=self._topic)
            await self.close(code=messages.SERVER_FAILED)

    async def _stream(self, login: Login) -> None:
        await self._check_role(login)
        checked_at = time.monotonic()
        sent = await self._greet()
        while True:
            if is_expired(login):
                raise LoginEnded(messages.LOGIN_NEEDED)
            if time.monotonic() - checked_at >= LOGIN_CHECK_S:
                await self._check_role(login)
                checked_at = time.monotonic()
            # Cleared before the read: a nudge during it leads to another read.
            self._nudged.clear()
            page = await database_sync_to_async(events_after)(topic=self._topic, seq=sent)
            for seq, text in page:
                await self.send(text_data=text)
                sent = seq
            if len(page) < PAGE:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._nudged.wait(), timeout=POLL_S)

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

    async def _check_role(self, login: Login) -> None:
        rank = await database_sync_to_async(role_of)(login)
        if rank < VIEWER:
            raise LoginEnded(messages.LOGIN_NEEDED if rank < 0 else messages.ROLE_NEEDED)
