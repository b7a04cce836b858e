"""Which instruments a strategy has to be shown beside those that are asked about.

A rule that compares instruments says something else of one of them alone than of it among others.
Whoever asks about some only is answered from a market of all that are offered, as live runs are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

import numpy as np

from collectors.selectors import strategy_instruments
from signals.strategy import Analysis, BoolArray, Market, Strategy


def company_of(
    coin_ids: Sequence[str], strategies: Iterable[Strategy], *, at: datetime
) -> list[str]:
    """The coins asked about, and after them, if one of the strategies compares, all others that are
    offered to strategies at a moment."""
    if not any(strategy.compares for strategy in strategies):
        return list(coin_ids)
    offered = [instrument.coin_id for instrument in strategy_instruments(at=at)]
    return list(dict.fromkeys([*coin_ids, *offered]))


def of_first(
    market: Market, sampled: BoolArray, analyses: Mapping[str, Analysis], count: int
) -> tuple[Market, BoolArray, dict[str, Analysis]]:
    """A market, its bars made of samples, and what is said of it, of its first `count` instruments
    alone."""
    if count == len(market.instruments):
        return market, sampled, dict(analyses)
    alone = replace(market, instruments=market.instruments[:count], **_cut(market, count))
    said = {name: _said(analysis, count) for name, analysis in analyses.items()}
    return alone, _first(sampled, count), said


def _said(analysis: Analysis, count: int) -> Analysis:
    diagnostics = {name: _first(values, count) for name, values in analysis.diagnostics.items()}
    return replace(analysis, diagnostics=diagnostics, **_cut(analysis, count))


def _cut(value: Market | Analysis, count: int) -> dict[str, Any]:
    """The first columns of all fields that are (B, K)."""
    found = ((each.name, getattr(value, each.name)) for each in fields(value))
    return {
        name: _first(array, count)
        for name, array in found
        if isinstance(array, np.ndarray) and array.ndim > 1
    }


def _first(values: Any, count: int) -> Any:
    return np.ascontiguousarray(values[:, :count])
