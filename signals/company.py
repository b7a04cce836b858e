"""Which instruments a strategy has to be shown beside those that are asked about.

A rule that compares instruments says something else of one of them alone than of it among others.
Whoever asks about some only is answered from a market of all that are offered, as live runs are,
and in their order, on which the last digits of sums over instruments depend.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from collectors.selectors import strategy_instruments
from signals.columns import analysis_columns, market_columns, take
from signals.strategy import Analysis, BoolArray, Market, Strategy


def company_of(
    coin_ids: Sequence[str], strategies: Iterable[Strategy], *, at: datetime
) -> list[str]:
    """The coins asked about; if one of the strategies compares, all that are offered to strategies
    at a moment, in the order of live runs, and after them those asked about that are not."""
    if not any(strategy.compares for strategy in strategies):
        return list(coin_ids)
    offered = [instrument.coin_id for instrument in strategy_instruments(at=at)]
    return list(dict.fromkeys([*offered, *coin_ids]))


def of_asked(
    market: Market, sampled: BoolArray, analyses: Mapping[str, Analysis], coin_ids: Sequence[str]
) -> tuple[Market, BoolArray, dict[str, Analysis]]:
    """A market, its bars made of samples, and what is said of it, of these coins alone."""
    if tuple(coin_ids) == market.instruments:
        return market, sampled, dict(analyses)
    columns = [market.column(coin_id) for coin_id in coin_ids]
    said = {name: analysis_columns(analysis, columns) for name, analysis in analyses.items()}
    return market_columns(market, columns), take(sampled, columns), said
