"""Which strategies we ship: the explicit table. Pure.

To add one: a file in `strategies/`, its values in `defaults/`, one line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from signals.parameters import build_with
from signals.presets import Preset, read_preset
from signals.strategies.mean_reversion import MeanReversion
from signals.strategies.momentum import Momentum
from signals.strategies.multi_bucket import MultiBucket
from signals.strategies.ripple import Ether, Ripple
from signals.strategies.vix_correlation import VixCorrelation
from signals.strategies.volatility_breakout import VolatilityBreakout
from signals.strategies.volume_spike import VolumeSpike
from signals.strategy import Strategy

STRATEGIES: dict[str, type[Strategy]] = {
    strategy.name: strategy
    for strategy in (
        MeanReversion,
        Momentum,
        MultiBucket,
        Ripple,
        Ether,
        VixCorrelation,
        VolatilityBreakout,
        VolumeSpike,
    )
}
PRESETS: dict[str, Preset] = {name: read_preset(name) for name in STRATEGIES}
TIMEFRAMES = frozenset(strategy.timeframe for strategy in STRATEGIES.values())
CONSENSUS = "consensus"
OUTSIDE = "outside"  # the name under which programs outside speak


class UnknownStrategy(ValueError):
    """No strategy of that name is registered."""


def build_strategy(name: str, parameters: Mapping[str, Any] | None = None) -> Strategy:
    """The named strategy with `parameters` over those of its preset.

    Raises UnknownStrategy, or ParameterError naming every parameter that does not fit.
    """
    kind = strategy_type(name)
    return build_with(kind, {**PRESETS[name].parameters, **(parameters or {})})


def strategy_type(name: str) -> type[Strategy]:
    """The class of a registered strategy. Raises UnknownStrategy."""
    try:
        return STRATEGIES[name]
    except KeyError:
        known = ", ".join(STRATEGIES)
        raise UnknownStrategy(f"unknown strategy {name!r}; known: {known}") from None
