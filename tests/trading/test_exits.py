"""Which bars may end a position: those that it was held through, as the backtest has it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors import clock
from collectors.marketdata import duration, floor_time
from signals.models import BarRun
from trading.models import Account, Fill, PendingSignal, Position, Trade
from trading.services import advance_account, close_position, create_account
from trading.services.protection import first_judged_bar

START = datetime(2021, 5, 13, tzinfo=UTC)
HOUR = timedelta(hours=1)
CRASH = (100.0, 101.0, 50.0, 100.0)
pytestmark = pytest.mark.django_db


def run_clock(moment: datetime, speed: float) -> None:
    clock.configure(clock.MarketClock(start=moment, anchor=clock.wall_now(), speed=speed))


def enter_late(world: Any, account: Account, moment: datetime, *, speed: float = 0.001) -> Position:
    """A long position from the first bar's signal, filled at `moment` and not before.

    Every bar from the signal's own on falls through the stop and comes back. The bars that are
    closed at `moment` have their finished runs.
    """
    for hour in range(10):
        world.candle("bitcoin", START + hour * HOUR, CRASH)
    world.signal("bitcoin", 1, START)
    bar = START
    while bar + HOUR <= moment:
        world.run(bar)
        bar += HOUR
    run_clock(moment, speed)
    world.quote("bitcoin", 100.0, 100.1)
    advance_account(account_id=account.pk)
    return Position.objects.get(account=account)


def let_the_bars_pass(world: Any, account: Account) -> None:
    """The three bars after the newest run, which are closed and run at once."""
    newest = BarRun.objects.latest("bar_open_time").bar_open_time
    for hour in (1, 2, 3):
        world.run(newest + hour * HOUR)
    world.at(newest + 4 * HOUR)
    advance_account(account_id=account.pk)


@pytest.mark.parametrize(
    ("late", "judged"),
    [
        # Seconds after the open: the bar counts, as in the backtest.
        (timedelta(seconds=2), START + HOUR),
        (timedelta(minutes=50), START + 2 * HOUR),
    ],
)
def test_the_bar_of_the_entry_counts_when_the_entry_came_at_its_open(
    world: Any, account: Account, late: timedelta, judged: datetime
) -> None:
    position = enter_late(world, account, START + HOUR + late)
    assert position.entered_at is not None
    let_the_bars_pass(world, account)
    trade = Trade.objects.get()
    assert Fill.objects.get(order__leg="stop_loss").bar_open_time == judged
    assert trade.exited_at == judged + HOUR > trade.entered_at


def test_bars_that_closed_before_a_late_entry_do_not_stop_it(world: Any, account: Account) -> None:
    """On a fast clock the machine's own latency is hours: the entry is several bars late."""
    position = enter_late(world, account, START + 4 * HOUR + timedelta(minutes=1), speed=3600.0)
    # The runs of the bars in between were worked off after the entry and left it alone.
    assert position.quantity_steps > 0
    let_the_bars_pass(world, account)
    trade = Trade.objects.get()
    assert trade.exit_reason == "stop_loss"
    assert trade.exited_at > trade.entered_at


def test_a_signal_that_waited_for_its_quote_is_judged_from_its_fill(
    world: Any, account: Account
) -> None:
    world.signal("bitcoin", 1, START)
    world.run(START)
    world.at(START + HOUR)
    advance_account(account_id=account.pk)
    assert PendingSignal.objects.exists()
    world.at(START + HOUR + timedelta(minutes=40))
    world.quote("bitcoin", 100.0, 100.1)
    advance_account(account_id=account.pk)
    world.candle("bitcoin", START + HOUR, CRASH)
    world.run(START + HOUR)
    world.at(START + 2 * HOUR)
    advance_account(account_id=account.pk)
    assert Position.objects.get().quantity_steps > 0


MOMENTS = st.floats(0.0, 4.9 * 3600.0).map(lambda seconds: START + HOUR + timedelta(0, seconds))
SPEEDS = st.sampled_from([0.001, 1.0, 60.0, 3600.0])


# Every example sets the clock, and undoes its rows.
ONE_WORLD = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(ONE_WORLD)
@given(filled_at=MOMENTS, speed=SPEEDS, timeframe=st.sampled_from(["1m", "15m", "1h", "1d"]))
def test_the_first_judged_bar_opens_half_a_bar_before_the_fill_at_most(
    world: Any, filled_at: datetime, speed: float, timeframe: str
) -> None:
    run_clock(filled_at, speed)
    bar, step = floor_time(filled_at, timeframe), duration(timeframe)
    judged = first_judged_bar(filled_at=filled_at, timeframe=timeframe)
    assert judged in (bar, bar + step)
    assert filled_at - judged <= step / 2
    # An entry within half a minute, which is what a bar run may wait, is one at the open.
    assert judged == bar or filled_at - bar > min(timedelta(seconds=30), step / 2)


@settings(ONE_WORLD, max_examples=8)
@given(moment=MOMENTS)
def test_no_position_leaves_before_it_was_entered(world: Any, moment: datetime) -> None:
    with transaction.atomic():
        world.at(START + HOUR / 2)
        account = create_account(name="late", initial_capital=Decimal(10_000))
        enter_late(world, account, moment, speed=3600.0)
        let_the_bars_pass(world, account)
        trade = Trade.objects.get()
        bar = Fill.objects.get(order__leg="stop_loss").bar_open_time
        run_clock(moment, 3600.0)
        assert bar == first_judged_bar(filled_at=trade.entered_at, timeframe="1h")
        assert trade.entered_at < trade.exited_at == bar + HOUR
        transaction.set_rollback(True)


def test_a_close_that_read_its_clock_before_the_entry_is_not_dated_before_it(
    world: Any, account: Account
) -> None:
    """Of two workers the one that waited for the lock has the older clock."""
    enter_late(world, account, START + HOUR + timedelta(seconds=2))
    world.at(START + HOUR + timedelta(seconds=1))
    world.quote("bitcoin", 100.0, 100.1)
    assert close_position(account_id=account.pk, coin_id="bitcoin") is not None
    trade = Trade.objects.get()
    assert trade.exited_at == trade.entered_at
