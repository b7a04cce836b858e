"""The chart of a strategy: what it shows, and what it says when there is nothing to show."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from signals import services
from signals.charts import group_by_scale
from signals.models import Signal, StrategyConfig
from signals.strategies.mean_reversion import MeanReversion
from tests.factories import make_user

HOUR = timedelta(hours=1)
START = datetime(2021, 5, 3, tzinfo=UTC)
PAGE = "/admin/signals/signal/chart/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin_client(client):
    """A browser in which an administrator is logged in."""
    client.force_login(make_user("root", is_superuser=True, is_staff=True))
    return client


@pytest.fixture
def generated(seeded, clock_at):
    """Signals of twenty bars."""
    clock_at(START + 20 * HOUR)
    services.run_due_bars(timeframe="1h")


def figure_of(answer) -> dict:
    """The figure in a page."""
    text = answer.content.decode()
    source = text.split('<script id="chart-figure" type="application/json">')[1]
    return json.loads(source.split("</script>")[0])


def shown(client, **query: str):
    answer = client.get(PAGE, query)
    assert answer.status_code == 200
    return answer


def test_the_chart_shows_candles_diagnostics_and_what_was_said(admin_client, generated):
    answer = shown(
        admin_client,
        strategy="mean_reversion",
        instrument="bitcoin",
        start="2021-05-02T00:00",
        end="2021-05-03T20:00",
    )
    traces = {trace["name"]: trace for trace in figure_of(answer)["data"]}
    assert {"bitcoin", "volume", "stop loss", "take profit", "wants long"} <= set(traces)
    assert {"rsi", "vix", "drawdown", "confidence"} <= set(traces)
    assert traces["bitcoin"]["type"] == "candlestick"
    assert len(traces["bitcoin"]["x"]) == 44
    assert traces["rsi"]["yaxis"] == traces["vix"]["yaxis"] != traces["drawdown"]["yaxis"]
    entry = Signal.objects.get(strategy="mean_reversion", direction=1)
    assert traces["said LONG"]["x"] == [f"{entry.bar_open_time:%Y-%m-%d %H:%M:%S}"]
    assert traces["said LONG"]["y"] == [entry.price]
    assert len(answer.context["signals"]) == 2


def test_the_consensus_shows_who_wanted_what(admin_client, generated):
    answer = shown(admin_client, instrument="bitcoin", start="2021-05-02T00:00")
    names = {trace["name"] for trace in figure_of(answer)["data"]}
    assert {"mean_reversion", "vix_correlation", "said LONG"} <= names
    assert answer.context["strategy"] == "consensus"


def test_many_bars_are_a_line(admin_client, generated):
    answer = shown(
        admin_client, strategy="mean_reversion", instrument="ethereum", start="2021-03-26T00:00"
    )
    kinds = {trace["name"]: trace["type"] for trace in figure_of(answer)["data"]}
    assert kinds["ethereum"] == "scatter"


def test_what_cannot_be_shown_is_said(admin_client, generated):
    expected = [
        ({"strategy": "crystal_ball"}, "unknown strategy"),
        ({"instrument": "dogcoin"}, "not offered to strategies"),
        ({"instrument": "<script>alert(1)</script>"}, "not offered to strategies"),
        ({"start": "2020-01-01T00:00", "end": "2020-01-02T00:00"}, "no 1h candle"),
        ({"start": "0001-01-01T00:00"}, "no market before"),
        ({"start": "2021-01-01T00:00"}, "at most 2160 bars"),
        ({"start": "2030-01-01T00:00"}, "no closed bar"),
        ({"start": "2021-05-03T10:00", "end": "2021-05-03T10:00"}, "no closed bar"),
        ({"start": "yesterday"}, "Enter a valid date/time"),
    ]
    for change, words in expected:
        query = {"strategy": "mean_reversion", "instrument": "bitcoin", **change}
        answer = shown(admin_client, **query)
        assert words in " ".join(answer.context["problems"]), change
        assert "figure" not in answer.context, change
        assert b"<script>alert" not in answer.content


def test_a_range_that_ends_in_the_future_ends_now(admin_client, generated):
    answer = shown(
        admin_client, strategy="mean_reversion", instrument="bitcoin", end="9999-12-31T23:59"
    )
    assert answer.context["end"] == "2021-05-03T19:00"


def test_a_strategy_that_raises_is_said(admin_client, generated, monkeypatch):
    def fail(self, market):
        raise ZeroDivisionError("a fault of its own")

    monkeypatch.setattr(MeanReversion, "analyze", fail)
    answer = shown(admin_client, strategy="mean_reversion", instrument="bitcoin")
    assert answer.context["problems"] == ["mean_reversion: ZeroDivisionError: a fault of its own"]


def test_an_empty_installation_has_a_page(admin_client):
    assert "No instrument is offered" in shown(admin_client).context["problems"][0]


def test_the_consensus_of_nobody_is_said(admin_client, generated):
    StrategyConfig.objects.update(is_enabled=False)
    answer = shown(admin_client, strategy="consensus", instrument="bitcoin")
    assert "no strategy of timeframe 1h is enabled" in answer.context["problems"]


def test_only_who_may_see_signals_sees_the_chart(client):
    assert client.get(PAGE).status_code == 302
    clerk = make_user("clerk", is_staff=True)
    client.force_login(clerk)
    assert client.get(PAGE).status_code == 403
    clerk.user_permissions.add(Permission.objects.get(codename="view_signal"))
    assert client.get(PAGE).status_code == 200


def test_the_lists_lead_to_the_chart(admin_client, generated):
    signals = admin_client.get(reverse("admin:signals_signal_changelist")).content.decode()
    assert f"{PAGE}?strategy=mean_reversion&amp;instrument=bitcoin&amp;start=2021-04-2" in signals
    strategies = admin_client.get(reverse("admin:signals_strategyconfig_changelist"))
    assert f"{PAGE}?strategy=vix_correlation" in strategies.content.decode()
    assert f'href="{PAGE}"' in admin_client.get("/admin/").content.decode()


def test_the_script_is_that_of_the_installed_package(client):
    answer = client.get("/static/plotly/plotly.min.js")
    assert answer.status_code == 200
    assert next(iter(answer.streaming_content)).startswith(b"/**\n* plotly.js")
    answer.close()
    assert client.get("/static/plotly/widgetbundle.js").status_code == 404


def test_diagnostics_stand_with_their_like():
    close = np.linspace(40.0, 60.0, 50)
    overlays, groups = group_by_scale(
        {
            "average": close * 1.02,
            "rsi": np.linspace(0.0, 100.0, 50),
            "correlation": np.linspace(-1.0, 1.0, 50),
            "share": np.full(50, 0.5),
            "return": np.full(50, -0.003),
            "nothing": np.full(50, np.nan),
        },
        close,
    )
    assert overlays == ["average"]
    assert groups == [["return"], ["correlation", "share", "nothing"], ["rsi"]]
