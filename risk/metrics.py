"""How much a portfolio may lose and where its heat lies. Pure.

Value at risk (VaR) and expected shortfall of one day at a confidence, as positive losses in quote
units: by what the held exposures would have made on past days (historical), and by a normal
distribution with those days' covariance and no drift (parametric). Source: Jorion, "Value at Risk",
3rd ed., chapters 5 and 10; expected shortfall as in Acerbi and Tasche, "On the coherence of
Expected Shortfall", 2002. All of it is undefined (None) without enough common days.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from risk.facts import Surroundings, pair_correlation
from risk.portfolio import Portfolio

CONFIDENCE = 0.95
TAIL_DAYS = 366  # daily closes that a tail is read from, where there are so many
LEAST_RETURNS = 30  # of one day; at 95% a tail of fewer is one day or two

Doubles = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TailRisk:
    """Losses of one day in quote units, positive; None is undefined. `days` went into them."""

    confidence: float
    days: int
    historical_var: float | None
    historical_shortfall: float | None
    parametric_var: float | None
    parametric_shortfall: float | None


@dataclass(frozen=True, kw_only=True)
class Heat:
    """Exposure as fractions of equity, and what may be lost of it.

    `by_instrument` is signed (short is negative), `by_sector` gross, `by_direction` has long,
    short, gross and net. `correlation_weighted` is the root of w'Cw over the signed shares w and
    the instruments' correlations C of 30 daily closes: the gross heat when all move as one, less
    when they hedge or diversify. `correlations` has every pair once, None where unknown: such a
    pair counts as moving as one, the cautious side.
    """

    equity: float
    gross: float
    by_instrument: Mapping[str, float]
    by_sector: Mapping[str, float]
    by_direction: Mapping[str, float]
    correlation_weighted: float
    correlations: Mapping[tuple[str, str], float | None]
    tail: TailRisk


def portfolio_heat(
    portfolio: Portfolio, surroundings: Surroundings, returns: Mapping[str, Sequence[float]]
) -> Heat:
    """The heat of what is held; `returns` are the daily ones of each instrument for the tail, of
    the same days. Raises ValueError for an account without equity.
    """
    equity = portfolio.equity
    if not (0.0 < equity < math.inf):
        raise ValueError("heat is a share of equity, and there is none")
    held = {name: value for name, value in sorted(portfolio.exposures.items()) if value != 0.0}
    shares = {name: value / equity for name, value in held.items()}
    sectors: dict[str, float] = {}
    for name, share in shares.items():
        sector = surroundings.sectors.get(name) or name
        sectors[sector] = sectors.get(sector, 0.0) + abs(share)
    long = sum((share for share in shares.values() if share > 0.0), 0.0)
    short = -sum((share for share in shares.values() if share < 0.0), 0.0)
    correlations = pair_correlations(list(held), surroundings)
    return Heat(
        equity=equity,
        gross=long + short,
        by_instrument=shares,
        by_sector=sectors,
        by_direction={"long": long, "short": short, "gross": long + short, "net": long - short},
        correlation_weighted=correlation_weighted(shares, correlations),
        correlations=correlations,
        tail=tail_risk(list(held.values()), [returns[name] for name in held]),
    )


def pair_correlations(
    coin_ids: Sequence[str], surroundings: Surroundings
) -> dict[tuple[str, str], float | None]:
    """The correlation of every pair of instruments, in their order; None where it is unknown."""
    found: dict[tuple[str, str], float | None] = {}
    for place, first in enumerate(coin_ids):
        for second in coin_ids[place + 1 :]:
            value = pair_correlation(
                surroundings.of(first).daily_returns, surroundings.of(second).daily_returns
            )
            found[first, second] = None if math.isnan(value) else value
    return found


def correlation_weighted(
    shares: Mapping[str, float], correlations: Mapping[tuple[str, str], float | None]
) -> float:
    """The root of w'Cw; an unknown correlation adds, whatever the directions."""
    total = sum(share * share for share in shares.values())
    for (first, second), value in correlations.items():
        product = shares[first] * shares[second]
        total += 2.0 * (abs(product) if value is None else product * value)
    return math.sqrt(max(total, 0.0))


def tail_risk(
    exposures: Sequence[float],
    daily_returns: Sequence[Sequence[float]],
    *,
    confidence: float = CONFIDENCE,
) -> TailRisk:
    """VaR and expected shortfall of one day of K signed exposures (quote units), from K series of
    daily returns of the same days; days that not all have are left out.

    The historical VaR is the loss at rank `confidence` by linear interpolation, its shortfall the
    mean of the losses not below it. Undefined with nothing held or fewer than 30 common days.
    """
    if not 0.5 < confidence < 1.0:
        raise ValueError("a confidence above 0.5 and below 1")
    if not exposures:
        daily_returns = [[]]
    table: Doubles = np.array(daily_returns, dtype=np.float64).T
    table = table[~np.isnan(table).any(axis=1)]
    days = len(table)
    if days < LEAST_RETURNS:
        return TailRisk(
            confidence=confidence, days=days, historical_var=None, historical_shortfall=None,
            parametric_var=None, parametric_shortfall=None,
        )  # fmt: skip
    losses: Doubles = -(table @ np.array(exposures, dtype=np.float64))
    var = float(np.quantile(losses, confidence))
    shortfall = float(losses[losses >= var].mean())
    # The deviation of the sum is that of the covariance matrix: the root of w' S w.
    deviation = float(losses.std(ddof=1))
    normal = NormalDist()
    score = normal.inv_cdf(confidence)
    return TailRisk(
        confidence=confidence,
        days=days,
        historical_var=max(var, 0.0),
        historical_shortfall=max(shortfall, 0.0),
        parametric_var=deviation * score,
        parametric_shortfall=deviation * normal.pdf(score) / (1.0 - confidence),
    )
