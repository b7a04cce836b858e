"""What CoinGecko answers: coins/markets, market_chart, ohlc, and its shapes of an error.

Numbers come as integers or floats, and any of them may be null
(https://docs.coingecko.com/reference/coins-markets).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec

from collectors.exchange import (
    UNREADABLE,
    KeyRefused,
    OutsidePlan,
    ProviderError,
    RequestRefused,
    UnknownSymbol,
    sample,
    status_error,
)
from collectors.venues import Moment

# https://docs.coingecko.com/reference/common-errors-rate-limit
NOT_IN_PLAN, OUTSIDE_HISTORY = 10005, 10012
KEY_CODES = frozenset({10002, 10010, 10011})
ERROR_KEYS = (b'{"error"', b'{"error_code"', b'{"status"')

Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """[epoch ms, price]; a price may be null."""

    at: Moment
    price: float | None


class MarketChart(msgspec.Struct, frozen=True):
    """The answer of market_chart; `market_caps` and `total_volumes` are not used: the latter are
    rolling 24 h figures."""

    prices: list[Sample]


class MarketRow(msgspec.Struct, frozen=True, kw_only=True):
    """One coin of coins/markets in USD. Null is what CoinGecko does not know.

    `total_volume` is the rolling 24 h figure, never the volume of an interval. `last_updated` is
    the moment of `current_price`, which may be minutes ago. A price that cannot be is for the
    reader to reject: one odd coin must not hide the others.
    """

    id: str
    symbol: str
    name: str
    current_price: float | None = None
    market_cap: float | None = None
    market_cap_rank: int | None = None
    total_volume: float | None = None
    circulating_supply: float | None = None
    total_supply: float | None = None
    max_supply: float | None = None
    last_updated: Timestamp | None = None


class OhlcRow(msgspec.Struct, array_like=True, frozen=True):
    """One bar of ohlc: [END of the bar in epoch ms, open, high, low, close]."""

    end: Moment
    open: float
    high: float
    low: float
    close: float


def vanished(coin_ids: Iterable[str], rows: Iterable[MarketRow]) -> list[str]:
    """The ids that were asked for and silently left out of the answer, in their order."""
    answered = {row.id for row in rows}
    return [coin_id for coin_id in coin_ids if coin_id not in answered]


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError | None:
    """The error of an answer, from any of the shapes CoinGecko uses; also of an answer of 200
    that holds one."""
    if status < 300:
        return _error_inside(headers, body)
    code, text = _refusal(body)
    return _coded(code, text) or _by_status(status, headers, text)


def _by_status(status: int, headers: Mapping[str, str], text: str) -> ProviderError | None:
    if status == 404:
        return UnknownSymbol(f"coingecko: {text}")
    if status in (401, 403):
        return KeyRefused(f"coingecko: {status}: {text}")
    return status_error(status, headers, f"coingecko: {text}")


def _coded(code: int, text: str) -> ProviderError | None:
    if code in (NOT_IN_PLAN, OUTSIDE_HISTORY):
        return OutsidePlan(f"coingecko: {text}")
    if code in KEY_CODES:
        return KeyRefused(f"coingecko: {code} {text}")
    return None


def _error_inside(headers: Mapping[str, str], body: bytes) -> ProviderError | None:
    if not body.lstrip()[:16].startswith(ERROR_KEYS):
        return None
    code, text = _refusal(body)
    status = code if 400 <= code < 600 else 0
    known = _coded(code, text) or (_by_status(status, headers, text) if status else None)
    return known or RequestRefused(f"coingecko: {text}")


def _refusal(body: bytes) -> tuple[int, str]:
    """The error code (0: none) and text.

    The shapes: {"error": text}, {"status": number, "error": text}, {"status": {"error_code",
    "error_message"}}, the same below "error", and {"error_code", "error"}.
    """
    try:
        answer = msgspec.json.decode(body)
    except UNREADABLE:
        return 0, sample(body)
    if not isinstance(answer, dict):
        return 0, sample(body)
    for outer in (answer, answer.get("error")):
        status = outer.get("status") if isinstance(outer, dict) else None
        if isinstance(status, dict):
            return _number(status.get("error_code")), str(status.get("error_message", ""))[:200]
    code = _number(answer.get("error_code")) or _number(answer.get("status"))
    error = answer.get("error")
    return code, error[:200] if isinstance(error, str) else sample(body)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
