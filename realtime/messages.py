"""The messages of the WebSocket streams. Pure.

Every message is one JSON text with a `type`. The first is `hello`; then come the events of the
topic in the order of `seq`, each naming the event before it in the same topic (`prev`, 0 for the
first), so that a client can prove that it missed nothing. Markets and accounts have no numbers:
each of their messages says everything, and stands for all before it. An `error` is followed by the
close.

    StreamRefused       what was asked for cannot be streamed
        CursorError     not from this cursor
        SymbolUnknown   no such symbol or coin
        AccountUnknown  no such account
        LevelsError     not so many levels
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from collectors.livebook import MOST_LEVELS, LiveBook

LOGIN_NEEDED = 4401
ROLE_NEEDED = 4403
BAD_CURSOR = BAD_REQUEST = 4400
SYMBOL_UNKNOWN = ACCOUNT_UNKNOWN = 4404
SERVER_FAILED = 1011

DEFAULT_LEVELS = 20

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


class MarketHello(msgspec.Struct, tag="hello", frozen=True, kw_only=True):
    """The first message of a market: what was asked for, and the exchanges to hear from."""

    topic: str = "market"
    symbol: str
    levels: int
    exchanges: tuple[str, ...]


class MarketUpdate(msgspec.Struct, tag="market", frozen=True, kw_only=True):
    """The newest books of a symbol by exchange; `at` is wall time, as their `received_at`."""

    symbol: str
    at: datetime
    exchanges: dict[str, LiveBook]


class AccountHello(msgspec.Struct, tag="hello", frozen=True, kw_only=True):
    """The first message of an account."""

    topic: str = "account"
    account: int
    name: str


class AccountUpdate(msgspec.Struct, tag="account", frozen=True, kw_only=True):
    """All of an account: equity, cash, profit and loss, exposure, positions, orders, state.

    `at` is wall time. `is_current` is false while the books cannot be read: then `data` is the last
    that was.
    """

    account: int
    at: datetime
    is_current: bool
    data: dict[str, Any]


class Failure(msgspec.Struct, tag="error", frozen=True, kw_only=True, omit_defaults=True):
    """Why the stream ends; `oldest` is the oldest seq that can still be replayed."""

    code: str
    message: str
    oldest: int | None = None


class StreamRefused(Exception):
    """Why nothing is streamed: the message to the client, and the close code after it."""

    code = BAD_REQUEST

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class CursorError(StreamRefused):
    """A cursor from which no complete stream can start; the client must choose another."""

    code = BAD_CURSOR


class SymbolUnknown(StreamRefused):
    """No exchange calls anything so, and no coin has that id."""

    code = SYMBOL_UNKNOWN

    def __init__(self, name: str) -> None:
        message = f"no exchange lists {name[:64]!r} now: use a symbol or a coin id of instruments/"
        super().__init__(Failure(code="symbol_unknown", message=message))


class AccountUnknown(StreamRefused):
    """There is no account of that id."""

    code = ACCOUNT_UNKNOWN

    def __init__(self, name: str) -> None:
        message = f"there is no account {name[:64]!r}: use an id of accounts/"
        super().__init__(Failure(code="account_unknown", message=message))


class LevelsError(StreamRefused):
    """A number of levels that is none, or that is not served."""


Message = Hello | Envelope | MarketHello | MarketUpdate | AccountHello | AccountUpdate | Failure


def encode(message: Message) -> str:
    """The JSON text of a message; times are ISO 8601 with a `Z`."""
    return _encoder.encode(message).decode()


def parse_cursor(text: str) -> int:
    """The seq in a `cursor` query parameter. Raises CursorError (`cursor_malformed`)."""
    if text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= _LARGEST_SEQ:
        return int(text)
    raise CursorError(
        Failure(code="cursor_malformed", message="cursor must be a whole number, 0 or above")
    )


def parse_levels(text: str | None) -> int:
    """The `levels` of a query, by default 20. Raises LevelsError (`levels_malformed`)."""
    if text is None:
        return DEFAULT_LEVELS
    if text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MOST_LEVELS:
        return int(text)
    message = f"levels must be a whole number from 1 to {MOST_LEVELS}"
    raise LevelsError(Failure(code="levels_malformed", message=message))


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
