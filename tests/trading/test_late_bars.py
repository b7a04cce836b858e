"""Candles that come, or become true, after their bar was worked off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from collectors.models import Ohlcv
from tests.trading.waiting import check, enter, place, sweep
from trading.models import Account, Fill, MissedBar, Order, Position, Trade
from trading.services import advance_account, latebars, work_account

START = datetime(2021, 5, 13, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
NOW = START + 3 * HOUR
pytestmark = pytest.mark.django_db


def leave_behind(world: Any, account: Account, *, sampled: bool) -> None:
    """The second hour is worked off without a true candle, the third with one."""
    if sampled:
        world.candle("bitcoin", START + HOUR, (100.0, 100.5, 99.5, 100.0), is_sampled=True)
    world.candle("bitcoin", START + 2 * HOUR, (100.0, 101.0, 99.0, 100.0))
    for hour in range(3):
        world.run(START + hour * HOUR)
    world.at(NOW)
    assert advance_account(account_id=account.pk) == 3
    assert work_account(account_id=account.pk) == 0


def true_candle(world: Any, prices: tuple[float, float, float, float]) -> None:
    Ohlcv.objects.filter(open_time=START + HOUR).delete()
    world.candle("bitcoin", START + HOUR, prices)


@pytest.mark.parametrize("sampled", [True, False])
def test_a_true_candle_sets_the_stop_off_and_it_fills_at_what_comes(
    world: Any, account: Account, sampled: bool
) -> None:
    enter(world, account)
    leave_behind(world, account, sampled=sampled)
    assert MissedBar.objects.get().open_time == START + HOUR
    # What is there already when the candle comes is from before anybody knew.
    world.quote("bitcoin", 99.0, 99.1, at=NOW - SECOND)
    true_candle(world, (100.0, 101.0, 94.0, 100.0))
    assert work_account(account_id=account.pk) == 0
    stop = Order.objects.get(leg="stop_loss")
    assert (stop.status, stop.is_triggered, stop.met_at is not None) == ("working", True, True)
    assert "2021-05-13 01:00" in stop.reason
    assert not MissedBar.objects.exists()
    assert sweep(world, account, NOW + SECOND, 98.0, 98.1) == 1
    trade, fill = Trade.objects.get(), Fill.objects.latest("id")
    assert (trade.exit_reason, fill.at > NOW) == ("stop_loss", True)
    # Neither the price of its trigger, which is of the past, nor the quote from before.
    assert fill.quote["best_bid"] == 98.0
    assert work_account(account_id=account.pk) == 0


@pytest.mark.parametrize(
    ("prices", "met"),
    [((100.0, 101.0, 95.5, 100.0), "within the stop"), ((100.0, 112.0, 99.0, 100.0), "a target")],
)
def test_nothing_else_comes_of_a_late_candle(
    world: Any, account: Account, prices: tuple[float, float, float, float], met: str
) -> None:
    enter(world, account)
    leave_behind(world, account, sampled=False)
    entry = {"kind": "stop", "trigger_ticks": 1008, "judged_from": START}
    place(world, account, "open", 1, 100, **entry)
    true_candle(world, prices)
    assert work_account(account_id=account.pk) == 0
    assert sweep(world, account, NOW + SECOND, 100.0, 100.1) == 0, met
    assert not MissedBar.objects.exists()
    assert Position.objects.get().quantity_steps == 1500


def test_an_order_meets_no_bar_from_before_it_rested(world: Any, account: Account) -> None:
    enter(world, account)
    Account.objects.update(processed_bar=NOW - HOUR)
    MissedBar.objects.create(
        account=account,
        instrument=Position.objects.get().instrument,
        timeframe="1h",
        open_time=START,
    )
    world.candle("bitcoin", START, (100.0, 101.0, 90.0, 100.0))
    world.at(NOW)
    assert work_account(account_id=account.pk) == 0
    assert not Order.objects.get(leg="stop_loss").is_triggered
    assert not MissedBar.objects.exists()


@pytest.mark.parametrize(
    ("low", "high", "is_set_off", "watermark"),
    [(94.9, 100.0, True, 1040), (95.1, 108.0, False, 1080), (96.0, 103.0, False, 1040)],
)
def test_a_trail_follows_late_and_is_judged_by_what_is_sure(
    world: Any, account: Account, low: float, high: float, is_set_off: bool, watermark: int
) -> None:
    enter(world, account)
    Order.objects.filter(leg="stop_loss").update(
        kind="trailing_stop", trail_ticks=50, trigger_ticks=None
    )
    leave_behind(world, account, sampled=True)
    assert sweep(world, account, NOW + SECOND, 104.0, 104.1) == 0
    # Where it stood in that hour nobody knows any more, only that it was at the open's trail.
    true_candle(world, (100.0, high, low, 100.0))
    work_account(account_id=account.pk)
    stop = Order.objects.get(leg="stop_loss")
    assert (stop.is_triggered, stop.watermark_ticks) == (is_set_off, watermark)
    check(account)


def test_what_waits_for_nothing_is_forgotten(world: Any, account: Account) -> None:
    enter(world, account)
    leave_behind(world, account, sampled=True)
    Order.objects.filter(leg="stop_loss").update(status="cancelled", ended_at=NOW)
    work_account(account_id=account.pk)
    assert not MissedBar.objects.exists()


def test_candles_that_never_come_hold_up_nothing_and_cost_a_look(
    world: Any, account: Account, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(latebars, "MOST_BARS", 3)
    instrument = enter(world, account).instrument
    last = START + 30 * HOUR
    MissedBar.objects.bulk_create(
        MissedBar(account=account, instrument=instrument, timeframe="1h", open_time=bar)
        for bar in (START + hour * HOUR for hour in range(1, 31))
    )
    Account.objects.update(processed_bar=last)
    account.refresh_from_db()
    world.at(last + HOUR)
    with django_assert_num_queries(2):
        assert latebars.judge_late_bars(account=account) == 0
    world.candle("bitcoin", last, (100.0, 101.0, 94.0, 100.0))
    assert latebars.judge_late_bars(account=account) == 1
    # Nothing waits for the others any more.
    while MissedBar.objects.exists():
        assert latebars.judge_late_bars(account=account) == 0
