"""What the health page tells, and to whom."""

import dataclasses
from datetime import timedelta

import pytest
import redis
from django.test import Client

from collectors import clock
from collectors.models import Ohlcv, StreamProcess, StreamShard
from mts_project import vitals
from mts_project.celery import write_heartbeat
from tests.factories import make_instrument, make_refusal, make_user
from trading.services import set_desk_state

pytestmark = pytest.mark.django_db

COMPONENTS = {
    *("database", "redis", "workers", "beat", "stream", "disk", "providers", "trading"),
    "data_freshness",
}


@pytest.fixture(autouse=True)
def _every_look_is_new(monkeypatch):
    monkeypatch.setattr(vitals, "RECENT_S", 1e-9)


@pytest.fixture
def components(client: Client):
    """Reads the components with a login."""
    client.force_login(make_user())
    return lambda: client.get("/health/").json()["components"]


def store_candle(coin_id: str, age: timedelta) -> None:
    instrument = make_instrument(coin_id)
    Ohlcv.objects.create(
        instrument=instrument,
        timeframe="1h",
        open_time=clock.now() - age,
        **{name: 1.0 for name in ("open", "high", "low", "close", "volume")},
        source="binance",
        received_at=clock.wall_now(),
    )


def test_anybody_may_know_the_status_and_nothing_else(client: Client):
    assert set(client.get("/health/").json()) == {"status", "healthy"}
    client.force_login(make_user(role=None))
    assert set(client.get("/health/").json()) == {"status", "healthy"}


def test_a_login_sees_the_components(client: Client):
    client.force_login(make_user())
    body = client.get("/health/").json()
    assert set(body["components"]) == COMPONENTS
    assert set(body["performance"]) == {
        *("signals_generated_last_hour", "api_requests_last_hour", "database_health"),
        *("memory_mb", "uptime_s"),
    }
    assert body["performance"]["database_health"] == "healthy"


def test_the_monitor_token_is_as_good_as_a_login(client: Client, settings):
    settings.ENV = dataclasses.replace(settings.ENV, metrics_token="monitor-me")
    told = client.get("/health/", headers={"Authorization": "Bearer monitor-me"})
    assert set(told.json()["components"]) == COMPONENTS
    refused = client.get("/health/", headers={"Authorization": "Bearer guess"})
    assert refused.status_code == 401


def test_redis_lost_is_unhealthy(client: Client, monkeypatch):
    broken = redis.Redis.from_url("unix:///nowhere/redis.sock", decode_responses=True)
    monkeypatch.setattr(vitals, "_client", lambda: broken)
    answer = client.get("/health/")
    assert answer.status_code == 503
    assert answer.json() == {"status": "unhealthy", "healthy": False}
    assert client.get("/health/ready/").status_code == 503
    assert client.get("/health/live/").status_code == 200


def test_it_is_ready_when_its_stores_answer(client: Client):
    assert client.get("/health/ready/").json() == {"status": "ready"}


def test_silent_processes_degrade_it(components, redis_client: redis.Redis):
    assert components()["beat"]["status"] == "degraded"
    now = clock.wall_now()
    redis_client.set("heartbeat:beat", now.isoformat())
    redis_client.set("heartbeat:stream", (now - timedelta(minutes=2)).isoformat())
    redis_client.set("heartbeat:worker:one@host", now.isoformat())
    told = components()
    assert told["beat"]["status"] == "healthy"
    assert told["stream"]["status"] == "degraded"
    assert (told["workers"]["status"], told["workers"]["alive"]) == ("healthy", 1)


def test_a_worker_writes_its_heartbeat(components):
    class Heart:
        class eventer:
            hostname = "two@host"

    write_heartbeat(sender=Heart)
    assert "two@host" in components()["workers"]["age_s"]


def test_old_or_missing_candles_are_stale(components):
    store_candle("bitcoin", timedelta(hours=1, minutes=30))
    store_candle("ethereum", timedelta(hours=9))
    make_instrument("solana")
    make_instrument("tether", is_enabled=False)
    told = components()["data_freshness"]
    states = {name: each["status"] for name, each in told["instruments"].items()}
    assert states == {"bitcoin": "fresh", "ethereum": "stale", "solana": "missing"}
    assert (told["overall_status"], told["fresh_count"]) == ("stale", 1)
    assert told["instruments"]["ethereum"]["age_hours"] == pytest.approx(8, abs=0.01)


def test_a_halted_account_is_worth_a_look(components):
    assert components()["trading"]["status"] == "healthy"
    make_refusal("late")
    assert components()["trading"]["accounts"] == {}


def test_a_halted_desk_is_worth_a_look(components):
    set_desk_state(state="halted", reason="a drill", by="ada")
    trading = components()["trading"]
    assert trading["status"] == "degraded"
    assert (trading["desk"]["trading_state"], trading["desk"]["reason"]) == ("halted", "a drill")


def test_asking_often_costs_no_more_than_asking_once(
    client: Client, monkeypatch, django_assert_num_queries
):
    monkeypatch.setattr(vitals, "RECENT_S", 1e9)
    told = client.get("/health/").json()
    with django_assert_num_queries(0):
        assert client.get("/health/").json() == told


def test_the_stream_says_how_many_shards_are_held(components, redis_client: redis.Redis):
    redis_client.set("heartbeat:stream", clock.wall_now().isoformat())
    soon = clock.wall_now() + timedelta(minutes=1)
    for number in range(3):
        leased_until = soon - timedelta(minutes=5 * (number == 2))
        StreamShard.objects.create(
            number=number, spread=3, owner=f"owner-{number}", leased_until=leased_until
        )
    StreamProcess.objects.create(owner="owner-0", leased_until=soon)
    told = components()["stream"]
    assert told["shards"] == {"held": 2, "of": 3, "processes": 1}
    assert told["status"] == "degraded"
    StreamShard.objects.update(leased_until=soon)
    assert components()["stream"]["status"] == "healthy"


def test_the_admin_shows_who_streams_what(client: Client):
    client.force_login(make_user(role=None, is_superuser=True, is_staff=True))
    owner = "stream-1/boot/1+2/4711/99/token"
    soon = clock.wall_now() + timedelta(minutes=1)
    StreamShard.objects.create(number=0, spread=1, owner=owner, leased_until=soon)
    StreamProcess.objects.create(owner=owner, leased_until=soon)
    for model in ("streamshard", "streamprocess"):
        page = client.get(f"/admin/collectors/{model}/")
        assert page.status_code == 200
        assert b"stream-1, pid 4711" in page.content
        assert b"/add/" not in page.content
    StreamShard.objects.update(leased_until=clock.wall_now())  # its owner was killed
    page = client.get("/admin/collectors/streamshard/")
    assert page.status_code == 200
    assert b"pid 4711" not in page.content
