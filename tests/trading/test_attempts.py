"""Executions that raise: recorded, held back, given up, and never in the way of others."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError

from alerts.selectors import due_drafts
from collectors import clock
from risk.models import RiskDecision, TradingState, TradingStateChange
from trading.models import (
    Account,
    ExecutionAttempt,
    Fill,
    LedgerEntry,
    Order,
    PendingSignal,
    Position,
)
from trading.services import (
    advance_account,
    create_account,
    forget_attempts,
    matching,
    reconcile,
)
from trading.services.attempts import KEPT_FOR, MOST_TRIES, put_off_signal, record_done

START = datetime.fromisoformat("2021-05-13T00:00:00+00:00")
HOUR = timedelta(hours=1)
pytestmark = pytest.mark.django_db


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes every fill of a coin raise, after its order and decision were written."""
    broken: dict[str, Exception] = {}
    plain = matching.book_fill

    def book(*, account: Account, position: Position, order: Order, hit: Any) -> Fill:
        fill = plain(account=account, position=position, order=order, hit=hit)
        error = broken.get(position.instrument.coin_id)
        if error is not None:
            raise error
        return fill

    monkeypatch.setattr(matching, "book_fill", book)

    def breaks(coin_id: str, error: Exception | None) -> None:
        broken.pop(coin_id, None)
        if error is not None:
            broken[coin_id] = error

    return breaks


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes wall time pass, in seconds."""
    plain, passed = clock.wall_now, [0.0]
    monkeypatch.setattr(clock, "wall_now", lambda: plain() + timedelta(seconds=passed[0]))

    def wall(seconds: float) -> None:
        passed[0] += seconds

    return wall


def market(world: Any, *coin_ids: str, bar: datetime = START) -> None:
    """A bar at whose close every coin is wanted."""
    for coin_id in coin_ids:
        world.candle(coin_id, bar, (100.0, 100.5, 99.5, 100.0))
        world.signal(coin_id, 1, bar)
    world.run(bar)
    world.at(bar + HOUR)
    for coin_id in coin_ids:
        world.quote(coin_id, 100.0, 100.1)


def outcomes() -> list[tuple[str | None, str]]:
    rows = ExecutionAttempt.objects.order_by("id")
    return list(rows.values_list("signal__instrument__coin_id", "outcome"))


def test_each_execution_leaves_one_row(world: Any, account: Account) -> None:
    market(world, "bitcoin", "ethereum")
    advance_account(account_id=account.pk)
    Account.objects.update(processed_bar=None)
    advance_account(account_id=account.pk)
    assert outcomes() == [("bitcoin", "done"), ("ethereum", "done")]
    attempt = ExecutionAttempt.objects.earliest("id")
    assert (attempt.error, attempt.order) == ("", None)
    assert attempt.duration_ms > 0.0


def test_a_signal_that_waits_is_no_execution(world: Any, account: Account) -> None:
    market(world, "bitcoin")
    world.redis.flushdb()
    advance_account(account_id=account.pk)
    assert PendingSignal.objects.count() == 1
    assert outcomes() == []


def test_what_raises_changes_nothing_and_stops_nobody(
    world: Any, account: Account, breaks: Any
) -> None:
    breaks("bitcoin", RuntimeError("no such thing"))
    market(world, "bitcoin", "ethereum")
    assert advance_account(account_id=account.pk) == 1
    assert outcomes()[:2] == [("bitcoin", "failed"), ("ethereum", "done")]
    failed = ExecutionAttempt.objects.filter(outcome="failed").first()
    assert failed is not None
    assert failed.error == "RuntimeError: no such thing"
    assert Fill.objects.get().order.symbol == "ETHEREUMUSDT"
    assert RiskDecision.objects.count() == 1
    assert Account.objects.get().processed_bar == START
    assert reconcile(account_id=account.pk).mismatches == ()


def test_a_signal_that_raised_is_tried_again(world: Any, account: Account, breaks: Any) -> None:
    breaks("bitcoin", RuntimeError("for now"))
    market(world, "bitcoin")
    advance_account(account_id=account.pk)
    assert PendingSignal.objects.count() == 1
    breaks("bitcoin", None)
    advance_account(account_id=account.pk)
    assert Fill.objects.count() == 1
    assert not PendingSignal.objects.exists()


@pytest.mark.parametrize("what", ["newer", "done"])
def test_what_raises_takes_no_place_that_is_not_its_own(
    world: Any, account: Account, what: str
) -> None:
    older = world.signal("bitcoin", 1, START)
    waiting = None
    if what == "newer":
        waiting = world.signal("bitcoin", -1, START + HOUR)
        PendingSignal.objects.create(account=account, instrument=older.instrument, signal=waiting)
    else:  # by another worker, meanwhile
        record_done(account=account, signal=older, started=0.0)
    error = RuntimeError("no such thing")
    put_off_signal(account_id=account.pk, signal=older, run_bar=START, error=error, started=0.0)
    assert [row.signal for row in PendingSignal.objects.all()] == ([waiting] if waiting else [])
    assert outcomes()[-1] == ("bitcoin", "failed")


def test_a_signal_that_always_raises_is_refused_in_the_end(
    world: Any, account: Account, breaks: Any
) -> None:
    breaks("bitcoin", RuntimeError("for ever"))
    market(world, "bitcoin")
    for _ in range(MOST_TRIES + 2):
        advance_account(account_id=account.pk)
    assert [outcome for _, outcome in outcomes()] == ["failed"] * MOST_TRIES
    decision = RiskDecision.objects.get()
    assert (decision.rejection_reason, decision.is_approved) == ("execution_error", False)
    assert decision.inputs["context"]["error"] == "RuntimeError: for ever"
    assert not PendingSignal.objects.exists()
    assert LedgerEntry.objects.count() == 2  # the deposit


def test_an_account_that_always_fails_is_halted_and_others_trade_on(
    world: Any, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.at(START + timedelta(minutes=30))
    other = create_account(name="second", initial_capital=Decimal(10_000))
    market(world, "bitcoin", "ethereum")
    plain = matching.book_fill

    def book(*, account: Account, **rest: Any) -> Fill:
        if account.name == "paper":
            raise RuntimeError("broken books")
        return plain(account=account, **rest)

    monkeypatch.setattr(matching, "book_fill", book)
    for _ in range(MOST_TRIES):
        for pk in (account.pk, other.pk):
            advance_account(account_id=pk)
    change = TradingStateChange.objects.get()
    assert change.profile == account.profile
    assert (change.to_state, change.cause) == (TradingState.HALTED, "errors")
    assert change.details["failed"] == 10
    assert Fill.objects.filter(account=other).count() == 2


def test_a_database_out_of_reach_is_nobodys_failure(
    world: Any, account: Account, breaks: Any
) -> None:
    breaks("bitcoin", OperationalError("server closed the connection"))
    market(world, "bitcoin")
    with pytest.raises(OperationalError):
        advance_account(account_id=account.pk)
    assert outcomes() == []
    assert Account.objects.get().processed_bar is None


@pytest.mark.parametrize("wanted", [0, -1])
def test_a_close_that_raises_is_tried_on_after_growing_pauses(
    world: Any, account: Account, breaks: Any, wall: Any, wanted: int
) -> None:
    market(world, "bitcoin")
    advance_account(account_id=account.pk)
    bar = START + HOUR
    world.candle("bitcoin", bar, (100.0, 100.5, 99.5, 100.0))
    world.signal("bitcoin", wanted, bar)
    world.run(bar)
    world.at(bar + HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    breaks("bitcoin", RuntimeError("for long"))
    for _ in range(MOST_TRIES + 2):
        advance_account(account_id=account.pk)
    assert tries() == MOST_TRIES
    assert PendingSignal.objects.get().signal.direction == wanted
    # Only what it would open is refused.
    refused = RiskDecision.objects.filter(rejection_reason="execution_error")
    assert refused.count() == (1 if wanted else 0)
    for pause, expected in ((9, 0), (2, 1), (19, 1), (2, 2), (39, 2), (2, 3)):
        wall(pause)
        advance_account(account_id=account.pk)
        assert tries() == MOST_TRIES + expected
    alerts = [draft for draft in due_drafts() if draft.key.startswith("failing_close:")]
    assert [(draft.asset, draft.payload["reason"]) for draft in alerts] == [
        ("bitcoin", "RuntimeError: for long")
    ]
    breaks("bitcoin", None)
    wall(600)
    advance_account(account_id=account.pk)
    assert Position.objects.get().quantity_steps == 0
    assert not PendingSignal.objects.exists()
    assert reconcile(account_id=account.pk).mismatches == ()


def tries() -> int:
    return ExecutionAttempt.objects.filter(outcome="failed").count()


def test_what_nobody_asks_about_is_forgotten(world: Any, account: Account, wall: Any) -> None:
    market(world, "bitcoin")
    advance_account(account_id=account.pk)
    old = ExecutionAttempt.objects.get()
    fields = {"account": account, "outcome": "failed", "duration_ms": 1.0, "at": old.at}
    waiting = world.signal("ethereum", 1, START)
    PendingSignal.objects.create(account=account, instrument=waiting.instrument, signal=waiting)
    not_yet = world.signal("bitcoin", 0, START + HOUR)
    kept = [
        ExecutionAttempt.objects.create(signal=signal, **fields) for signal in (waiting, not_yet)
    ]
    ExecutionAttempt.objects.bulk_create(ExecutionAttempt(**fields) for _ in range(101))
    assert forget_attempts() == 0
    wall(KEPT_FOR.total_seconds() + 60)
    assert (forget_attempts(), forget_attempts()) == (2, 0)
    left = ExecutionAttempt.objects.order_by("id")
    assert list(left[:2]) == kept
    assert left.count() == 102
