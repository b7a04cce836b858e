"""The messages of a durable WebSocket stream. Pure.

Every message is one JSON text with a `type`. The first is `hello`; then come the events of the
topic in the order of `seq`, each naming the event before it in the same topic (`prev`, 0 for the
first), so that a client can prove that it missed nothing. An `error` is followed by the close.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

LOGIN_NEEDED = 4401
ROLE_NEEDED = 4403
BAD_CURSOR = 4400
SERVER_FAILED = 1011

_LARGEST_SEQ = 2**63 - 1
_encoder = msgspec.json.Encoder()


class Hello(msgspec.Struct, tag="hello", frozen=True):
    """The first message: the topic and its newest seq (0 when it has no event yet)."""

    topic: str
    seq: int


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """One event; `type` is `signal`, `fill` or `alert`, `at` its market time in UTC."""

    type: str
    seq: int
    prev: int
    at: datetime
    data: dict[str, Any]


class Failure(msgspec.Struct, tag="error", frozen=True, kw_only=True, omit_defaults=True):
    """Why the stream ends; `oldest` is the oldest seq that can still be replayed."""

    code: str
    message: str
    oldest: int | None = None


class CursorError(Exception):
    """A cursor from which no complete stream can start; the client must choose another."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def encode(message: Hello | Envelope | Failure) -> str:
    """The JSON text of a message; times are ISO 8601 with a `Z`."""
    return _encoder.encode(message).decode()


def parse_cursor(text: str) -> int:
    """The seq in a `cursor` query parameter. Raises CursorError (`cursor_malformed`)."""
    if text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= _LARGEST_SEQ:
        return int(text)
    raise CursorError(
        Failure(code="cursor_malformed", message="cursor must be a whole number, 0 or above")
    )


def check_cursor(cursor: int, *, newest: int, oldest: int | None, complete_after: int) -> None:
    """Refuse a cursor that was never given out or whose continuation is no longer kept.

    `newest` is the newest seq of all topics; `oldest` the oldest event of this topic that is
    kept (None when there is none), and `complete_after` the smallest cursor after which every
    event of the topic is kept. Raises CursorError (`cursor_ahead`, `cursor_expired`).
    """
    if cursor > newest:
        raise CursorError(
            Failure(code="cursor_ahead", message=f"the newest event is {newest}: start there")
        )
    if cursor < complete_after:
        raise CursorError(
            Failure(
                code="cursor_expired",
                message="events after this cursor are no longer kept: read the REST API instead",
                oldest=oldest if oldest is not None else complete_after + 1,
            )
        )
