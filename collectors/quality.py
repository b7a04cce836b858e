"""Which candles and quotes are impossible, and which candles are doubtful. Pure.

What is impossible is rejected, never stored or handed on; what is doubtful is flagged, and stored.
Either is a `Finding`, with its reason and with what the source said: nothing is dropped silently.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from collectors.marketdata import Candle, Quote, duration, floor_time

# How far the closes of one bar may lie apart, as a share. Venues of one market stay within a few
# parts in a thousand; a price sample may be minutes older than the close that it stands for.
EXCHANGE_JUMP, SAMPLE_JUMP = 0.02, 0.05


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something wrong with one value of one series.

    `at` is the open time or the date of the value; `values` is what the source said, fit for JSON.
    """

    verdict: Literal["rejected", "flagged"]
    reason: str
    at: datetime
    source: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Review:
    """What of an answer can be stored (by open time, each once), and what was found."""

    candles: list[Candle] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def rejected(self) -> list[Finding]:
        """The findings that kept a candle from being stored."""
        return [finding for finding in self.findings if finding.verdict == "rejected"]


def check_quote(quote: Quote) -> str | None:
    """Why nobody can trade at the quote, None when one can. A crossed book is possible: it is how
    two venues' messages may meet, and for the reader to judge."""
    values = (quote.best_bid, quote.bid_quantity, quote.best_ask, quote.ask_quantity)
    if not all(math.isfinite(value) and value > 0 for value in values):
        return "a price or a quantity is not positive and finite"
    return None


def check_candle(candle: Candle, *, timeframe: str, now: datetime) -> str | None:
    """Why the candle cannot be true and closed, None when it can. `now` is market time."""
    if candle.open_time > now - duration(timeframe):
        return "still forming"
    return check_bar(candle, timeframe=timeframe)


def check_bar(candle: Candle, *, timeframe: str) -> str | None:
    """Why the candle's values cannot be true, None when they can. Raises ValueError for an unknown
    timeframe."""
    prices = (candle.open, candle.high, candle.low, candle.close)
    if not all(math.isfinite(price) for price in prices):
        return "a price is not finite"
    if min(prices) <= 0:
        return "a price is not positive"
    if candle.high < candle.low:
        return "high below low"
    if not candle.low <= candle.open <= candle.high:
        return "open outside low and high"
    if not candle.low <= candle.close <= candle.high:
        return "close outside low and high"
    if candle.volume is not None and not (math.isfinite(candle.volume) and candle.volume >= 0):
        return "volume is negative or not finite"
    if candle.open_time != floor_time(candle.open_time, timeframe):
        return "open time is not on the grid"
    return None


def sift_candles(
    candles: Iterable[Candle], *, timeframe: str, now: datetime
) -> tuple[list[Candle], list[tuple[Candle, str]]]:
    """The possible candles, and the impossible ones with the reason."""
    possible: list[Candle] = []
    impossible: list[tuple[Candle, str]] = []
    for candle in candles:
        reason = check_candle(candle, timeframe=timeframe, now=now)
        if reason is None:
            possible.append(candle)
        else:
            impossible.append((candle, reason))
    return possible, impossible


def review_candles(candles: Iterable[Candle], *, timeframe: str, now: datetime) -> Review:
    """Judge one source's candles of one series, in the order of its answer, oldest first.

    Impossible and forming candles are rejected. A candle that comes before an earlier one is put
    in its place and flagged. Of two for one bar the later in the answer is kept, as a correction
    follows what it corrects; that is flagged with both, unless they say the same: then it is
    flagged as repeated.
    """
    possible, impossible = sift_candles(candles, timeframe=timeframe, now=now)
    findings = [reject_candle(candle, reason) for candle, reason in impossible]
    kept: dict[datetime, Candle] = {}
    newest: Candle | None = None
    for candle in possible:
        earlier = kept.get(candle.open_time)
        if earlier is not None:
            findings.append(_duplicate(earlier, candle))
        elif newest is not None and candle.open_time < newest.open_time:
            said = candle_values(candle) | {"came_after": newest.open_time.isoformat()}
            findings.append(_flag(candle, "out of order", said))
        kept[candle.open_time] = candle
        if newest is None or candle.open_time > newest.open_time:
            newest = candle
    return Review([kept[at] for at in sorted(kept)], findings)


def reject_candle(candle: Candle, reason: str) -> Finding:
    """The finding that the candle is not stored, for that reason."""
    return Finding(
        verdict="rejected",
        reason=reason,
        at=candle.open_time,
        source=candle.source,
        values=candle_values(candle),
    )


def compare_sources(kept: Candle, other: Candle) -> Finding | None:
    """A finding when two sources' candles of one bar close too far apart, with both; None when
    they agree or are of one source. `kept` is the one that stays in the table."""
    if kept.source == other.source:
        return None
    is_sampled = kept.is_sampled or other.is_sampled
    difference = abs(kept.close / other.close - 1.0)
    if difference <= (SAMPLE_JUMP if is_sampled else EXCHANGE_JUMP):
        return None
    reason = "close far from price samples" if is_sampled else "close far from another exchange"
    values = {
        "kept": candle_values(kept),
        other.source: candle_values(other),
        "difference_pct": round(difference * 100, 3),
    }
    return _flag(kept, reason, values)


def candle_values(candle: Candle) -> dict[str, Any]:
    """What the candle says, fit for JSON, which has neither NaN nor infinity."""
    prices = {name: getattr(candle, name) for name in ("open", "high", "low", "close", "volume")}
    return {name: fit_for_json(value) for name, value in prices.items()}


def fit_for_json(value: float | None) -> float | str | None:
    """The number itself, or its name when JSON has none for it."""
    return value if value is None or math.isfinite(value) else str(value)


def _duplicate(earlier: Candle, later: Candle) -> Finding:
    if candle_values(earlier) == candle_values(later):
        return _flag(later, "repeated", candle_values(later))
    values = {"kept": candle_values(later), "dropped": candle_values(earlier)}
    return _flag(later, "given twice with different values", values)


def _flag(candle: Candle, reason: str, values: Mapping[str, Any]) -> Finding:
    return Finding(
        verdict="flagged",
        reason=reason,
        at=candle.open_time,
        source=candle.source,
        values=values,
    )
