"""The examples run on seeded candles, and what they print is true."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pytest_django.live_server_helper import LiveServer

from collectors import clock, services
from collectors.marketdata import Candle
from collectors.models import Instrument, MacroObservation, MacroSeries
from collectors.selectors import market_frame
from examples import crypto_with_macro, health, statistics, trends
from tests.factories import make_user

NOW = datetime(2025, 3, 3, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DAYS = 60


@pytest.fixture
def seeded(db: None) -> Iterator[None]:
    """Sixty days of bitcoin, that rises and falls with VIX; a hole, and an hour without volume."""
    before = clock.current()
    clock.configure(clock.MarketClock(start=NOW, anchor=clock.wall_now(), speed=1.0))
    services.seed_instruments()
    services.seed_macro_series()
    candles = []
    for hour in range(DAYS * 24):
        day = hour // 24
        price = 100.0 + day + 5 * (day % 3)
        candles.append(
            Candle(
                open_time=NOW - DAYS * DAY + hour * HOUR,
                open=price,
                high=price + 1,
                low=price - 1,
                close=price,
                volume=None if hour == 7 else 2.0,
                source="coingecko" if hour == 7 else "binance",
            )
        )
    del candles[5]
    bitcoin = Instrument.objects.get(coin_id="bitcoin")
    services.store_candles(instrument=bitcoin, timeframe="1h", candles=candles)
    vix = MacroSeries.objects.get(series_id="VIXCLS")
    for day in range(10, DAYS):
        released = NOW - (DAYS - day) * DAY
        MacroObservation.objects.create(
            series=vix,
            date=released.date() - DAY,
            value=20.0 + (day - 1) % 3,
            realtime_start=released.date(),
            released_at=released,
            received_at=released,
        )
    yield
    clock.configure(before)


@pytest.mark.usefixtures("seeded")
def test_a_frame_holds_what_was_known() -> None:
    frame = market_frame(
        instrument="bitcoin", start=NOW - DAYS * DAY, end=NOW, macro=("VIXCLS", "DGS10")
    )
    assert len(frame) == DAYS * 24
    assert frame.index[0] == NOW - DAYS * DAY
    hole, unknown = frame.iloc[5], frame.iloc[7]
    assert (hole["valid"], hole["close"], hole["volume"]) == (False, 100.0, 0.0)
    assert unknown["valid"]
    assert frame["volume"].isna().sum() == 1
    # The first release is at midnight of the eleventh day: the bar that closes then knows it.
    assert frame["VIXCLS_known"].sum() == (DAYS - 10) * 24 + 1
    assert frame["VIXCLS"].isna().sum() == 10 * 24 - 1
    assert frame["VIXCLS"].iloc[10 * 24 - 1] == 20.0
    assert frame["VIXCLS"].iloc[-1] == 20.0 + (DAYS - 2) % 3
    assert not frame["DGS10_known"].any()
    assert frame["VIXCLS_forward_filled"].dtype == bool
    daily = market_frame(
        instrument="bitcoin", start=NOW - DAYS * DAY, end=NOW, timeframe="1d", macro=()
    )
    assert daily["valid"].tolist() == [False] + [True] * (DAYS - 1)
    assert daily["derived"].tolist() == [False] + [True] * (DAYS - 1)


@pytest.mark.usefixtures("seeded")
def test_the_examples_print(capsys: pytest.CaptureFixture[str]) -> None:
    statistics.main(DAYS)
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["bitcoin"][1:3] == [str(DAYS * 24 - 1), "1"]
    assert lines["solana"] == ["solana", "0"]
    trends.main()
    out = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert out["bitcoin"].endswith("up")
    assert "only 0 whole days" in out["solana"]
    crypto_with_macro.main()
    vix, dgs10, _ = capsys.readouterr().out.splitlines()
    assert vix.split()[0] == "VIXCLS"
    assert float(vix.split()[1]) > 0.9
    assert "too few" in dgs10


@pytest.mark.django_db(transaction=True)
def test_the_health_example_asks_a_running_server(
    live_server: LiveServer, capsys: pytest.CaptureFixture[str]
) -> None:
    user = make_user("viewer", role="viewer")
    user.set_password("seen")
    user.save()
    is_well = health.main(live_server.url, "viewer", "seen")
    out = capsys.readouterr().out
    assert out.startswith("status: ")
    assert ("status: unhealthy" not in out) == is_well
    assert "database" in out
