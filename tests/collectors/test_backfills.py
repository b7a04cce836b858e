"""Backfills: asked for once, worked off in chunks, resumed where they stood, cancelled, failed."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.urls import include, path
from rest_framework.test import APIClient

from collectors import api, clock, services, tasks
from collectors.models import Backfill, BackfillState, CollectionState, Instrument, Ohlcv
from collectors.selectors import redis_client
from collectors.services import backfills
from tests.collectors.providers import NOW, Venues
from tests.factories import make_user

urlpatterns = [path("api/v1/", include(api.urlpatterns))]
pytestmark = pytest.mark.urls(__name__)
HOUR = timedelta(hours=1)
START = datetime(2024, 6, 1, tzinfo=UTC)
END = START + 100 * HOUR


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 40 bars, and failures that are tried again at once."""
    monkeypatch.setattr(backfills, "CHUNK_BARS", 40)
    monkeypatch.setattr(backfills, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(backfills, "BUSY_PAUSE_S", 0.01)
    monkeypatch.setattr(backfills, "MOST_BUSY", 3)


@pytest.fixture
def operator(bitcoin: Instrument, market_now: datetime) -> APIClient:
    """A client logged in as operator."""
    client = APIClient()
    client.force_authenticate(make_user("operator", role="operator"))
    return client


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The ids of the backfills that workers were told of."""
    told: list[int] = []
    monkeypatch.setattr(tasks.run_backfill, "delay", told.append)
    monkeypatch.setattr(tasks.sweep_backfills, "delay", tasks.sweep_backfills)
    yield told


def ask(instrument: Instrument, **options: Any) -> Backfill:
    span: dict[str, Any] = {"timeframe": "1h", "start": START, "end": END}
    return services.request_backfill(instrument=instrument, **span | options)


def run(backfill: Backfill, **options: Any) -> Backfill:
    services.run_backfill(backfill_id=backfill.pk, **options)
    backfill.refresh_from_db()
    return backfill


def recover(venues: Venues) -> None:
    """The venues answer again, and it is long enough ago that they failed."""
    venues.failing.clear()
    redis_client().flushdb()


def test_it_is_worked_off_in_chunks(
    bitcoin: Instrument, venues: Venues, small_chunks: None
) -> None:
    venues.add("binance", "BTCUSDT", START, END, 100.0)
    seen: list[float] = []
    done = run(ask(bitcoin), on_progress=lambda row: seen.append(row.progress_pct))
    assert seen == [0.0, 40.0, 80.0, 100.0]
    assert (done.state, done.stored, done.requests) == (BackfillState.DONE, 100, 3)
    assert done.position == done.end
    assert done.finished_at is not None
    assert run(ask(bitcoin)).requests == 0
    assert venues.calls("binance") == 3


def test_an_interruption_keeps_what_is_stored_and_goes_on(
    bitcoin: Instrument, venues: Venues, small_chunks: None
) -> None:
    venues.add("binance", "BTCUSDT", START, END, 100.0)
    backfill = ask(bitcoin)

    def interrupt(row: Backfill) -> None:
        if row.position > START:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(backfill, on_progress=interrupt)
    backfill.refresh_from_db()
    assert backfill.state == BackfillState.QUEUED
    assert Ohlcv.objects.count() == (backfill.position - START) // HOUR == 40
    assert run(backfill).stored == 100
    assert venues.calls("binance") == 3


def test_one_whose_worker_is_gone_is_taken_over_and_the_old_worker_writes_nothing(
    bitcoin: Instrument, venues: Venues, small_chunks: None
) -> None:
    venues.add("binance", "BTCUSDT", START, END, 100.0)
    backfill = ask(bitcoin)
    seen: list[str] = []

    def be_slow(row: Backfill) -> None:
        if row.attempt > 1 or row.position == START:
            return
        Backfill.objects.update(leased_until=clock.wall_now() - HOUR)
        assert services.due_backfills() == [row.pk]
        seen.append(run(Backfill.objects.get(pk=row.pk)).state)

    assert run(backfill, on_progress=be_slow).state == BackfillState.DONE
    assert seen == [BackfillState.DONE]
    assert backfill.stored == 100
    assert venues.calls("binance") == 3


def test_cancelling_stops_it_after_the_chunk(
    bitcoin: Instrument, venues: Venues, small_chunks: None
) -> None:
    venues.add("binance", "BTCUSDT", START, END, 100.0)
    backfill = ask(bitcoin)
    cancelled = run(
        backfill, on_progress=lambda row: services.cancel_backfill(backfill_id=row.pk) and None
    )
    assert cancelled.state == BackfillState.CANCELLED
    assert Ohlcv.objects.count() <= 40
    assert not services.cancel_backfill(backfill_id=backfill.pk)
    assert not services.run_backfill(backfill_id=backfill.pk)
    assert services.restart_backfill(backfill_id=backfill.pk)
    assert run(backfill).state == BackfillState.DONE
    assert Ohlcv.objects.count() == 100


def test_a_provider_that_stays_away_fails_it_and_it_can_be_started_again(
    bitcoin: Instrument, venues: Venues, small_chunks: None
) -> None:
    venues.failing.add("binance")
    failed = run(ask(bitcoin))
    assert (failed.state, failed.position) == (BackfillState.FAILED, START)
    assert "binance BTCUSDT 1h" in failed.error
    assert venues.calls("binance") == 5  # then its circuit is open
    recover(venues)
    venues.add("binance", "BTCUSDT", START, END, 100.0)
    assert services.restart_backfill(backfill_id=failed.pk)
    assert run(failed).stored == 100
    assert failed.error == ""


def test_a_worse_source_serves_when_the_better_one_stays_away(
    bitcoin: Instrument, venues: Venues, small_chunks: None
) -> None:
    venues.failing.add("binance")
    venues.add("bybit", "BTCUSDT", START, END, 101.0)
    assert run(ask(bitcoin)).state == BackfillState.DONE
    assert Ohlcv.objects.filter(source="bybit").count() == 100
    recover(venues)
    venues.add("binance", "BTCUSDT", START, END, 100.0)
    assert run(ask(bitcoin)).stored == 100
    assert Ohlcv.objects.filter(source="binance").count() == 100


def test_a_series_that_another_collects_is_waited_for(
    bitcoin: Instrument, venues: Venues, small_chunks: None
) -> None:
    venues.add("binance", "BTCUSDT", START, END, 100.0)
    CollectionState.objects.create(
        instrument=bitcoin, timeframe="1h", leased_until=clock.wall_now() + HOUR
    )
    failed = run(ask(bitcoin))
    assert (failed.state, failed.error) == (BackfillState.FAILED, "another collects this series")
    assert venues.calls("binance") == 0


def test_two_are_offered_at_a_time(bitcoin: Instrument, market_now: datetime) -> None:
    rows = [ask(bitcoin).pk for _ in range(3)]
    assert services.due_backfills() == rows[:2]
    assert services.due_backfills() == []
    Backfill.objects.filter(pk=rows[0]).update(state=BackfillState.DONE, leased_until=None)
    assert services.due_backfills() == [rows[2]]


@pytest.mark.django_db(transaction=True)
def test_it_is_asked_for_followed_and_cancelled_over_http(
    operator: APIClient, venues: Venues, messages: list[int]
) -> None:
    body = {"instrument": "bitcoin", "timeframe": "1h", "start": START, "end": END}
    answer = operator.post("/api/v1/backfills/", body, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    assert answer.status_code == 202
    row = answer.json()
    assert row["url"].endswith(answer["Location"][-20:])
    assert (row["state"], row["progress_pct"], row["requested_by"]) == ("queued", 0.0, "operator")
    assert messages == [row["id"]]
    again = operator.post("/api/v1/backfills/", body, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    assert (again.status_code, again.json()["id"]) == (202, row["id"])
    assert (again["Location"], again["Idempotent-Replay"]) == (row["url"], "true")
    other = operator.post(
        "/api/v1/backfills/",
        {**body, "instrument": "ethereum"},
        format="json",
        HTTP_IDEMPOTENCY_KEY="k1",
    )
    assert other.status_code == 409
    assert Backfill.objects.count() == 1
    # A key is its user's own, as at every write.
    colleague = APIClient()
    colleague.force_authenticate(make_user("colleague", role="operator"))
    theirs = colleague.post("/api/v1/backfills/", body, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    assert (theirs.status_code, theirs.json()["requested_by"]) == (202, "colleague")
    Backfill.objects.filter(pk=theirs.json()["id"]).delete()
    venues.add("binance", "BTCUSDT", START, END, 100.0)
    tasks.run_backfill(row["id"])
    followed = operator.get(f"/api/v1/backfills/{row['id']}/").json()
    assert (followed["state"], followed["progress_pct"]) == ("done", 100.0)
    listed = operator.get("/api/v1/backfills/", {"state": "done"}).json()["results"]
    assert [item["id"] for item in listed] == [row["id"]]
    cancelled = operator.post(f"/api/v1/backfills/{row['id']}/cancel/").json()
    assert (cancelled["cancelled"], cancelled["state"]) == (False, "done")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"instrument": "nocoin"}, "instrument"),
        ({"timeframe": "7h"}, "timeframe"),
        ({"timeframe": "1d"}, "timeframe"),
        ({"start": "2016-12-31T00:00:00Z"}, "start"),
        ({"start": "2030-01-01T00:00:00Z", "end": None}, "end"),
        ({"start": "2030-01-01T00:00:00Z", "end": "2030-02-01T00:00:00Z"}, "start"),
        ({"timeframe": "1m", "start": "2017-01-01T00:00:00Z", "end": NOW}, "start"),
        ({"instrument": "tether", "end": "2024-02-01T00:00:00Z", "start": "2024-01-01"}, "end"),
    ],
)
def test_what_cannot_be_had_is_refused(
    operator: APIClient, change: dict[str, Any], field: str
) -> None:
    body = {"instrument": "bitcoin", "timeframe": "1h", "start": START, "end": END}
    answer = operator.post("/api/v1/backfills/", {**body, **change}, format="json")
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == [field]
    assert not Backfill.objects.exists()


def test_viewers_may_look_only(bitcoin: Instrument, api_client: APIClient) -> None:
    api_client.force_authenticate(make_user("viewer", role="viewer"))
    assert api_client.get("/api/v1/backfills/").status_code == 200
    assert api_client.post("/api/v1/backfills/", {"instrument": "bitcoin"}).status_code == 403


def test_the_command_goes_on_where_it_was_stopped(
    bitcoin: Instrument, venues: Venues, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    venues.add("binance", "BTCUSDT", START, END, 100.0)
    arguments = ["--instrument=bitcoin", f"--start={START.isoformat()}", f"--end={END.isoformat()}"]
    hold = backfills._Claim.hold

    def stop_after_a_chunk(claim: Any, **fields: Any) -> None:
        hold(claim, **fields)
        if "position" in fields:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(backfills._Claim, "hold", stop_after_a_chunk)
        with pytest.raises(CommandError, match="stopped at 2024-06-02 16:00: run it again"):
            call_command("backfill_candles", *arguments)
    assert Backfill.objects.get().state == BackfillState.CANCELLED
    out = StringIO()
    call_command("backfill_candles", *arguments, "--json", stdout=out)
    row = json.loads(out.getvalue())
    assert (row["id"], row["stored"], row["state"]) == (Backfill.objects.get().pk, 100, "done")
    assert venues.calls("binance") == 3


def test_the_command_serves_several_instruments(
    bitcoin: Instrument, venues: Venues, small_chunks: None
) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        venues.add("binance", symbol, START, END, 100.0)
    out = StringIO()
    call_command(
        "backfill_candles",
        "--instrument",
        "bitcoin",
        "ethereum",
        f"--start={START.isoformat()}",
        f"--end={END.isoformat()}",
        "--json",
        stdout=out,
    )
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(row["coin_id"], row["stored"]) for row in rows] == [
        ("bitcoin", 100),
        ("ethereum", 100),
    ]
