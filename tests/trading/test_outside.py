"""Signals from outside: one turn each at every account that follows them."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection

from collectors import clock
from collectors.models import Ohlcv
from risk.models import RiskDecision
from signals.models import Signal
from signals.services import Arrival, ingest_alerts
from trading import tasks
from trading.models import Account, Fill, Order, OutsideTurn, PendingSignal, Position, Trade
from trading.services import (
    HandOrder,
    advance_account,
    create_account,
    execute_outside_signals,
    place_hand_order,
    reconcile,
    update_account,
    work_account,
)
from trading.services.execution import execute_signal

START = datetime.fromisoformat("2021-05-13T00:00:00+00:00")
NOON = START + timedelta(hours=12)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def watch_until_noon(world: Any, coin_id: str) -> None:
    """Candles of a calm morning."""
    for hour in range(12):
        world.candle(coin_id, START + timedelta(hours=hour), (100.0, 100.0, 100.0, 100.0))


@pytest.fixture
def follower(world: Any, account: Account) -> Account:
    """An account that follows what comes from outside; bitcoin is at 100.0 / 100.1 at noon."""
    watch_until_noon(world, "bitcoin")
    world.at(NOON)
    world.quote("bitcoin", 100.0, 100.1)
    return update_account(account_id=account.pk, subscriptions=["outside"])


def say(direction: str, at: datetime, **fields: Any) -> Signal:
    """An alert about bitcoin, taken; the signal that it became."""
    alert = {
        "asset": "bitcoin",
        "timestamp": at.isoformat(),
        "signal_type": direction,
        "price": 100.0,
        "confidence": 0.8,
    }
    raw = json.dumps(alert | fields).encode()
    (judgement,) = ingest_alerts(arrivals=[Arrival(origin="api", raw=raw)])
    assert judgement.alert.signal is not None, judgement.alert.reason
    return judgement.alert.signal


def results() -> list[str]:
    return list(OutsideTurn.objects.order_by("signal__at").values_list("result", flat=True))


def execute(account: Account) -> int:
    count = execute_outside_signals(account_id=account.pk)
    assert reconcile(account_id=account.pk).mismatches == ()
    return count


@pytest.mark.django_db
@pytest.mark.parametrize(("hours", "reason"), [(3, ""), (4, "stale_candles")])
def test_nothing_opens_without_candles_of_the_last_hours(
    world: Any, follower: Account, hours: int, reason: str
) -> None:
    Ohlcv.objects.filter(open_time__gte=NOON - timedelta(hours=hours)).delete()
    say("LONG", NOON)
    execute(follower)
    assert RiskDecision.objects.get().rejection_reason == reason
    assert Fill.objects.count() == (0 if reason else 1)
    by_hand = HandOrder(coin_id="bitcoin", side=1, quantity=Decimal("0.2"))
    outcome = place_hand_order(account_id=follower.pk, asked=by_hand)
    assert (outcome.decision and outcome.decision.rejection_reason) == reason


@pytest.mark.django_db
def test_a_signal_from_outside_is_traded_once(world: Any, follower: Account) -> None:
    signal = say("LONG", NOON, stop_loss=97.0, take_profit=106.0, position_size=0.01)
    assert [execute(follower) for _ in range(3)] == [1, 0, 0]
    fill = Fill.objects.get()
    assert fill.order.signal == signal
    position = Position.objects.get()
    assert (position.direction, position.stop_loss, position.take_profit) == (1, 97.0, 106.0)
    assert position.entry_signal == signal
    decision = RiskDecision.objects.get()
    assert decision.is_approved and decision.inputs["proposed_size"] == 0.01
    assert results() == ["executed"]
    assert not PendingSignal.objects.exists()
    world.at(NOON + MINUTE)
    world.quote("bitcoin", 101.0, 101.1)
    say("FLAT", NOON + MINUTE)
    execute(follower)
    assert Trade.objects.get().strategy == "outside"


@pytest.mark.django_db
@pytest.mark.parametrize("timeframe", ["1m", "1h", "1d"])
def test_it_is_judged_by_the_bars_that_had_closed(
    world: Any, follower: Account, timeframe: str
) -> None:
    world.at(NOON + 10 * MINUTE)
    world.quote("bitcoin", 100.0, 100.1)
    say("LONG", NOON + 10 * MINUTE, timeframe=timeframe)
    execute(follower)
    context = RiskDecision.objects.get(is_approved=True).inputs["context"]
    assert context["marked_at_bar"] == (NOON - 60 * MINUTE).isoformat()


@pytest.mark.django_db
def test_who_does_not_follow_does_not_trade(world: Any, follower: Account) -> None:
    other = create_account(name="other", initial_capital=Decimal(10_000))
    idle = create_account(name="idle", initial_capital=Decimal(10_000), subscriptions=["outside"])
    update_account(account_id=idle.pk, is_active=False)
    with pytest.raises(ValidationError, match="outsider"):
        update_account(account_id=other.pk, subscriptions=["outsider"])
    say("LONG", NOON)
    tasks.execute_outside_signals()
    assert set(Order.objects.filter(leg="open").values_list("account", flat=True)) == {follower.pk}


@pytest.mark.django_db
def test_without_a_quote_it_waits_and_then_is_too_late(world: Any, follower: Account) -> None:
    world.at(NOON + MINUTE)  # the quote has grown old
    say("LONG", NOON + MINUTE)
    execute(follower)
    assert (results(), Fill.objects.count()) == (["executed"], 0)
    assert PendingSignal.objects.get().signal.strategy == "outside"
    world.quote("bitcoin", 100.0, 100.1)
    advance_account(account_id=follower.pk)  # whoever retries what waits
    assert Fill.objects.count() == 1
    say("SHORT", NOON + MINUTE + timedelta(seconds=1))
    world.at(NOON + 3 * 60 * MINUTE)
    execute(follower)
    assert results() == ["executed", "late"]


@pytest.mark.django_db
def test_a_late_one_only_closes(world: Any, follower: Account) -> None:
    say("LONG", NOON)
    execute(follower)
    world.at(NOON + 120 * MINUTE)
    world.quote("bitcoin", 100.0, 100.1)
    say("SHORT", NOON + 50 * MINUTE)
    execute(follower)
    assert Position.objects.get().direction == 0
    refusal = RiskDecision.objects.get(is_approved=False)
    assert (refusal.rejection_reason, refusal.direction) == ("late", -1)
    assert results() == ["executed", "late"]
    say("FLAT", NOON + 51 * MINUTE)
    execute(follower)
    assert RiskDecision.objects.count() == 2  # closing nothing refuses nothing


@pytest.mark.django_db
def test_only_the_newest_of_an_instrument_is_executed(world: Any, follower: Account) -> None:
    say("LONG", NOON - 3 * MINUTE)
    say("SHORT", NOON - 2 * MINUTE)
    say("FLAT", NOON - MINUTE)
    assert execute(follower) == 3
    assert (results(), Fill.objects.count()) == (["overtaken", "overtaken", "executed"], 0)
    say("LONG", NOON - 10 * MINUTE)  # comes last, and is old news
    execute(follower)
    assert (results()[0], Fill.objects.count()) == ("overtaken", 0)
    # What waits for a quote and is newer stays, whoever said it.
    waiting = world.signal("bitcoin", 1, NOON, strategy="consensus")
    PendingSignal.objects.create(account=follower, instrument=waiting.instrument, signal=waiting)
    say("LONG", NOON)
    execute(follower)
    assert PendingSignal.objects.get().signal == waiting


@pytest.mark.django_db
@pytest.mark.parametrize("is_newer", [True, False])
def test_flat_takes_back_an_entry_that_is_on_its_way(
    world: Any, follower: Account, is_newer: bool
) -> None:
    update_account(account_id=follower.pk, latency_ms=500)
    say("LONG", NOON)
    world.quote("bitcoin", 100.0, 100.1, at=NOON + timedelta(milliseconds=100))
    execute(follower)
    assert (Order.objects.get().status, Fill.objects.count()) == ("working", 0)
    world.at(NOON + SECOND)
    if is_newer:
        say("FLAT", NOON + SECOND)
        execute(follower)
    else:  # a bar run comes up to half a minute after its bar
        older = world.signal("bitcoin", 0, NOON - timedelta(hours=2))
        execute_signal(account=follower, signal=older, run_bar=NOON)
    world.at(NOON + 2 * SECOND)
    world.quote("bitcoin", 100.0, 100.1)
    assert work_account(account_id=follower.pk) == (0 if is_newer else 1)
    order = Order.objects.get(leg="open")
    assert order.status == ("cancelled" if is_newer else "filled")


@pytest.mark.django_db
def test_a_killed_worker_leaves_what_the_next_one_finishes(
    world: Any, follower: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal = say("LONG", NOON)

    class Killed(BaseException):
        pass

    def dies(**_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("trading.services.outside.execute_signal", dies)
        with pytest.raises(Killed):
            execute_outside_signals(account_id=follower.pk)
    assert PendingSignal.objects.get().signal == signal
    execute(follower)
    advance_account(account_id=follower.pk)
    assert Fill.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_threads_execute_each_signal_once(world: Any, account: Account) -> None:
    coins = ("bitcoin", "ethereum", "solana", "cardano")
    followers = [account, create_account(name="two", initial_capital=Decimal(10_000))]
    for each in followers:
        update_account(account_id=each.pk, subscriptions=["outside"])
    world.at(NOON)
    for coin_id in coins:
        watch_until_noon(world, coin_id)
        world.quote(coin_id, 100.0, 100.1)
        say("SHORT", clock.now() - MINUTE, asset=coin_id)
        say("LONG", clock.now(), asset=coin_id)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for each in followers:
                execute_outside_signals(account_id=each.pk)
                advance_account(account_id=each.pk)
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for each in followers:
        assert Fill.objects.filter(account=each).count() == len(coins)
        assert OutsideTurn.objects.filter(account=each).count() == 2 * len(coins)
        assert reconcile(account_id=each.pk).mismatches == ()
