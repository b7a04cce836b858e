"""The contract of an alert transport: what it is given, what it returns, how it fails.

TransportError
    permanent = False: the receiver may be back soon; the delivery is tried again
    permanent = True: trying again cannot help; the delivery has failed
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Message:
    """An alert as it leaves: `body` is JSON and carries the alert's id; `at` is market time.

    `attempt` counts from 1. Above 1 an earlier attempt may have arrived although nobody could
    confirm it: a transport that cannot find out marks its message as a repetition.
    """

    kind: str
    asset: str
    at: datetime
    body: Mapping[str, Any]
    attempt: int


class TransportError(Exception):
    """A message was not delivered. Read `permanent` to know whether to try again."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


# Delivers a message and returns where it went, for the delivery's row. Raises TransportError.
Transport = Callable[[Message], str]
