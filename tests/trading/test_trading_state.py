"""The trading state: who stops what, what trips it, and how a person lets it go on."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction

from collectors import clock
from risk.models import Desk, RiskDecision, TradingState, TradingStateChange
from risk.selectors import read_desk
from risk.services import change_limit
from trading.fields import to_units
from trading.models import (
    Account,
    ExecutionAttempt,
    Fill,
    Order,
    OrderKind,
    OrderLeg,
    OrderStatus,
    PendingSignal,
    Position,
)
from trading.services import (
    advance_account,
    check_trips,
    close_position,
    create_account,
    locked_account,
    reconcile,
    set_desk_state,
    set_trading_state,
    sweep_entries,
)
from trading.services.placing import Ticket, place_order
from trading.services.venues import venue_of

START = datetime.fromisoformat("2021-05-13T00:00:00+00:00")
HOUR = timedelta(hours=1)
WHY = {"reason": "test", "by": "ada"}
pytestmark = pytest.mark.django_db


def rest_entry(account: Account, world: Any, coin_id: str = "bitcoin") -> Order:
    """A working order to buy far below the market."""
    instrument = world.listed(coin_id)
    venue = venue_of(instrument=instrument, exchange="binance", at=clock.now())
    assert venue is not None
    ticket = Ticket(
        leg=OrderLeg.OPEN, side=1, steps=10, kind=OrderKind.LIMIT, limit_ticks=500, placed_by="ada"
    )
    with locked_account(account.pk) as current:
        return place_order(
            account=current, instrument=instrument, venue=venue, ticket=ticket, at=clock.now()
        )


def enter(world: Any, account: Account, bar: datetime = START) -> None:
    """The account follows a long signal in bitcoin."""
    world.candle("bitcoin", bar, (100.0, 100.5, 99.5, 100.0))
    world.signal("bitcoin", 1, bar)
    world.run(bar)
    world.at(bar + HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    advance_account(account_id=account.pk)


def marked(account: Account, equity: str) -> TradingStateChange | None:
    """The account is marked at an equity."""
    with locked_account(account.pk) as current:
        return check_trips(account=current, equity=to_units(Decimal(equity)))


def reasons() -> list[str]:
    return list(RiskDecision.objects.order_by("id").values_list("rejection_reason", flat=True))


def changes() -> list[tuple[str | None, str, str, str]]:
    """(profile, from, to, cause) of every change, oldest first."""
    rows = TradingStateChange.objects.order_by("id")
    return list(rows.values_list("profile__name", "from_state", "to_state", "cause"))


@pytest.mark.parametrize("state", [TradingState.HALTED, TradingState.REDUCING])
def test_an_account_cancels_its_entries_and_keeps_its_protection(
    world: Any, account: Account, state: str
) -> None:
    enter(world, account)
    resting = rest_entry(account, world)
    set_trading_state(account_id=account.pk, state=state, **WHY)
    resting.refresh_from_db()
    assert (resting.status, resting.reason) == (OrderStatus.CANCELLED, f"trading is {state}")
    assert resting.ended_at is not None
    protection = Order.objects.filter(status=OrderStatus.WORKING).values_list("leg", flat=True)
    assert set(protection) == {OrderLeg.STOP_LOSS, OrderLeg.TAKE_PROFIT}
    assert close_position(account_id=account.pk, coin_id="bitcoin") is not None
    assert Position.objects.get().quantity_steps == 0


@pytest.mark.parametrize("state", [TradingState.HALTED, TradingState.REDUCING])
def test_the_desk_rules_every_account(world: Any, account: Account, state: str) -> None:
    other = create_account(name="second", initial_capital=Decimal(10_000))
    resting = [rest_entry(account, world), rest_entry(other, world)]
    set_desk_state(state=state, **WHY)
    for order in resting:
        order.refresh_from_db()
        assert order.status == OrderStatus.CANCELLED
    enter(world, account)
    assert reasons() == [f"trading_{state}"]
    assert not Fill.objects.exists()
    set_desk_state(state=TradingState.ACTIVE, reason="over", by="bob")
    enter(world, account, START + HOUR)
    assert Fill.objects.count() == 1
    assert changes() == [(None, "active", state, "person"), (None, state, "active", "person")]
    desk = read_desk()
    assert (desk.state_reason, desk.state_changed_by) == ("over", "bob")


def test_the_stricter_of_account_and_desk_rules(world: Any, account: Account) -> None:
    set_desk_state(state=TradingState.REDUCING, **WHY)
    set_trading_state(account_id=account.pk, state=TradingState.HALTED, **WHY)
    enter(world, account)
    set_trading_state(account_id=account.pk, state=TradingState.ACTIVE, **WHY)
    enter(world, account, START + HOUR)
    assert reasons() == ["trading_halted", "trading_reducing"]


def test_what_a_dead_switch_left_working_is_swept(world: Any, account: Account) -> None:
    resting = rest_entry(account, world)
    assert sweep_entries() == 0
    Desk.objects.update_or_create(pk=1, defaults={"trading_state": TradingState.HALTED})
    assert sweep_entries() == 1
    resting.refresh_from_db()
    assert resting.status == OrderStatus.CANCELLED


def test_a_switch_needs_a_state_and_a_reason(account: Account) -> None:
    for wrong in ({"state": "paused", "reason": "x"}, {"state": "halted", "reason": " "}):
        with pytest.raises(ValidationError):
            set_trading_state(account_id=account.pk, by="ada", **wrong)
        with pytest.raises(ValidationError):
            set_desk_state(by="ada", **wrong)
    assert not TradingStateChange.objects.exists()


def test_nobody_rewrites_what_happened(account: Account) -> None:
    change = set_trading_state(account_id=account.pk, state=TradingState.HALTED, **WHY)
    for spoil in (
        lambda: TradingStateChange.objects.update(reason="nothing"),
        lambda: TradingStateChange.objects.filter(pk=change.pk).delete(),
    ):
        with pytest.raises(DatabaseError, match="append only"), transaction.atomic():
            spoil()


@pytest.mark.parametrize(
    ("equity", "cause"),
    [("9500.01", None), ("9500", "daily_loss"), ("8000", "drawdown"), ("7000", "drawdown")],
)
def test_losses_trip_at_their_limit(account: Account, equity: str, cause: str | None) -> None:
    change = marked(account, equity)
    assert (change.cause if change else None) == cause
    account.profile.refresh_from_db()
    assert account.profile.trading_state == ("halted" if cause else "active")
    if change is not None:
        assert Decimal(change.details["equity"]) == Decimal(equity)
        assert change.details["limit"] in (0.05, 0.2)
        assert (change.by, account.profile.state_changed_by) == ("", cause)


def test_a_trip_is_latched_and_told_once(world: Any, account: Account) -> None:
    resting = rest_entry(account, world)
    assert marked(account, "7900") is not None
    resting.refresh_from_db()
    assert resting.status == OrderStatus.CANCELLED
    assert marked(account, "7000") is None
    assert marked(account, "10000") is None  # recovered, and still halted
    assert changes() == [("paper", "active", "halted", "drawdown")]


def test_a_reset_counts_losses_from_now_on(account: Account) -> None:
    Account.objects.update(high_water_mark=Decimal(20_000), day_start_equity=Decimal(15_000))
    assert marked(account, "10000") is not None
    set_trading_state(account_id=account.pk, state=TradingState.HALTED, reason="seen", by="ada")
    change = set_trading_state(
        account_id=account.pk, state=TradingState.ACTIVE, reason="understood", by="ada"
    )
    account.refresh_from_db()
    assert account.high_water_mark == account.day_start_equity == Decimal(10_000)
    assert Decimal(change.details["before"]["high_water_mark"]) == Decimal(20_000)
    assert marked(account, "10000") is None
    assert marked(account, "9499") is not None


def test_a_reset_counts_from_the_prices_of_the_moment(world: Any, account: Account) -> None:
    enter(world, account)
    marked(account, "7900")
    world.quote("bitcoin", 50.0, 50.2)  # the newest close is still 100
    set_trading_state(account_id=account.pk, state=TradingState.ACTIVE, **WHY)
    account.refresh_from_db()
    held = Position.objects.get().quantity_steps
    lost = held * (Decimal("100.2") - Decimal("50.1")) / 1000
    fees = Fill.objects.get().fee
    assert account.high_water_mark == account.day_start_equity == 10_000 - lost - fees


def test_a_persons_halt_leaves_the_marks(account: Account) -> None:
    Account.objects.update(high_water_mark=Decimal(11_000))
    set_trading_state(account_id=account.pk, state=TradingState.HALTED, **WHY)
    change = set_trading_state(account_id=account.pk, state=TradingState.ACTIVE, **WHY)
    account.refresh_from_db()
    assert account.high_water_mark == Decimal(11_000)
    assert change.details == {}


def test_the_limit_in_force_trips(account: Account) -> None:
    change_limit(profile_id=account.profile_id, name="max_daily_loss", value=0.01)
    assert marked(account, "9900") is not None


def test_a_mark_of_a_bar_trips(world: Any, account: Account) -> None:
    enter(world, account)
    Account.objects.update(day_start_equity=Decimal(10_600))
    world.candle("bitcoin", START + HOUR, (100.0, 100.0, 99.0, 99.0))
    world.run(START + HOUR)
    world.at(START + 2 * HOUR)
    advance_account(account_id=account.pk)
    assert [row[2:] for row in changes()] == [("halted", "daily_loss")]


def test_a_ledger_mismatch_trips_and_says_what(world: Any, account: Account) -> None:
    enter(world, account)
    Account.objects.update(cash=Decimal(1))
    reconcile(account_id=account.pk)
    reconcile(account_id=account.pk)
    change = TradingStateChange.objects.get()
    assert change.cause == "ledger_mismatch"
    assert change.details["mismatches"][0].startswith("cash")


def attempts(account: Account, outcomes: str) -> None:
    """Executions that went well (.) or failed (x), in this order."""
    ExecutionAttempt.objects.bulk_create(
        ExecutionAttempt(
            account=account,
            outcome="failed" if each == "x" else "done",
            error="boom" if each == "x" else "",
            duration_ms=1.0,
            at=clock.wall_now(),
        )
        for each in outcomes
    )


@pytest.mark.parametrize(
    ("outcomes", "trips"),
    [
        ("x" * 9, False),
        ("x" * 10, True),
        (".." + "x" * 8, False),
        ("..." + "x" * 12, False),  # 80%, not more
        ("..." + "x" * 13, True),
        ("." * 100 + "x" * 80, False),
        ("." * 100 + "x" * 81, True),  # only the last hundred count
    ],
)
def test_executions_that_fail_trip(account: Account, outcomes: str, trips: bool) -> None:
    attempts(account, outcomes)
    change = marked(account, "10000")
    assert (change is not None) == trips
    if change is not None:
        assert (change.cause, change.details["newest_error"]) == ("errors", "boom")
        set_trading_state(account_id=account.pk, state=TradingState.ACTIVE, **WHY)
        assert marked(account, "10000") is None  # the failures before the reset are over


def test_while_the_desk_is_stale_entries_wait_and_closes_do_not(
    world: Any, account: Account
) -> None:
    enter(world, account)
    resting = rest_entry(account, world, "ethereum")
    Desk.objects.update_or_create(pk=1, defaults={"is_stale": True})
    world.signal("bitcoin", 0, START + HOUR)
    world.signal("solana", 1, START + HOUR)
    world.run(START + HOUR)
    world.at(START + 2 * HOUR)
    for coin_id in ("bitcoin", "solana"):
        world.quote(coin_id, 100.0, 100.1)
    advance_account(account_id=account.pk)
    assert Position.objects.get(instrument__coin_id="bitcoin").quantity_steps == 0
    assert PendingSignal.objects.get().instrument.coin_id == "solana"
    assert sweep_entries() == 0
    Desk.objects.update(is_stale=False)
    advance_account(account_id=account.pk)
    assert Position.objects.get(instrument__coin_id="solana").quantity_steps > 0
    resting.refresh_from_db()
    assert resting.status == OrderStatus.WORKING


def test_what_waited_for_the_desk_too_long_is_refused(world: Any, account: Account) -> None:
    Desk.objects.update_or_create(pk=1, defaults={"is_stale": True})
    enter(world, account)
    world.at(START + 2 * HOUR + timedelta(minutes=1))
    world.quote("bitcoin", 100.0, 100.1)
    advance_account(account_id=account.pk)
    assert reasons() == ["desk_stale"]
    assert not PendingSignal.objects.exists()
