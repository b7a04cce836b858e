"""The bars that exchanges answer with as arrays. Binance's klines and Bybit's kline begin with the
same six columns."""

from __future__ import annotations

import msgspec

from collectors.exchange import moment_of
from collectors.marketdata import Candle
from collectors.venues import Moment


class KlineRow(msgspec.Struct, array_like=True, frozen=True):
    """One bar; what comes after the volume is not used. Whether its prices can be is for the rules
    of quality to say."""

    open_time: Moment
    open: float
    high: float
    low: float
    close: float
    volume: float

    def candle(self, source: str) -> Candle:
        """The bar as a candle. Raises MalformedPayload for a time that no clock shows: a row made
        from a streamed bar was not checked while it was decoded."""
        return Candle(
            open_time=moment_of(self.open_time),
            open=self.open,
            high=self.high,
            low=self.low,
            close=self.close,
            volume=self.volume,
            source=source,
        )
