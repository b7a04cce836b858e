"""A small market that accounts trade in: instruments, candles, quotes, bar runs, a clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import redis
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient

from collectors import clock
from collectors.marketdata import Quote
from collectors.models import Instrument, Listing, Ohlcv
from signals.models import BarRun, RunState, Signal
from tests.factories import make_instrument, make_signal, make_user
from trading.models import Account
from trading.services import advance_account, create_account

START = datetime(2021, 5, 13, tzinfo=UTC)
HOUR = timedelta(hours=1)
# Of a quote of now: an order of now is at the venue before it.
REACHED = timedelta(milliseconds=200)
VOLUME = 1e5  # an hour, base units


@dataclass
class World:
    """Moves market time, writes candles, quotes and signals, and finishes bar runs."""

    redis: redis.Redis

    def at(self, moment: datetime) -> None:
        """Set market time; it all but stands still."""
        clock.configure(clock.MarketClock(start=moment, anchor=clock.wall_now(), speed=0.001))

    def listed(self, coin_id: str, **fields: Any) -> Instrument:
        """An instrument that trades at Binance in ticks of 0.1 and steps of 0.001."""
        instrument = make_instrument(coin_id)
        defaults = {
            "symbol": f"{coin_id.upper()}USDT",
            "tick_size": "0.1",
            "quantity_step": "0.001",
        }
        _, is_new = Listing.objects.get_or_create(
            instrument=instrument, exchange="binance", defaults=defaults | fields
        )
        if is_new:
            self.day_before(instrument)
        return instrument

    def day_before(self, instrument: Instrument) -> None:
        """A calm day of much trade before START: risk refuses what it knows nothing of."""
        self.before(instrument, [100.0] * 26)

    def before(self, instrument: Instrument, closes: Sequence[float]) -> None:
        """Hours that end at START with these closes, in place of what was before."""
        Ohlcv.objects.filter(instrument=instrument, open_time__lt=START).delete()
        Ohlcv.objects.bulk_create(
            Ohlcv(
                instrument=instrument,
                timeframe="1h",
                open_time=START - (len(closes) - hour) * HOUR,
                open=close,
                high=close,
                low=close,
                close=close,
                volume=VOLUME,
                source="binance",
                received_at=START,
            )
            for hour, close in enumerate(closes)
        )

    def quote(self, coin_id: str, bid: float, ask: float, *, at: datetime | None = None) -> None:
        """What the stream last saw of an instrument."""
        symbol = f"{coin_id.upper()}USDT"
        quote = Quote(
            exchange="binance",
            symbol=symbol,
            best_bid=bid,
            bid_quantity=1.0,
            best_ask=ask,
            ask_quantity=1.0,
            event_time=at or clock.now() + REACHED,
            received_at=clock.now(),
            sequence=1,
        )
        self.redis.set(f"orderbook:binance:{symbol}", msgspec.json.encode(quote))

    def candle(
        self,
        coin_id: str,
        bar: datetime,
        prices: tuple[float, float, float, float],
        *,
        is_sampled: bool = False,
    ) -> None:
        """A stored hourly candle of (open, high, low, close)."""
        opened, high, low, close = prices
        Ohlcv.objects.create(
            instrument=self.listed(coin_id),
            timeframe="1h",
            open_time=bar,
            open=opened,
            high=high,
            low=low,
            close=close,
            volume=VOLUME,
            source="binance",
            is_sampled=is_sampled,
            received_at=bar + HOUR,
        )

    def run(self, bar: datetime, *, state: str = RunState.DONE) -> BarRun:
        """The bar's run."""
        run, _ = BarRun.objects.update_or_create(
            timeframe="1h",
            bar_open_time=bar,
            defaults={"state": state, "started_at": bar, "finished_at": bar},
        )
        return run

    def signal(self, coin_id: str, direction: int, bar: datetime, **fields: Any) -> Signal:
        """A consensus signal at the bar, without own stop, target or size."""
        values = {"stop_loss": None, "take_profit": None, "position_size": None, "price": 100.0}
        self.listed(coin_id)
        return make_signal(bar=bar, coin_id=coin_id, direction=direction, **{**values, **fields})


@pytest.fixture
def world(redis_client: redis.Redis) -> Iterator[World]:
    """A market at START, restored to the process's own clock afterwards."""
    before = clock.current()
    made = World(redis=redis_client)
    made.at(START + timedelta(minutes=30))
    yield made
    clock.configure(before)


@pytest.fixture
def account(world: World, db: None) -> Account:
    """An account of 10,000 that was opened half an hour into the first bar."""
    return create_account(name="paper", initial_capital=Decimal(10_000))


@pytest.fixture
def client_of(api_client: APIClient) -> Any:
    """Logs the client in with a role."""

    def login(role: str) -> APIClient:
        user = get_user_model().objects.filter(username=role).first()
        api_client.force_authenticate(user or make_user(role, role=role))
        return api_client

    return login


@pytest.fixture
def holding(world: Any, account: Account) -> Account:
    """The account with a long position in bitcoin."""
    world.candle("bitcoin", START, (100.0, 101.0, 99.0, 100.0))
    world.signal("bitcoin", 1, START)
    world.run(START)
    world.at(START + HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    advance_account(account_id=account.pk)
    return account
