"""Which providers there are. To add an exchange: one file in `exchanges/`, one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from collectors.budget import CallBudget
from collectors.coingecko import CoinGecko
from collectors.exchange import CandleSource
from collectors.exchanges import binance, bybit
from collectors.stream import Channel, MessageReader, Update


class StreamChannels(Protocol):
    """The channels for (symbol, timeframe) candles and for the quotes of symbols."""

    def __call__(
        self, ws_url: str, *, candles: Sequence[tuple[str, str]], quotes: Sequence[str]
    ) -> list[Channel]: ...


@dataclass(frozen=True)
class Exchange:
    """What the product uses of one exchange; the URL settings are named after `name`."""

    name: str
    open_rest: Callable[..., CandleSource]
    stream_channels: StreamChannels
    read_message: Callable[[bytes, datetime], Sequence[Update]]


EXCHANGES: Mapping[str, Exchange] = {
    exchange.name: exchange
    for exchange in (
        Exchange(binance.NAME, binance.Binance, binance.stream_channels, binance.read_message),
        Exchange(bybit.NAME, bybit.Bybit, bybit.stream_channels, bybit.read_message),
    )
}

# Every candle source there is, by the names that source chains use.
CANDLE_SOURCES = (*EXCHANGES, CoinGecko.name)


@dataclass(frozen=True, kw_only=True)
class ProviderAccess:
    """How the providers are reached: their URLs by setting name, keys, timeout in seconds."""

    urls: Mapping[str, str]
    timeout_s: float
    coingecko_plan: str
    coingecko_api_key: str
    fred_api_key: str


def open_candle_source(name: str, *, access: ProviderAccess, budget: CallBudget) -> CandleSource:
    """The candle source of that name. Raises KeyError for an unknown one."""
    if name == CoinGecko.name:
        return CoinGecko(
            base_url=access.urls["COINGECKO_BASE_URL"],
            budget=budget,
            timeout_s=access.timeout_s,
            plan=access.coingecko_plan,
            api_key=access.coingecko_api_key,
        )
    exchange = EXCHANGES[name]
    return exchange.open_rest(
        base_url=access.urls[f"{name.upper()}_REST_URL"], budget=budget, timeout_s=access.timeout_s
    )


def open_channels(
    name: str, *, ws_url: str, candles: Sequence[tuple[str, str]], quotes: Sequence[str]
) -> list[tuple[Channel, MessageReader]]:
    """The stream channels of an exchange, each with the reader of its messages."""
    exchange = EXCHANGES[name]
    channels = exchange.stream_channels(ws_url, candles=candles, quotes=quotes)
    return [(channel, exchange.read_message) for channel in channels]
