"""Why a strategy could say nothing of an instrument at a bar. Pure.

The driver makes rows flat that must not be computed: here is the same rule in words. A strategy
that computed the row and wants to be flat is not silent; its diagnostics say why.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from collectors.marketdata import duration
from signals.driver import INVALID_BARS_PER_BAR
from signals.strategy import IntArray, Market, Strategy

ALL = "*"
MOST_NAMED = 50
DAY_MS = 86_400_000


def withheld(
    strategy: Strategy, market: Market, row: int, released_ms: Mapping[str, IntArray] | None = None
) -> dict[str, str]:
    """Of which instruments the driver withholds a strategy's word at a row, and why.

    `released_ms` says for each macro series when the value known at each bar's close was released
    ((B,) epoch ms, 0 where nothing was): with it, too old a value is told from an unknown one.
    """
    bars = slice(max(0, row - strategy.lookback), row + 1)
    total = strategy.lookback + 1
    unknown = np.zeros(bars.stop - bars.start, dtype=np.bool_)
    for series in strategy.macro_series:
        known = market.macro_known[series]
        if not known[row]:
            reason = _macro_reason(series, market, row, (released_ms or {}).get(series))
            return dict.fromkeys(market.instruments, reason)
        unknown |= ~known[bars]
    invalid = ~market.valid[bars]
    missing = invalid.sum(axis=0)
    unusable = (invalid | unknown[:, np.newaxis]).sum(axis=0)
    found = {}
    silent = invalid[-1] | (unusable * INVALID_BARS_PER_BAR > total)
    for column in np.flatnonzero(silent).tolist():
        if invalid[-1, column]:
            reason = "the bar itself is missing"
        else:
            reason = f"{missing[column]} of {total} bars are missing"
            if unknown.any():
                names = ", ".join(strategy.macro_series)
                reason += f", and {unknown.sum()} lack {names}"
        found[market.instruments[column]] = reason
    return found


def shortened(
    reasons: Mapping[str, str], *, instruments: Collection[str], assets: Collection[str]
) -> dict[str, str]:
    """The reasons for `assets` (all instruments when there are none), kept small.

    One reason for all of several instruments stands under `*`; of many, the first MOST_NAMED by
    name are kept, and `*` says how many more there are.
    """
    spoken = [coin_id for coin_id in instruments if not assets or coin_id in assets]
    kept = {coin_id: reasons[coin_id] for coin_id in sorted(spoken) if coin_id in reasons}
    if len(kept) > 1 and len(kept) == len(spoken) and len(set(kept.values())) == 1:
        return {ALL: next(iter(kept.values()))}
    if len(kept) > MOST_NAMED:
        named = dict(list(kept.items())[:MOST_NAMED])
        return {**named, ALL: f"and {len(kept) - MOST_NAMED} more"}
    return kept


def reason_of(kept: Mapping[str, str], coin_id: str) -> str | None:
    """Of what `shortened` kept: why an instrument is silent; None when it is not, or when its
    reason was not among the many that are kept."""
    return kept.get(coin_id, kept[ALL] if set(kept) == {ALL} else None)


def _macro_reason(series: str, market: Market, row: int, released_ms: IntArray | None) -> str:
    if released_ms is None or released_ms[row] <= 0:
        return f"{series} is not known"
    step_ms = duration(market.timeframe).total_seconds() * 1000
    age = (int(market.open_time[row]) + step_ms - int(released_ms[row])) / DAY_MS
    return f"{series} is {age:.0f} days old"
