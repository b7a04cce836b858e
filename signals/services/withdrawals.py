"""What was said does not outlive who said it: the FLAT of a state that nobody computes any more."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from collectors.marketdata import duration
from collectors.selectors import candle_history
from signals.catalog import RELOADING
from signals.forecasts import withdrawal
from signals.models import BarRun, Signal
from signals.registry import CONSENSUS
from signals.strategy import Forecast

NOT_ENABLED = "not enabled"
NONE_ENABLED = "no strategy is enabled"
NOT_OFFERED = "the instrument is not offered to strategies"


def withdrawals(
    *,
    run: BarRun,
    said: Sequence[Signal],
    members: Collection[str],
    refused: Mapping[str, str],
    offered: Collection[str],
) -> list[Forecast]:
    """Flat at the run's bar for every state in `said` that nobody computes any more.

    `members` are the strategies that should have run, also those that raised: who raised may
    speak again. `refused` says why another may not run, `offered` are the coins of the run.
    """
    reasons = {}
    for signal in said:
        reason = _why(signal, members, refused, offered)
        if signal.direction and reason:
            reasons[signal.strategy, signal.instrument.coin_id] = reason
    if not reasons:
        return []
    candles = candle_history(
        instruments=sorted({coin_id for _, coin_id in reasons}),
        timeframe=run.timeframe,
        start=run.bar_open_time,
        end=run.bar_open_time + duration(run.timeframe),
    )
    closes = dict(zip(candles.coin_ids, candles.close[0].tolist(), strict=True))
    return [
        withdrawal(
            strategy=strategy,
            coin_id=coin_id,
            timeframe=run.timeframe,
            open_time=run.bar_open_time,
            price=closes[coin_id],
            reason=reason,
        )
        for (strategy, coin_id), reason in sorted(reasons.items())
    ]


def _why(
    signal: Signal, members: Collection[str], refused: Mapping[str, str], offered: Collection[str]
) -> str:
    """Why nobody computes the signal's state any more; empty when somebody does."""
    if signal.strategy == CONSENSUS:
        if not members and RELOADING not in refused.values():
            return NONE_ENABLED
    elif signal.strategy not in members:
        reason = refused.get(signal.strategy, NOT_ENABLED)
        if reason != RELOADING:  # who is being loaded may speak again, like one that raised
            return reason
    return "" if signal.instrument.coin_id in offered else NOT_OFFERED
