"""Alerts are raised once, and each delivery ends: sent, or failed for a reason."""

import contextlib
import dataclasses
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Barrier, Thread

import pytest
from django.core.exceptions import ValidationError
from django.db import connection

from alerts import services
from alerts.models import Alert, Delivery, DeliveryState
from alerts.transport import Message, TransportError
from alerts.transports import TRANSPORTS
from collectors import clock
from signals.models import BarRun, RunState
from tests.factories import make_alert, make_refusal, make_signal
from trading.services import create_account, set_desk_state, set_trading_state

pytestmark = pytest.mark.django_db


@pytest.fixture
def now():
    """The bars of these tests close now."""
    return clock.now().replace(minute=0, second=0, microsecond=0)


@pytest.fixture(autouse=True)
def data_folder(tmp_path, settings):
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def scripted(monkeypatch):
    """Makes `file` a transport that does what it is told, and records what it was given."""
    given: list[Message] = []

    def script(*outcomes: object) -> list[Message]:
        left = list(outcomes)

        def deliver(message: Message) -> str:
            given.append(message)
            outcome = left.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return str(outcome)

        monkeypatch.setitem(TRANSPORTS, "file", deliver)
        return given

    return script


@pytest.fixture
def delivery() -> Delivery:
    return Delivery.objects.create(alert=make_alert("one"), transport="file")


def test_a_wanted_position_is_raised_once_with_its_deliveries(now):
    signal = make_signal(
        bar=now - timedelta(hours=1),
        reasons={"votes": {"mean_reversion": {"direction": 1}, "other": {"direction": 0}}},
    )
    make_signal(bar=now - timedelta(hours=1), coin_id="ethereum", direction=0)
    make_signal(bar=now - timedelta(hours=1), strategy="mean_reversion")
    assert services.raise_due_alerts() == 1
    assert services.raise_due_alerts() == 0
    alert = Alert.objects.get()
    assert (alert.key, alert.kind) == (f"signal:{signal.pk}", "signal")
    assert alert.payload["strategies"] == ["mean_reversion"]
    assert set(alert.deliveries.values_list("transport", flat=True)) == {"file", "redis"}


@contextlib.contextmanager
def at(moment):
    """Market time, from a moment on."""
    before = clock.current()
    clock.configure(clock.MarketClock(start=moment, anchor=clock.wall_now()))
    yield
    clock.configure(before)


def test_a_strategy_that_fails_again_and_again_is_told_once_a_day():
    first = datetime(2030, 1, 1, 12, tzinfo=UTC)

    def run(hours, **failures):
        BarRun.objects.create(
            timeframe="1h",
            bar_open_time=first + timedelta(hours=hours),
            state=RunState.DONE,
            started_at=first,
            failures=failures,
        )

    run(-4, momentum="took 12.3 s, limit 10 s")
    run(-3)
    for hours in (-2, -1):
        run(hours, momentum="took 12.3 s, limit 10 s", ripple="ValueError: odd")
    with at(first + timedelta(hours=2)):
        assert services.raise_due_alerts() == 0
        run(0, momentum="took 11.1 s, limit 10 s")
        assert services.raise_due_alerts() == 1
        run(1, momentum="took 11.5 s, limit 10 s")
        assert services.raise_due_alerts() == 0
    alert = Alert.objects.get()
    assert (alert.kind, alert.asset) == ("operations", "momentum")
    assert alert.title == "momentum has failed 3 times in a row: took 11.1 s, limit 10 s"
    assert alert.payload["alert_type"] == "strategy_failing"
    with at(first + timedelta(hours=26)):
        assert services.raise_due_alerts() == 0  # nothing has run since
        run(24, momentum="took 12.0 s, limit 10 s")
        assert services.raise_due_alerts() == 1


def test_history_is_not_told(now):
    make_signal(bar=now - timedelta(days=2))
    assert services.raise_due_alerts() == 0


def test_refusals_are_told_unless_trivial(now):
    make_refusal("confidence_floor", at=now)
    make_refusal("max_drawdown", at=now)
    assert services.raise_due_alerts() == 1
    assert Alert.objects.get().title == "LONG bitcoin refused: max_drawdown"


def test_every_change_of_a_trading_state_is_told(now):
    account = create_account(name="second", initial_capital=Decimal(500))
    set_trading_state(account_id=account.pk, state="halted", reason="a drill", by="ada")
    set_trading_state(account_id=account.pk, state="active", reason="over", by="ada")
    set_desk_state(state="reducing", reason="storm", by="bob")
    assert services.raise_due_alerts() == 3
    assert services.raise_due_alerts() == 0
    told = [(alert.asset, alert.payload["state"]) for alert in Alert.objects.order_by("pk")]
    assert told == [("second", "halted"), ("second", "active"), ("desk", "reducing")]
    newest = Alert.objects.order_by("pk").last()
    assert newest.title == "trading on all accounts is reducing: storm"
    assert (newest.payload["cause"], newest.payload["by"]) == ("person", "bob")


def test_nothing_is_raised_when_alerts_are_off(now, settings):
    settings.ENV = dataclasses.replace(settings.ENV, enable_alerts=False)
    make_signal(bar=now - timedelta(hours=1))
    assert services.raise_due_alerts() == 0


def test_a_raised_alert_arrives_as_a_file(now, data_folder):
    make_signal(bar=now - timedelta(hours=1))
    services.raise_due_alerts()
    assert services.deliver_due() == 2
    assert services.deliver_due() == 0
    sent = Delivery.objects.get(transport="file")
    written = data_folder / "alerts" / sent.detail
    assert json.loads(written.read_text())["id"] == sent.alert_id
    assert sent.state == DeliveryState.SENT
    assert sent.sent_at is not None


def test_a_passing_failure_is_tried_again_after_a_pause(delivery, scripted):
    given = scripted(TransportError("busy"), "there")
    assert services.deliver_due() == 0
    delivery.refresh_from_db()
    assert (delivery.state, delivery.detail) == (DeliveryState.PENDING, "busy")
    assert delivery.next_attempt_at > clock.wall_now()
    assert services.deliver_due() == 0
    assert len(given) == 1
    Delivery.objects.update(next_attempt_at=clock.wall_now())
    assert services.deliver_due() == 1
    assert [message.attempt for message in given] == [1, 2]


def test_a_permanent_failure_is_final_until_somebody_retries(delivery, scripted):
    scripted(TransportError("no such place", permanent=True), "there")
    services.deliver_due()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.detail) == (DeliveryState.FAILED, "no such place")
    services.retry_delivery(delivery_id=delivery.pk)
    assert services.deliver_due() == 1
    with pytest.raises(ValidationError, match="is sent"):
        services.retry_delivery(delivery_id=delivery.pk)


def test_patience_ends(delivery, scripted):
    given = scripted(*[TransportError("busy")] * 20)
    for _ in range(20):
        Delivery.objects.update(next_attempt_at=None)
        services.deliver_due()
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.FAILED
    assert len(given) == services.ATTEMPTS


def test_a_fault_in_a_transport_does_not_hold_up_the_next_delivery(delivery, scripted):
    Delivery.objects.create(alert=make_alert("two"), transport="file")
    scripted(RuntimeError("a bug"), "there")
    assert services.deliver_due() == 1


def test_an_unknown_transport_fails_for_good():
    delivery = Delivery.objects.create(alert=make_alert("one"), transport="pigeon")
    services.deliver_due()
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.FAILED


def test_a_held_delivery_is_left_alone_until_its_lease_ends(delivery, scripted):
    scripted("there")
    Delivery.objects.update(
        owner="another", attempt=1, leased_until=clock.wall_now() + services.LEASE
    )
    assert services.deliver_due() == 0
    Delivery.objects.update(leased_until=clock.wall_now() - services.LEASE)
    assert services.deliver_due() == 1


def test_who_lost_the_lease_does_not_write_the_outcome(delivery, monkeypatch):
    def overtaken(message: Message) -> str:
        # While this one was busy, another took the delivery over and finished it.
        Delivery.objects.update(attempt=2, state=DeliveryState.SENT, detail="the other's")
        return "mine"

    monkeypatch.setitem(TRANSPORTS, "file", overtaken)
    assert services.deliver_due() == 0
    delivery.refresh_from_db()
    assert (delivery.attempt, delivery.detail) == (2, "the other's")


@pytest.mark.django_db(transaction=True)
def test_of_many_deliverers_one_delivers(scripted):
    Delivery.objects.create(alert=make_alert("one"), transport="file")
    given = scripted(*["there"] * 6)
    together = Barrier(6)

    def deliver() -> None:
        together.wait()
        services.deliver_due()
        connection.close()

    threads = [Thread(target=deliver) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 1
