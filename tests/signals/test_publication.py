"""What leaves the database: the `signal:` keys and the signal files, to the letter."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from signals import publication
from signals.models import BarRun, Signal
from tests.factories import make_instrument

HOUR = timedelta(hours=1)
AT = datetime(2034, 5, 6, 7, tzinfo=UTC)  # no other test writes files of this moment
CONTEXT = {"vix_level": 21.5, "correlation_btc_vix": None}


@pytest.fixture
def said(db: None) -> list[Signal]:
    """A LONG of bitcoin and a FLAT of ethereum, at AT."""
    run = BarRun.objects.create(timeframe="1h", bar_open_time=AT - HOUR, started_at=AT)
    common = {
        "timeframe": "1h", "bar_open_time": AT - HOUR, "at": AT, "expires_at": AT + 2 * HOUR,
        "run": run, "created_at": AT,
    }  # fmt: skip
    return [
        Signal.objects.create(
            strategy="mean_reversion", instrument=make_instrument("bitcoin"), direction=1,
            confidence=0.75, price=50000.0, stop_loss=47500.0, position_size=0.025,
            reasons={"rsi": 21.0}, **common,
        ),
        Signal.objects.create(
            strategy="consensus", instrument=make_instrument("ethereum"), direction=0,
            confidence=0.0, price=2000.0, **common,
        ),
    ]  # fmt: skip


def files() -> list[Path]:
    return sorted((settings.DATA_DIR / "signals").glob("signals_20340506_070000*"))


@pytest.fixture(autouse=True)
def _no_files():
    yield
    for path in files():
        path.unlink()


def test_a_key_is_the_signal_as_the_api_serves_it(said, redis_client) -> None:
    publication.publish(said, CONTEXT)
    assert json.loads(redis_client.get("signal:mean_reversion:bitcoin")) == {
        "id": said[0].pk,
        "strategy": "mean_reversion",
        "asset": "bitcoin",
        "timeframe": "1h",
        "timestamp": "2034-05-06T07:00:00+00:00",
        "signal_type": "LONG",
        "price": 50000.0,
        "confidence": 0.75,
        "position_size": 0.025,
        "stop_loss": 47500.0,
        "take_profit": None,
        "risk_level": "medium",
        "expires_at": "2034-05-06T09:00:00+00:00",
        "reasons": {"rsi": 21.0},
    }
    assert json.loads(redis_client.get("signal:consensus:ethereum"))["signal_type"] == "FLAT"
    assert 24 * 3600 - 60 < redis_client.ttl("signal:consensus:ethereum") <= 24 * 3600


def test_a_file_has_all_signals_of_a_run_and_their_market(said) -> None:
    publication.publish(said, CONTEXT)
    [path] = files()
    assert path.name == "signals_20340506_070000.json"
    assert json.loads(path.read_text()) == {
        "timestamp": "2034-05-06T07:00:00+00:00",
        "signals": [
            {
                "strategy": "mean_reversion",
                "asset": "bitcoin",
                "signal": "LONG",
                "confidence": 0.75,
                "position_size": 0.025,
                "risk_level": "medium",
            },
            {
                "strategy": "consensus",
                "asset": "ethereum",
                "signal": "FLAT",
                "confidence": 0.0,
                "position_size": None,
                "risk_level": "low",
            },
        ],
        "market_context": {"vix_level": 21.5, "correlation_btc_vix": None},
    }


def test_no_file_is_written_over_another(said, tmp_path) -> None:
    for vix in (1.0, 2.0, 3.0):
        publication.publish(said, {**CONTEXT, "vix_level": vix})
    assert {
        path.name: json.loads(path.read_text())["market_context"]["vix_level"] for path in files()
    } == {
        "signals_20340506_070000.json": 1.0,
        "signals_20340506_070000_2.json": 2.0,
        "signals_20340506_070000_3.json": 3.0,
    }

    def write(number: int) -> None:
        publication.write_new_file(tmp_path, "same", {"number": number})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = list(tmp_path.iterdir())  # and no unfinished file beside them
    assert sorted(path.name for path in written) == sorted(
        ["same.json", *(f"same_{number}.json" for number in range(2, 9))]
    )
    assert {json.loads(path.read_text())["number"] for path in written} == set(range(8))


def test_without_signals_nothing_is_written() -> None:
    publication.publish([], CONTEXT)
    assert files() == []


def test_either_copy_is_made_without_the_other(said, redis_client, monkeypatch) -> None:
    gone = redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
    with monkeypatch.context() as away:
        away.setattr(publication, "_client", lambda: gone)
        publication.publish(said, CONTEXT)
    assert len(files()) == 1
    redis_client.delete("signal:mean_reversion:bitcoin")
    blocked = settings.DATA_DIR / "no folder"
    blocked.write_text("")
    with monkeypatch.context() as away:
        away.setattr(settings, "DATA_DIR", blocked)
        publication.publish(said, CONTEXT)
    blocked.unlink()
    assert redis_client.exists("signal:mean_reversion:bitcoin")
