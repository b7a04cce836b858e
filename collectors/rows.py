"""Long lists in payloads, of which one odd row must not hide the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
import structlog

from collectors.exchange import UNREADABLE, MalformedPayload, sample

log = structlog.get_logger(__name__)

T = TypeVar("T")


def readable_rows(provider: str, rows: Sequence[msgspec.Raw], into: type[T]) -> list[T]:
    """The rows that parse as `into`; the others are logged with a sample.

    Raises MalformedPayload when there are rows and none parses.
    """
    found: list[T] = []
    problems: list[str] = []
    for row in rows:
        try:
            found.append(msgspec.json.decode(row, type=into, strict=False))
        except UNREADABLE as problem:
            problems.append(f"{problem}: {sample(bytes(row))}")
    if problems:
        log.warning("rows_malformed", provider=provider, rows=len(problems), first=problems[0])
        if not found:
            raise MalformedPayload(f"{provider}: none of {len(rows)} rows: {problems[0]}")
    return found
