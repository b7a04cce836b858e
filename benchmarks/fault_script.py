"""The fixed sequence of the kill tests: what the market and the strategies do, step by step.

    python -m benchmarks.fault_script       # migrate and seed the database of DATABASE_URL

Every step finishes a bar run whose signals were written beforehand, or moves quotes, or tells of a
funding settlement, and holds its prices until the books have come to rest. So whatever was killed
meanwhile, each order meets the same prices, and the books must be the same to the last unit.
Between them the steps open, flip and close, long and short, set off a stop, a target, a resting
entry and a trailing stop, cancel by one-cancels-other, and pay funding.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

START = datetime(2025, 3, 3, 12, 10, tzinfo=UTC)
HISTORY_DAYS = 45
EXCHANGE = "binance"
HALF_SPREAD = 0.05
# Coin, sector, first quote. Ticks of 0.1 and steps of 0.001.
COINS = (
    ("bitcoin", "store of value", 100.0),
    ("ethereum", "smart contracts", 200.0),
    ("solana", "payments", 50.0),
    ("cardano", "exchange", 80.0),
)
LONG, SHORT, FLAT = 1, -1, 0


@dataclass(frozen=True)
class Step:
    """What happens: quotes move, the signals of a bar come, a settlement is told, a person's order
    (named by its key) begins to work.

    `fills` is how many fills the account has once the books have come to rest, and `watermark` how
    far in ticks the trailing stop has then followed the market at least.
    """

    name: str
    fills: int
    quotes: Mapping[str, float] = field(default_factory=dict)
    signals: Mapping[str, int] = field(default_factory=dict)
    funding: Mapping[str, float] = field(default_factory=dict)
    orders: tuple[str, ...] = ()
    watermark: int = 0


STEPS = (
    Step("two openings", 2, signals={"bitcoin": LONG, "ethereum": SHORT}),
    Step("a third", 3, signals={"solana": LONG}),
    Step("a resting entry is met", 4, quotes={"cardano": 76.0}),
    Step("funding is settled", 4, funding={"bitcoin": 0.0004, "ethereum": -0.0003}),
    Step("a stop is set off", 5, quotes={"bitcoin": 97.0}),
    Step("a flip", 7, signals={"ethereum": LONG}),
    Step("a target is met", 8, quotes={"solana": 53.0}),
    Step("a trailing stop is placed", 8, orders=("trail",)),
    Step("the market runs ahead of it", 8, quotes={"cardano": 77.0}, watermark=769),
    Step("and falls back on it", 9, quotes={"cardano": 76.2}),
    Step("two openings on the other side", 11, signals={"bitcoin": SHORT, "solana": SHORT}),
    Step("everything is closed", 14, signals={"bitcoin": FLAT, "solana": FLAT, "ethereum": FLAT}),
)


def bar_of(step: int) -> datetime:
    """The open time of the bar of a step. All end before anything happens and none long before: its
    signals are never late, and every quote is one that their orders can meet at once. Or the next
    would be sized before or after such a fill, as it happens."""
    return START - timedelta(hours=1, seconds=len(STEPS) - step)


def symbol_of(coin_id: str) -> str:
    """Its symbol at the exchange."""
    return f"{coin_id.upper()}USDT"


def seed() -> None:
    """Instruments, a history that risk can judge by, an account, every run and signal to come."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mts_project.settings")
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)

    from mts_project.schedule import seed_schedule

    seed_schedule()
    for coin_id, sector, price in COINS:
        _seed_coin(coin_id, sector, price)
    _seed_signals()
    _seed_account()


def _seed_coin(coin_id: str, sector: str, price: float) -> None:
    """Hourly candles that go up and down by a percent, each coin by itself, to the first quote."""
    from collectors.models import Instrument, Listing, Ohlcv

    instrument = Instrument.objects.create(
        coin_id=coin_id, symbol=coin_id[:3].upper(), name=coin_id, sector=sector
    )
    Listing.objects.create(
        instrument=instrument,
        exchange=EXCHANGE,
        symbol=symbol_of(coin_id),
        tick_size="0.1",
        quantity_step="0.001",
    )
    last = START.replace(minute=0) - timedelta(hours=1)
    chance = random.Random(coin_id)
    before, rows = price, []
    for hour in range(24 * HISTORY_DAYS):
        close = price * (1.0 + chance.uniform(-0.01, 0.01)) if hour else price
        rows.append(
            Ohlcv(
                instrument=instrument,
                timeframe="1h",
                open_time=last - timedelta(hours=hour),
                open=before,
                high=max(before, close) * 1.001,
                low=min(before, close) * 0.999,
                close=close,
                volume=1_000_000.0,
                source=EXCHANGE,
                received_at=last,
            )
        )
        before = close
    Ohlcv.objects.bulk_create(rows)


def _seed_signals() -> None:
    from collectors.models import Instrument
    from signals.models import BarRun, RunState, Signal

    for number, step in enumerate(STEPS):
        bar = bar_of(number)
        run = BarRun.objects.create(
            timeframe="1h", bar_open_time=bar, state=RunState.RUNNING, started_at=bar
        )
        for coin_id, direction in step.signals.items():
            price = dict((name, first) for name, _, first in COINS)[coin_id]
            Signal.objects.create(
                strategy="consensus",
                instrument=Instrument.objects.get(coin_id=coin_id),
                timeframe="1h",
                bar_open_time=bar,
                at=bar + timedelta(hours=1),
                direction=direction,
                confidence=0.8,
                price=price,
                position_size=0.05,
                expires_at=bar + timedelta(hours=2),
                run=run,
                created_at=bar,
            )


def _seed_account() -> None:
    """An account with a resting entry, and a trailing stop that a person places later."""
    from decimal import Decimal

    from collectors import clock
    from collectors.models import Instrument
    from trading.models import Order, OrderKind, OrderLeg, OrderStatus
    from trading.services import create_account, locked_account
    from trading.services.placing import Ticket, place_order
    from trading.services.venues import venue_of

    clock.configure(clock.MarketClock(start=START, anchor=clock.wall_now(), speed=1.0))
    opened = START - timedelta(minutes=5)
    made = create_account(name="faults", initial_capital=Decimal(10_000), at=opened)
    cardano = Instrument.objects.get(coin_id="cardano")
    venue = venue_of(instrument=cardano, exchange=EXCHANGE, at=START)
    if venue is None:
        raise RuntimeError("cardano has no venue")
    entry = Ticket(
        leg=OrderLeg.OPEN,
        kind=OrderKind.LIMIT,
        side=LONG,
        steps=1_000,
        limit_ticks=765,
        key="entry",
    )
    trail = Ticket(
        leg=OrderLeg.CLOSE,
        kind=OrderKind.TRAILING_STOP,
        side=SHORT,
        steps=1_000,
        trail_ticks=6,
        key="trail",
        reason="manual",
    )
    with locked_account(made.pk) as account:
        for ticket in (entry, trail):
            place_order(account=account, instrument=cardano, venue=venue, ticket=ticket, at=START)
    # Written beforehand like everything else, and not working before its step.
    Order.objects.filter(key="trail").update(status=OrderStatus.CANCELLED)


if __name__ == "__main__":
    seed()
