"""An account that holds nothing, before a calm market."""

import math

from risk.portfolio import Standing

STANDING = Standing(
    equity=10_000.0,
    gross_exposure=0.0,
    instrument_exposure=0.0,
    sector_exposure=0.0,
    open_risk=0.0,
    open_positions=0,
    high_water_mark=10_000.0,
    day_start_equity=10_000.0,
    volatility_24h=0.04,
    daily_volatility=math.nan,
    quote_volume_24h=5e7,
    correlation=0.0,
    held_risk=math.nan,
    trades=0,
    wins=0,
    won=0.0,
    lost=0.0,
)
