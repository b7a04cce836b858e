"""What taking costs beyond the best price where no book says it. Pure; compiles."""

from __future__ import annotations

import math

from trading.ticks import adverse_ticks

BPS = 10_000.0

# Daily volatility at which the base slippage holds: about what bitcoin has had since 2018.
CALM_VOLATILITY = 0.03

# The price moved by an order of size Q is Y x volatility x sqrt(Q / V), with volatility and volume
# V of a day and Y close to one, over markets and decades: B. Toth et al., "Anomalous price impact
# and the critical nature of liquidity in financial markets", Physical Review X 1, 021006 (2011).
# An order pays two thirds of it on average while it is worked; charged is the whole.
IMPACT = 1.0

# Where a venue stops a market order: Binance USD-M gives 5% from the mark price for its large
# contracts (`marketTakeBound` of /fapi/v1/exchangeInfo). Nothing fills further from the best price,
# and no model says more than the venue would let an order pay.
MARKET_BOUND_BPS = 500.0


def slipped_ticks(side: int, ticks: int, slippage_bps: float) -> int:
    """A price moved against the trader by `slippage_bps`, in whole ticks, rounded against it."""
    return adverse_ticks(side, ticks * (1.0 + side * slippage_bps / BPS), 1, 1)


def expected_slippage_bps(
    base_bps: float, volatility: float, notional: float, day_volume: float
) -> float:
    """The slippage of an order of `notional` quote units that takes from an unknown book.

    `base_bps` is what a small order pays in a calm market; it grows with `volatility` (of 24 hours,
    a fraction) where that is above CALM_VOLATILITY. The square-root law of impact adds what the
    order's size does to a market that turns over `day_volume` quote units in 24 hours. What is
    unknown (NaN, or not above zero) adds nothing; never above MARKET_BOUND_BPS.
    """
    if not 0.0 < volatility < math.inf:
        return min(base_bps, MARKET_BOUND_BPS)
    expected = base_bps * max(1.0, volatility / CALM_VOLATILITY)
    if 0.0 < day_volume < math.inf and notional > 0.0:
        expected += BPS * IMPACT * volatility * math.sqrt(notional / day_volume)
    return min(expected, MARKET_BOUND_BPS)
