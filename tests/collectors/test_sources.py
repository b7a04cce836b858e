"""Each exchange folder is registered, and serves what the contract asks for."""

from pathlib import Path

import pytest
import redis

from collectors import exchanges
from collectors.budget import CallBudget, provider_limits
from collectors.feeds import Kind
from collectors.models import default_source_chain
from collectors.sources import (
    CANDLE_SOURCES,
    EXCHANGES,
    FEEDS,
    FUNDING_VENUES,
    VENUES,
    VOLUME_CODES,
    ProviderAccess,
    open_candle_source,
)
from collectors.venues import FundingSource
from mts_project import environment


def test_every_exchange_folder_is_registered() -> None:
    (folder,) = exchanges.__path__
    folders = {path.parent.name for path in Path(folder).glob("*/__init__.py")}
    assert folders == set(EXCHANGES)
    assert {name.partition("_")[0] for name in VENUES} == folders
    assert set(FEEDS) == set(VENUES)
    assert [*EXCHANGES, "coingecko"] == default_source_chain()
    assert {*default_source_chain(), "binance_spot"} < set(provider_limits(coingecko_plan="none"))


def test_the_settings_allow_what_there_is() -> None:
    assert set(environment.ALLOWED_SOURCES) == set(CANDLE_SOURCES)
    assert set(environment.CANDLE_SOURCES) == set(default_source_chain())
    assert list(environment.STREAM_KINDS) == list(Kind)
    assert {feed.url_setting for feed in FEEDS.values()} < set(environment.PROVIDER_URLS)


def test_codes_of_volumes_are_kept_for_ever() -> None:
    # They are in files: a name may be added, with the next number up to 127, none be changed.
    first = {"binance": 1, "bybit": 2, "binance_spot": 3, "bybit_spot": 4, "import": 5}
    assert VOLUME_CODES.items() >= first.items()
    assert sorted(VOLUME_CODES.values()) == list(range(1, len(VOLUME_CODES) + 1))
    assert len(VOLUME_CODES) < 128
    assert VENUES.keys() < VOLUME_CODES.keys()
    assert "coingecko" not in VOLUME_CODES


@pytest.mark.parametrize("name", CANDLE_SOURCES)
def test_every_source_opens(name: str, redis_client: redis.Redis) -> None:
    names = {"COINGECKO_BASE_URL"} | {venue.url_setting for venue in VENUES.values()}
    access = ProviderAccess(
        urls=dict.fromkeys(names, "http://127.0.0.1:9"),
        timeout_s=1,
        coingecko_plan="none",
        coingecko_api_key="",
        fred_api_key="",
    )
    source = open_candle_source(name, access=access, budget=CallBudget(redis_client))
    assert source.name == name
    assert isinstance(source, FundingSource) is (name in FUNDING_VENUES)
