"""HTTP: what strategies decide by, how their runs went, and how what they said turned out."""

from datetime import UTC, datetime, timedelta

import pytest

from signals import services
from signals.models import BarRun, Signal, StrategyConfig
from signals.strategies.mean_reversion import MeanReversion
from tests.factories import make_user

HOUR = timedelta(hours=1)
START = datetime(2021, 5, 3, tzinfo=UTC)
STRATEGY = "/api/v1/strategies/mean_reversion/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def viewer(api_client, seeded, clock_at):
    """A client that a viewer has logged in, after twenty bars."""
    clock_at(START + 20 * HOUR)
    services.run_due_bars(timeframe="1h")
    api_client.force_authenticate(make_user("eve", role="viewer"))
    return api_client


def refused(answer) -> dict[str, list[str]]:
    """The fields of a refusal, in the one shape of errors."""
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "fields"}
    return error["fields"]


def test_the_analysis_is_what_was_said(viewer):
    query = {"instrument": "bitcoin", "start": "2021-05-02T00:00:00Z"}
    answer = viewer.get(f"{STRATEGY}analysis/", query).json()
    bars = len(answer["open_time"])
    assert bars == 44
    assert answer["open_time"][0] == "2021-05-02T00:00:00Z"
    columns = [answer["direction"], answer["stop_loss"], *answer["candles"].values()]
    columns += answer["diagnostics"].values()
    assert {len(column) for column in columns} == {bars}
    assert set(answer["diagnostics"]) == {"rsi", "drawdown", "vix"}
    entry = Signal.objects.get(strategy="mean_reversion", direction=1)
    row = answer["open_time"].index(entry.bar_open_time.isoformat().replace("+00:00", "Z"))
    assert answer["direction"][row - 1 : row + 1] == [0, 1]
    assert answer["stop_loss"][row] == entry.stop_loss
    assert answer["candles"]["close"][row] == entry.price
    assert [said["signal_type"] for said in answer["signals"]] == ["LONG", "FLAT"]


def test_the_consensus_tells_who_wanted_what(viewer):
    query = {"instrument": "bitcoin", "start": "2021-05-02T00:00:00Z"}
    answer = viewer.get("/api/v1/strategies/consensus/analysis/", query).json()
    assert {"mean_reversion", "vix_correlation"} <= set(answer["diagnostics"])


def test_an_analysis_that_cannot_be_is_refused(viewer, monkeypatch):
    address = f"{STRATEGY}analysis/"
    expected = [
        ({}, "instrument"),
        ({"instrument": "dogcoin"}, "instrument"),
        ({"instrument": "bitcoin", "start": "yesterday"}, "start"),
        ({"instrument": "bitcoin", "start": "2020-12-01T00:00:00Z"}, "start"),
        ({"instrument": "bitcoin", "start": "0001-01-01T00:00:00+14:00"}, "start"),
        ({"instrument": "bitcoin", "end": "0001-01-01T00:00:00Z"}, "end"),
    ]
    for query, field in expected:
        assert set(refused(viewer.get(address, query))) == {field}, query
    assert viewer.get("/api/v1/strategies/spam/analysis/?instrument=bitcoin").status_code == 404

    def fail(self, market):
        raise ZeroDivisionError("a fault of its own")

    monkeypatch.setattr(MeanReversion, "analyze", fail)
    answer = viewer.get(address, {"instrument": "bitcoin"})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "strategy_failed"
    assert "a fault of its own" in answer.json()["error"]["message"]


def test_bar_runs_are_listed_and_narrowed(viewer):
    BarRun.objects.filter(bar_open_time=START).update(failures={"x": "ValueError: y"})
    answer = viewer.get("/api/v1/bar-runs/").json()
    assert set(answer) == {"next", "previous", "results"}
    newest = answer["results"][0]
    assert newest["bar_open_time"] == "2021-05-03T19:00:00Z"
    assert newest["revisions"]["candles:bitcoin:1h"] == 7
    assert set(newest["durations"]) == {"mean_reversion", "vix_correlation"}
    counts = {
        query: len(viewer.get(f"/api/v1/bar-runs/?{query}").json()["results"])
        for query in (
            "is_failed=true",
            "is_failed=false&since=2021-05-03T18:00:00Z",
            "until=2021-05-03T00:00:00Z",
            "timeframe=4h",
        )
    }
    assert list(counts.values()) == [1, 2, 1, 0]
    assert set(refused(viewer.get("/api/v1/bar-runs/?since=soon"))) == {"since"}
    assert set(refused(viewer.get("/api/v1/bar-runs/?is_failed=maybe"))) == {"is_failed"}
    for address in ("bar-runs", "signals", "signals/current"):  # no such moment in UTC
        answer = viewer.get(f"/api/v1/{address}/?since=9999-12-31T23:59:59-12:00")
        assert set(refused(answer)) == {"since"}


def test_a_strategy_tells_how_it_is_set_and_does(viewer):
    StrategyConfig.objects.filter(name="mean_reversion").update(parameters={"hold_bars": 12})
    told = viewer.get(STRATEGY).json()
    assert told["parameters_in_force"]["hold_bars"] == 12
    assert told["preset"]["parameters"]["hold_bars"] == 24
    assert told["parameter_rules"]["hold_bars"]["default"] == 24
    assert (told["is_certified"], told["certificate"]) == (False, "passed")
    assert told["health"]["runs"] == BarRun.objects.count()
    assert told["last_run"]["bar_open_time"] == "2021-05-03T19:00:00Z"
    assert told["last_run"]["failure"] is None
    listed = {each["name"]: each for each in viewer.get("/api/v1/strategies/").json()}
    assert listed["mean_reversion"] == told


def test_stored_parameters_that_have_become_invalid_are_told(viewer):
    StrategyConfig.objects.filter(name="mean_reversion").update(parameters={"hold_bars": 10**6})
    told = viewer.get(STRATEGY)
    assert told.status_code == 200
    assert not told.json()["is_certified"]


def test_a_strategy_that_never_ran_says_so(api_client):
    StrategyConfig.objects.create(name="mean_reversion")
    api_client.force_authenticate(make_user("eve", role="viewer"))
    told = api_client.get(STRATEGY).json()
    assert (told["health"], told["last_run"], told["certificate"]) == (None, None, "none")
    assert api_client.get(f"{STRATEGY}outcomes/").json() == {
        "strategy": "mean_reversion",
        "total": None,
        "instruments": [],
    }
