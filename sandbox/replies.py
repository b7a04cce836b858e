"""What a provider answers to one call: status, body and headers. Pure."""

from dataclasses import dataclass, field

import msgspec

Params = dict[str, str]


@dataclass(frozen=True)
class Call:
    """One HTTP call below a provider's prefix: `path` without leading or trailing slash.

    `is_stale` asks for a book older than the streams reach back.
    """

    path: str
    params: Params
    headers: dict[str, str]
    now_ms: int
    is_stale: bool = False


@dataclass(frozen=True)
class Reply:
    """The answer to a call."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json; charset=utf-8"


def json_reply(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    """A reply with a JSON body."""
    return Reply(status, msgspec.json.encode(value), headers or {})
