"""Which strategies exist: the explicit table, one line each. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from signals.parameters import build_with
from signals.strategies.mean_reversion import MeanReversion
from signals.strategies.vix_correlation import VixCorrelation
from signals.strategy import Strategy

STRATEGIES: dict[str, type[Strategy]] = {
    strategy.name: strategy
    for strategy in (
        MeanReversion,
        VixCorrelation,
    )
}
TIMEFRAMES = frozenset(strategy.timeframe for strategy in STRATEGIES.values())
CONSENSUS = "consensus"


class UnknownStrategy(ValueError):
    """No strategy of that name is registered."""


def build_strategy(name: str, parameters: Mapping[str, Any] | None = None) -> Strategy:
    """The named strategy with `parameters` over its defaults.

    Raises UnknownStrategy, or ParameterError naming every parameter that does not fit.
    """
    return build_with(strategy_type(name), parameters or {})


def strategy_type(name: str) -> type[Strategy]:
    """The class of a registered strategy. Raises UnknownStrategy."""
    try:
        return STRATEGIES[name]
    except KeyError:
        known = ", ".join(STRATEGIES)
        raise UnknownStrategy(f"unknown strategy {name!r}; known: {known}") from None
