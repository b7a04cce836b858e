"""How long a request may be: what is longer is refused before it is stored anywhere.

Django writes a long body to disk before anybody looks at it, and before anybody knows who sent it.
"""

from __future__ import annotations

import json
from typing import Any

import structlog

MOST_BYTES = 2**20
TOO_LARGE = f"a request of more than {MOST_BYTES // 2**10} KiB"

log = structlog.get_logger(__name__)


class _Refused(Exception):
    """The body turned out to be too long."""


def limiting_bodies(application: Any) -> Any:
    """The same ASGI application, which no HTTP body of more than `MOST_BYTES` reaches: 413."""

    async def limiting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        has_begun, seen = False, 0

        async def counted() -> Any:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MOST_BYTES:
                raise _Refused
            return message

        async def begun(message: Any) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        if _declared(scope) > MOST_BYTES:
            await _refuse(scope, send)
            return
        try:
            await application(scope, counted, begun)
        except _Refused:
            if not has_begun:
                await _refuse(scope, send)

    return limiting


def _declared(scope: Any) -> int:
    """The length that the request says it has; 0 when it does not."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value) if len(value) < 20 else MOST_BYTES + 1
    return 0


async def _refuse(scope: Any, send: Any) -> None:
    log.warning("body_too_large", path=scope["path"], declared=_declared(scope))
    error = {"code": "too_large", "message": TOO_LARGE, "fields": {}}
    body = json.dumps({"error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
