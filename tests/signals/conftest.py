"""Markets that tests of signals are made of."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest

from collectors.marketdata import to_ms
from signals.strategy import Market

HOUR_MS = 3_600_000
FIRST = datetime(2021, 3, 1, tzinfo=UTC)

MakeMarket = Callable[..., Market]


@pytest.fixture
def make_market() -> MakeMarket:
    """Builds hourly markets from closes (B, K); every bar valid and the VIX known by default."""

    def make(
        close: np.ndarray, *, start: datetime = FIRST, vix: np.ndarray | None = None
    ) -> Market:
        close = np.ascontiguousarray(close, dtype=np.float64)
        bars, columns = close.shape
        opened = np.vstack([close[:1], close[:-1]])
        return Market(
            timeframe="1h",
            instruments=tuple(f"coin-{column}" for column in range(columns)),
            open_time=to_ms(start) + HOUR_MS * np.arange(bars, dtype=np.int64),
            open=opened,
            high=np.maximum(opened, close),
            low=np.minimum(opened, close),
            close=close,
            volume=np.ones_like(close),
            valid=np.ones(close.shape, dtype=np.bool_),
            macro={"VIXCLS": np.full(bars, 20.0) if vix is None else vix},
            macro_known={"VIXCLS": np.ones(bars, dtype=np.bool_)},
        )

    return make


@pytest.fixture
def random_market(make_market: MakeMarket) -> MakeMarket:
    """Builds seeded hourly markets of falling and rising months with a stepping VIX."""

    def make(*, seed: int, bars: int, columns: int = 2, start: datetime = FIRST) -> Market:
        rng = np.random.default_rng(seed)
        days = np.arange(bars) // 24
        shock = rng.normal(size=days[-1] + 1)[days]
        vix = 24.0 + 4.0 * shock
        move = np.diff(np.log(np.maximum(vix, 5.0)), prepend=np.log(max(vix[0], 5.0)))
        returns = rng.normal(size=(bars, columns)) * 0.006 - 0.3 * move[:, np.newaxis]
        market = make_market(
            100.0 * np.exp(np.cumsum(returns, axis=0)), start=start, vix=np.maximum(vix, 5.0)
        )
        return dataclasses.replace(market, valid=rng.random((bars, columns)) > 0.003)

    return make
