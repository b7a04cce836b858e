"""Each exchange file is registered, and serves what the contract asks for."""

from pathlib import Path

import pytest
import redis

from collectors import exchanges
from collectors.budget import CallBudget, provider_limits
from collectors.models import default_source_chain
from collectors.sources import EXCHANGES, ProviderAccess, open_candle_source, open_channels


def test_every_exchange_file_is_registered() -> None:
    (folder,) = exchanges.__path__
    files = {path.stem for path in Path(folder).glob("*.py")} - {"__init__"}
    assert files == set(EXCHANGES)
    assert [*EXCHANGES, "coingecko"] == default_source_chain()
    assert set(default_source_chain()) < set(provider_limits(coingecko_plan="none"))


@pytest.mark.parametrize("name", default_source_chain())
def test_every_source_opens(name: str, redis_client: redis.Redis) -> None:
    names = ("BINANCE_REST_URL", "BYBIT_REST_URL", "COINGECKO_BASE_URL")
    access = ProviderAccess(
        urls=dict.fromkeys(names, "http://127.0.0.1:9"),
        timeout_s=1,
        coingecko_plan="none",
        coingecko_api_key="",
        fred_api_key="",
    )
    source = open_candle_source(name, access=access, budget=CallBudget(redis_client))
    assert source.name == name


@pytest.mark.parametrize("name", list(EXCHANGES))
def test_quotes_and_candles_have_connections_of_their_own(name: str) -> None:
    channels = open_channels(
        name, ws_url="ws://x", candles=[("BTCUSDT", "1h")], quotes=["BTCUSDT", "ETHUSDT"]
    )
    assert [channel.name for channel, _ in channels] == [f"{name} quotes", f"{name} candles"]
    assert open_channels(name, ws_url="ws://x", candles=[], quotes=[]) == []
