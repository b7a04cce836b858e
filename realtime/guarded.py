"""What all WebSocket streams share: who may listen, for how long, and how a stream ends."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from realtime import messages
from realtime.logins import Login, identify, is_expired, is_own_origin, role_of

LOGIN_CHECK_S = 60.0
VIEWER = 1

logger = structlog.get_logger(__name__)


class LoginEnded(Exception):
    """The login no longer opens this stream; `code` is the close code."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


class GuardedStream(AsyncWebsocketConsumer, ABC):  # type: ignore[misc]
    """A stream to one client with a viewer's login; a kind of stream says what it sends in
    `stream`, and calls `check_login` at least every few seconds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._streaming: asyncio.Task[None] | None = None
        self._login: Login | None = None
        self._checked_at = 0.0

    @abstractmethod
    async def stream(self) -> None:
        """Send until cancelled. May raise StreamRefused for what the client asked."""

    async def join(self) -> None:
        """Called before the stream begins."""

    async def leave(self) -> None:
        """Called when the client has gone, whether or not it had joined."""

    async def connect(self) -> None:
        """Refuse foreign pages at the handshake, others by a close code that the client sees."""
        if not is_own_origin(self.scope):
            await self.close()
            return
        self._login = await database_sync_to_async(identify)(self.scope)
        await self.accept()
        if self._login is None:
            await self.close(code=messages.LOGIN_NEEDED)
            return
        await self.join()
        self._streaming = asyncio.create_task(self._stream_until_closed())

    async def disconnect(self, code: int) -> None:
        """The client has gone: stop sending to it."""
        if self._streaming is not None:
            self._streaming.cancel()
            with suppress(asyncio.CancelledError):
                await self._streaming
        await self.leave()

    async def check_login(self) -> None:
        """Raises LoginEnded once the login is over; looks at the database once a minute."""
        if self._login is None or is_expired(self._login):
            raise LoginEnded(messages.LOGIN_NEEDED)
        if time.monotonic() - self._checked_at >= LOGIN_CHECK_S:
            await self._check_role(self._login)

    async def _stream_until_closed(self) -> None:
        try:
            if self._login is not None:
                await self._check_role(self._login)
            await self.stream()
        except LoginEnded as ended:
            await self.close(code=ended.code)
        except messages.StreamRefused as refused:
            await self.send(text_data=messages.encode(refused.failure))
            await self.close(code=refused.code)
        except OSError:
            pass  # the client has gone; `disconnect` follows
        except Exception:
            logger.exception("a stream failed", path=self.scope["path"])
            await self.close(code=messages.SERVER_FAILED)

    async def _check_role(self, login: Login) -> None:
        rank = await database_sync_to_async(role_of)(login)
        if rank < VIEWER:
            raise LoginEnded(messages.LOGIN_NEEDED if rank < 0 else messages.ROLE_NEEDED)
        self._checked_at = time.monotonic()
