"""Alerts from outside: read to the letter, judged once, taken once."""

import json
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission
from django.db import connection

from collectors.models import Instrument, Listing
from collectors.seeds import RENDER_RENAMED
from signals.alertjson import SIZE_LIMIT, AlertRefused, NotWhole, read_alert
from signals.models import AlertOrigin, Direction, OutsideAlert, Signal, SignalOutcome
from signals.proposals import Admission, check_admission, read_proposal
from signals.services import Arrival, ingest_alerts
from signals.services.outcomes import advance_outcomes
from tests.factories import make_signal, make_user
from tests.signals.outside_files import NOW, NOW_MS, signal_alert, volatility_alert

HOUR = timedelta(hours=1)
MINUTE_MS = 60_000
ADMISSION = Admission(
    now=NOW, max_age=timedelta(days=1), tolerance=timedelta(seconds=30), min_confidence=0.5
)


@pytest.fixture
def market(db: None, clock_at: Any) -> dict[str, Instrument]:
    """Instruments as they are called at NOW; RNDR is the former name of render-token."""
    clock_at(NOW)
    made = {}
    for coin_id, symbol in (("bitcoin", "BTC"), ("ethereum", "ETH"), ("render-token", "RENDER")):
        made[coin_id] = Instrument.objects.create(
            coin_id=coin_id, symbol=symbol, name=coin_id, sector="test"
        )
        for exchange in ("binance", "bybit"):
            Listing.objects.create(
                instrument=made[coin_id],
                exchange=exchange,
                symbol=f"{symbol}USDT",
                tick_size="0.1",
                quantity_step="0.001",
            )
    Listing.objects.create(
        instrument=made["render-token"],
        exchange="binance",
        symbol="RNDRUSDT",
        tick_size="0.1",
        quantity_step="0.1",
        valid_to=RENDER_RENAMED,
    )
    made["tether"] = Instrument.objects.create(
        coin_id="tether", symbol="USDT", name="Tether", sector="stablecoin"
    )
    return made


def took(alert: Any, **fields: Any) -> OutsideAlert:
    """What the alert (an object, or bytes) was judged."""
    raw = alert if isinstance(alert, bytes) else json.dumps(alert).encode()
    fields = {"origin": AlertOrigin.API, "raw": raw} | fields
    (judgement,) = ingest_alerts(arrivals=[Arrival(**fields)])
    return judgement.alert


# --- What is read ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"price": 1e400}', "larger than any number"),
        (b'{"price": NaN}', "NaN is no number"),
        (b'{"price": -Infinity}', "-Infinity is no number"),
        (b'{"price": 1, "price": 2}', "'price' is given twice"),
        (b'{"price": ' + b"9" * 5000 + b"}", "5000 digits"),
        (b'{"a": ' * 10_000 + b"1" + b"}" * 1_000, "nested too deeply"),
        (b"[" * SIZE_LIMIT, "nested too deeply"),
        (b"[]", "not a JSON object"),
        (b'"LONG"', "not a JSON object"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\xff\xfe{\x00}\x00", "byte order mark"),
        (b" " * (SIZE_LIMIT + 1), "larger than 64 KiB"),
    ],
)
def test_hostile_json_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(AlertRefused, match=reason) as refused:
        read_alert(raw)
    assert not isinstance(refused.value, NotWhole)


@pytest.mark.parametrize(
    "raw",
    [b"", b" \n", b'{"price": 1', b"{'price': 1}", b'{"a": "\xc3', b"{\x00}\x00", b'{"a": "\n"}'],
)
def test_what_is_no_json_may_become_it(raw: bytes) -> None:
    with pytest.raises(NotWhole):
        read_alert(raw)


def test_both_formats_are_understood() -> None:
    old = read_proposal(volatility_alert())
    assert (old.alert_id, old.price, old.confidence, old.at) == ("", 50_000.0, 0.92, NOW)
    ours = read_proposal(signal_alert(timestamp="2026-03-02T11:30:00+01:00", timeframe="4h"))
    assert (ours.alert_id, ours.direction, ours.stop_loss, ours.take_profit) == (
        "17",
        -1,
        2_050.0,
        1_900.0,
    )
    assert (ours.at, ours.timeframe, ours.position_size) == (NOW, "4h", 0.02)
    flat = read_proposal({**volatility_alert(signal_type="FLAT"), "volatility_percentile": None})
    assert (flat.direction, flat.confidence, flat.stop_loss) == (0, 0.0, None)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"signal_type": "long"}, "signal_type"),
        ({"signal_type": None}, "signal_type is missing"),
        ({"signal_type": ["LONG"]}, "signal_type"),
        ({"asset": 5}, "asset"),
        ({"asset": "bit\x00coin"}, "asset"),
        ({"asset": "\ud800"}, "asset"),
        ({"asset": "x" * 65}, "asset"),
        ({"price": 0}, "price"),
        ({"price": -1.0}, "price"),
        ({"price": 1e13}, "price"),
        ({"price": "2000"}, "price"),
        ({"price": True}, "price"),
        ({"price": None}, "price is missing"),
        ({"current_price": 2_001.0}, "differ"),
        ({"confidence": 1.01}, "confidence"),
        ({"confidence": -0.1}, "confidence"),
        ({"confidence": None}, "confidence is missing"),
        ({"confidence": None, "volatility_percentile": 101}, "volatility_percentile"),
        ({"position_size": 1.5}, "position_size"),
        ({"position_size": -0.5}, "position_size"),
        ({"risk_metrics": [2_050.0]}, "risk_metrics"),
        ({"risk_metrics": {"stop_loss": 1_999.0}}, "wrong side"),
        ({"risk_metrics": {"stop_loss": 2_000.0}}, "wrong side"),
        ({"risk_metrics": {"take_profit": 2_001.0}}, "wrong side"),
        ({"risk_metrics": {"stop_loss": 0}}, "stop_loss"),
        ({"stop_loss": 2_060.0}, "stop_loss is given twice"),
        ({"timestamp": NOW_MS // 1000}, "milliseconds"),
        ({"timestamp": True}, "no moment"),
        ({"timestamp": "yesterday"}, "no moment"),
        ({"timestamp": "0001-01-01T00:00:00+23:59"}, "no moment"),
        ({"timestamp": 10**29}, "milliseconds"),
        ({"id": {}}, "id"),
        ({"id": ""}, "id"),
        ({"timeframe": "2h"}, "timeframe"),
        ({"alert_type": "refused"}, "no proposal to trade"),
        ({"threshold_exceeded": False}, "threshold_exceeded"),
    ],
)
def test_a_wrong_value_is_named(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(AlertRefused, match=reason) as refused:
        read_proposal(signal_alert(**changed))
    assert str(refused.value).isascii() and len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"timestamp": NOW_MS + MINUTE_MS}, "from the future"),
        ({"timestamp": NOW_MS - 7 * 24 * 60 * MINUTE_MS}, "too old: 7 days"),
        ({"confidence": 0.49}, "confidence 0.49 is below 0.5"),
    ],
)
def test_who_is_not_let_in(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(AlertRefused, match=reason):
        check_admission(read_proposal(signal_alert(**changed)), ADMISSION)
    near = signal_alert(timestamp=NOW_MS + MINUTE_MS // 4, confidence=0.5)
    check_admission(read_proposal(near), ADMISSION)
    unsure = signal_alert(signal_type="FLAT", confidence=0.1)
    check_admission(read_proposal(unsure), ADMISSION)  # it only closes


# --- What becomes of it ---------------------------------------------------------------------


def test_an_accepted_alert_is_a_signal_of_outside(
    market: dict[str, Instrument], redis_client: Any, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        alert = took(signal_alert(), received_by="bot")
    assert (alert.verdict, alert.key, alert.received_by) == ("accepted", "id:17", "bot")
    assert json.loads(alert.payload) == signal_alert()
    signal = Signal.objects.get()
    assert signal == alert.signal
    assert (signal.strategy, signal.instrument, signal.direction, signal.at) == (
        "outside",
        market["ethereum"],
        Direction.SHORT,
        NOW,
    )
    assert (signal.stop_loss, signal.take_profit, signal.position_size) == (2_050.0, 1_900.0, 0.02)
    assert (signal.run, signal.expires_at) == (None, NOW + HOUR)
    key = json.loads(redis_client.get("signal:outside:ethereum"))
    assert key["id"] == signal.pk
    (file,) = (settings.DATA_DIR / "signals").glob("signals_20260302_103000*.json")
    assert json.loads(file.read_text())["signals"][0]["signal"] == "SHORT"
    file.unlink()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("bitcoin", "bitcoin"),
        ("BTC", "bitcoin"),
        ("BTCUSDT", "bitcoin"),
        ("RENDERUSDT", "render-token"),
        ("btc", None),
        ("Bitcoin", None),
        ("btcusdt", None),
        ("RNDRUSDT", None),  # no longer
        ("USDT", None),  # listed nowhere
        ("SOL", None),
    ],
)
def test_assets_are_looked_up_as_they_are_called_then(
    market: dict[str, Instrument], name: str, meant: str | None
) -> None:
    alert = took(volatility_alert(asset=name))
    if meant is None:
        assert (alert.verdict, alert.signal) == ("refused", None)
        assert alert.reason == f"asset '{name}' means no instrument of that time"
    else:
        assert alert.signal is not None
        assert alert.signal.instrument.coin_id == meant


def test_a_former_symbol_means_what_it_meant_then(
    market: dict[str, Instrument], clock_at: Any
) -> None:
    before = RENDER_RENAMED - HOUR
    clock_at(before)
    alert = took(volatility_alert(asset="RNDRUSDT", timestamp=before.isoformat()))
    assert alert.signal is not None
    assert alert.signal.instrument == market["render-token"]


def test_an_ambiguous_asset_and_one_not_offered_are_refused(
    market: dict[str, Instrument],
) -> None:
    market["tether"].symbol = "BTC"
    market["tether"].save()
    Listing.objects.create(
        instrument=market["tether"],
        exchange="bybit",
        symbol="OTHER",
        tick_size="1",
        quantity_step="1",
    )
    assert took(volatility_alert(asset="BTC")).reason == "asset 'BTC' means bitcoin, tether"
    Instrument.objects.filter(coin_id="ethereum").update(is_strategy_enabled=False)
    assert took(signal_alert()).reason == "ethereum is not offered to strategies"
    flat = took(signal_alert(id=18, signal_type="FLAT", risk_metrics=None))
    assert flat.verdict == "accepted"  # what is held can be left
    assert Signal.objects.count() == 1


def test_an_alert_is_taken_once_however_it_comes(market: dict[str, Instrument]) -> None:
    first = took(volatility_alert())
    assert first.key == f"bitcoin:{NOW_MS}:LONG"
    again = [
        volatility_alert(asset="BTCUSDT"),
        volatility_alert(timestamp=NOW.isoformat()),
        dict(reversed(volatility_alert().items())),
    ]
    assert {took(each, file_name="other.json").pk for each in again} == {first.pk}
    twice = [Arrival(origin="file", raw=json.dumps(volatility_alert()).encode())] * 2
    assert [each.is_new for each in ingest_alerts(arrivals=twice)] == [False, False]
    fresh = [Arrival(origin="file", raw=json.dumps(signal_alert()).encode())] * 2
    assert [each.is_new for each in ingest_alerts(arrivals=fresh)] == [True, False]
    assert (Signal.objects.count(), OutsideAlert.objects.count()) == (2, 2)


def test_what_contradicts_what_was_taken_is_refused(market: dict[str, Instrument]) -> None:
    took(signal_alert())
    other = took(signal_alert(price=2_001.0))
    assert other.reason == "taken before, with other values"
    elsewhere = took(signal_alert(asset="bitcoin"))  # another sender that counts from one too
    assert elsewhere.reason == "taken before, with other values"
    flat = took(signal_alert(id=18, signal_type="FLAT"))
    assert flat.reason == "outside has spoken of ethereum at this moment already"
    assert took(signal_alert(id=18, signal_type="FLAT")).pk == flat.pk
    assert Signal.objects.count() == 1


def test_a_refusal_does_not_bar_the_corrected_alert(market: dict[str, Instrument]) -> None:
    refused = took(signal_alert(price=0))
    assert refused.key.startswith("refused:")
    assert took(signal_alert(price=0)).pk == refused.pk
    assert took(signal_alert()).verdict == "accepted"


def test_refused_rubbish_is_kept_as_a_sample(market: dict[str, Instrument]) -> None:
    alert = took(b"\x00\xff" * 30_000)
    assert (alert.verdict, alert.reason) == ("refused", "not UTF-8 at byte 1")
    assert alert.payload.startswith("\\x00\\xff") and len(alert.payload) < 20_000
    assert not Signal.objects.exists()


def test_our_own_consensus_does_not_come_back(market: dict[str, Instrument]) -> None:
    make_signal(bar=NOW - HOUR, coin_id="ethereum", direction=-1, price=2_000.0, confidence=0.75)
    assert took(signal_alert()).reason == "our own alert"
    assert took(signal_alert(price=2_001.0)).verdict == "accepted"
    in_our_folder = took(signal_alert(id=19, asset="bitcoin"), is_from_us=True)
    assert in_our_folder.reason == "our own alert"
    without_id = took(volatility_alert(), is_from_us=True)  # a bot of old writes there too
    assert without_id.verdict == "accepted"


def test_an_older_alert_does_not_take_the_key_of_a_newer(
    market: dict[str, Instrument], redis_client: Any, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        newer = took(volatility_alert())
    with django_capture_on_commit_callbacks(execute=True):
        took(volatility_alert(signal_type="FLAT", timestamp=NOW_MS - MINUTE_MS))
    assert json.loads(redis_client.get("signal:outside:bitcoin"))["id"] == newer.signal_id
    for file in (settings.DATA_DIR / "signals").glob("signals_20260302_10*.json"):
        file.unlink()


def test_its_fate_is_followed_from_the_next_bar(market: dict[str, Instrument]) -> None:
    for minutes, kind in ((0, "LONG"), (1, "FLAT")):  # the second ends the first in the same bar
        took(volatility_alert(signal_type=kind, timestamp=NOW_MS - (2 - minutes) * MINUTE_MS))
    outcome = SignalOutcome.objects.get()
    assert outcome.entry_at == NOW + HOUR / 2
    assert advance_outcomes() >= 0


def test_settings_say_who_is_let_in(market: dict[str, Instrument], settings: Any) -> None:
    settings.ENV = replace(settings.ENV, ingest_max_age=60.0, ingest_min_confidence=0.95)
    assert "confidence" in took(volatility_alert()).reason
    old = volatility_alert(timestamp=NOW_MS - 2 * MINUTE_MS, confidence=0.99)
    assert "too old" in took(old).reason


@pytest.mark.django_db(transaction=True)
def test_threads_take_each_alert_once(clock_at: Any) -> None:
    clock_at(NOW)
    Instrument.objects.create(coin_id="bitcoin", symbol="BTC", name="bitcoin", sector="test")
    alerts = [volatility_alert(timestamp=NOW_MS - 1_000 * number) for number in range(40)]
    arrivals = [Arrival(origin="file", raw=json.dumps(each).encode()) for each in alerts]
    new: list[int] = []

    def work(number: int) -> None:
        try:
            for begin in range(0, 40, 8):
                part = arrivals[begin : begin + 8]
                judged = ingest_alerts(arrivals=part[::-1] if number % 2 else part)
                new.append(sum(each.is_new for each in judged))
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new) == Signal.objects.count() == OutsideAlert.objects.count() == 40


# --- The HTTP door --------------------------------------------------------------------------


def test_the_door_answers_once_taken_known_and_refused(
    market: dict[str, Instrument], api_client: Any
) -> None:
    user = make_user(role="trader")
    api_client.force_authenticate(user)
    post = api_client.post
    first = post("/api/v1/signals/ingest/", signal_alert(), format="json")
    assert first.status_code == 201, first.content
    assert first.json()["verdict"] == "accepted"
    assert first.json()["received_by"] == "ada"
    again = post("/api/v1/signals/ingest/", signal_alert(), format="json")
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    for body in (b"", b'{"a": 1, "a": 2}', b"\xff", b"{" * 200_000, b'{"price": 1e400}'):
        refused = post("/api/v1/signals/ingest/", body, content_type="application/json")
        assert refused.status_code == 400
        reason = refused.json()["error"]["message"]
        assert OutsideAlert.objects.filter(verdict="refused", reason=reason).count() == 1
    assert Signal.objects.count() == 1
    listed = api_client.get("/api/v1/signals/ingest/?verdict=refused").json()["results"]
    assert len(listed) == 5


def test_a_key_belongs_to_one_alert(market: dict[str, Instrument], api_client: Any) -> None:
    api_client.force_authenticate(make_user(role="trader"))

    def post(alert: dict[str, Any]) -> Any:
        url, headers = "/api/v1/signals/ingest/", {"Idempotency-Key": "one"}
        return api_client.post(url, alert, format="json", headers=headers)

    assert [post(signal_alert(price=0)).status_code for _ in range(2)] == [400, 400]
    assert OutsideAlert.objects.count() == 1  # the refusal is kept
    assert post(signal_alert()).status_code == 409
    assert not Signal.objects.exists()


@pytest.mark.parametrize(
    ("role", "status"), [(None, 403), ("viewer", 403), ("operator", 403), ("trader", 201)]
)
def test_who_may_tell(
    market: dict[str, Instrument], api_client: Any, role: str | None, status: int
) -> None:
    url = "/api/v1/signals/ingest/"
    assert api_client.post(url, signal_alert(), format="json").status_code == 401
    user = make_user(role=role)
    api_client.force_authenticate(user)
    assert api_client.post(url, signal_alert(), format="json").status_code == status
    assert OutsideAlert.objects.count() == (status == 201)


def test_a_bot_needs_no_role(market: dict[str, Instrument], api_client: Any) -> None:
    bot = make_user("bot", role=None)
    bot.user_permissions.add(Permission.objects.get(codename="add_outsidealert"))
    api_client.force_authenticate(bot)
    url = "/api/v1/signals/ingest/"
    assert api_client.post(url, signal_alert(), format="json").status_code == 201
    assert api_client.get(url).status_code == 403
    assert api_client.get("/api/v1/signals/").status_code == 403


def test_the_admin_shows_what_came_and_changes_nothing(
    market: dict[str, Instrument], client: Any
) -> None:
    took(signal_alert(), received_by="bot")
    hostile = took(b'{"asset": "<script>alert(1)</script>"}')
    client.force_login(make_user("root", role=None, is_staff=True, is_superuser=True))
    address = "/admin/signals/outsidealert/"
    listed = client.get(f"{address}?verdict__exact=refused").content.decode()
    assert "signal_type is missing" in listed and "ethereum" not in listed
    page = client.get(f"{address}{hostile.pk}/change/").content.decode()
    assert "<script>alert(1)</script>" not in page and "&lt;script&gt;alert(1)" in page
    assert client.get(f"{address}add/").status_code == 403
    assert client.post(f"{address}{hostile.pk}/change/", {"verdict": "accepted"}).status_code == 403
    assert client.get("/admin/signals/alertfile/").status_code == 200
