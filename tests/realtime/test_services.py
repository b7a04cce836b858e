"""The sequencer: every committed row once, in one unbroken chain per topic."""

import dataclasses
import random
import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, transaction

from alerts.models import Alert
from realtime.models import Event
from realtime.services import forget_old_events, publish_due_events
from realtime.topics import TOPICS
from tests.factories import BAR, make_alert, make_fill, make_signal


def chain_of(topic: str) -> list[int]:
    """The topic's seqs in order, after a check that each names the one before it."""
    rows = list(Event.objects.filter(topic=topic).order_by("seq").values_list("seq", "prev"))
    seqs = [seq for seq, _ in rows]
    assert [prev for _, prev in rows] == [0, *seqs[:-1]]
    return seqs


@pytest.mark.django_db
def test_rows_are_numbered_by_moment_and_then_by_id():
    later = make_alert("later", at=BAR + timedelta(hours=1))
    first, second = make_alert("first"), make_alert("second")
    assert publish_due_events() == 3
    rows = Event.objects.order_by("seq").values_list("row_id", flat=True)
    assert list(rows) == [first.pk, second.pk, later.pk]


@pytest.mark.django_db
def test_one_numbering_runs_through_all_topics():
    make_signal()
    make_alert("one")
    publish_due_events()
    make_signal(coin_id="ethereum")
    assert publish_due_events() == 1
    assert publish_due_events() == 0
    assert list(Event.objects.values_list("seq", "topic", "prev")) == [
        (1, "signals", 0),
        (2, "alerts", 0),
        (3, "signals", 1),
    ]


@pytest.mark.django_db
def test_an_event_says_what_the_signal_says():
    signal = make_signal()
    publish_due_events()
    data = Event.objects.get().data
    assert data["id"] == signal.pk
    assert (data["asset"], data["signal_type"], data["price"]) == ("bitcoin", "LONG", 50_000.0)
    assert data["timestamp"].startswith("2021-05-13T01:00:00")


@pytest.mark.django_db
def test_the_amounts_of_a_fill_are_exact_decimal_strings():
    fill = make_fill()
    publish_due_events()
    data = Event.objects.get(topic="fills").data
    assert (data["instrument"], data["side"], data["leg"]) == ("bitcoin", "buy", "open")
    assert (data["quantity"], data["price"], data["fee"]) == ("0.500", "50000.10", "10.00002000")
    assert data["signal"] == fill.order.signal_id


@pytest.mark.django_db(transaction=True)
def test_a_row_that_commits_after_younger_rows_is_not_skipped():
    inserted, may_commit = threading.Event(), threading.Event()

    def slow_writer() -> None:
        with transaction.atomic():
            make_alert("slow")
            inserted.set()
            may_commit.wait(10)
        connection.close()

    writer = threading.Thread(target=slow_writer)
    writer.start()
    assert inserted.wait(10)
    make_alert("quick")
    assert publish_due_events() == 1
    may_commit.set()
    writer.join()
    assert publish_due_events() == 1
    slow, quick = Alert.objects.get(key="slow"), Alert.objects.get(key="quick")
    assert slow.pk < quick.pk
    assert list(Event.objects.values_list("row_id", flat=True)) == [quick.pk, slow.pk]
    chain_of("alerts")


@pytest.mark.django_db(transaction=True)
def test_concurrent_writers_and_sequencers_leave_one_chain_with_each_row_once():
    writers, rows_each = 5, 12
    is_over = threading.Event()
    faults: list[BaseException] = []

    def write(name: int) -> None:
        pause = random.Random(name)
        for number in range(rows_each):
            with transaction.atomic():
                make_alert(f"{name}:{number}")
                time.sleep(pause.random() * 0.01)

    def sequence() -> None:
        while not is_over.is_set():
            publish_due_events()

    def guarded(work, *args) -> None:
        try:
            work(*args)
        except BaseException as fault:
            faults.append(fault)
        finally:
            connection.close()

    sequencers = [threading.Thread(target=guarded, args=(sequence,)) for _ in range(3)]
    writing = [threading.Thread(target=guarded, args=(write, name)) for name in range(writers)]
    for thread in sequencers + writing:
        thread.start()
    for thread in writing:
        thread.join()
    is_over.set()
    for thread in sequencers:
        thread.join()
    publish_due_events()
    assert not faults
    assert chain_of("alerts") == list(range(1, writers * rows_each + 1))
    numbered = Event.objects.values_list("row_id", flat=True)
    assert sorted(numbered) == sorted(Alert.objects.values_list("pk", flat=True))


@pytest.mark.django_db
def test_a_forgotten_event_keeps_its_number():
    make_alert("old")
    publish_due_events()
    assert forget_old_events(kept_for=timedelta(0)) == 1
    assert publish_due_events() == 0
    make_alert("new")
    publish_due_events()
    assert chain_of("alerts") == [1, 2]


@pytest.mark.django_db
@pytest.mark.parametrize("value", [object(), float("nan")])
def test_a_row_that_cannot_be_told_stops_only_its_own_topic(monkeypatch, caplog, value):
    before = make_signal()
    broken = make_signal(coin_id="ethereum")
    after = make_signal(coin_id="solana")
    alert = make_alert("one")
    told = TOPICS["signals"].to_json

    def to_json(row):
        data = told(row)
        return {**data, "price": value} if row.pk == broken.pk else data

    signals = dataclasses.replace(TOPICS["signals"], to_json=to_json)
    with monkeypatch.context() as faulty:
        faulty.setitem(TOPICS, "signals", signals)
        assert publish_due_events() == 2
        assert publish_due_events() == 0
    rows = Event.objects.order_by("seq").values_list("topic", "row_id")
    assert list(rows) == [("signals", before.pk), ("alerts", alert.pk)]
    assert f"'topic': 'signals', 'row': {broken.pk}" in caplog.text
    assert publish_due_events() == 2
    rows = Event.objects.filter(topic="signals").order_by("seq").values_list("row_id", flat=True)
    assert list(rows) == [before.pk, broken.pk, after.pk]
    assert chain_of("signals") == [1, 3, 4]
