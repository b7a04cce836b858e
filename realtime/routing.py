"""The WebSocket addresses: topics, markets and accounts; any other is refused at the handshake."""

from __future__ import annotations

from typing import Any, cast

from django.urls import path, re_path

from realtime.consumers import AccountStream, EventStream, MarketStream
from realtime.topics import TOPICS


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Answer a handshake for an address that does not exist."""
    await receive()
    await send({"type": "websocket.close"})


# Django's own routes, but the applications below them are ASGI ones.
websocket_urlpatterns: list[Any] = [
    *(path(f"ws/{name}/", EventStream.as_asgi(), {"topic": name}) for name in TOPICS),
    path("ws/market/<str:symbol>/", cast(Any, MarketStream.as_asgi())),
    path("ws/accounts/<str:account>/", cast(Any, AccountStream.as_asgi())),
    re_path(r"", cast(Any, refuse)),
]
