"""The HTTP door of signals, through the addresses of the contract."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.urls import reverse

from signals import services
from signals.codehash import code_hash
from signals.models import Signal, StrategyConfig
from signals.registry import STRATEGIES, build_strategy

HOUR = timedelta(hours=1)
START = datetime(2021, 5, 3, tzinfo=UTC)
FIELDS = {
    "id", "strategy", "asset", "timeframe", "timestamp", "signal_type", "price", "confidence",
    "position_size", "stop_loss", "take_profit", "risk_level", "expires_at", "reasons",
    "outcome",
}  # fmt: skip

pytestmark = pytest.mark.django_db


def login(client, role: str) -> None:
    user = User.objects.create_user(role)
    user.groups.add(Group.objects.get_or_create(name=role)[0])
    client.force_authenticate(user)


@pytest.fixture
def operator(api_client):
    """A client that an operator has logged in."""
    login(api_client, "operator")
    return api_client


@pytest.fixture
def generated(seeded, clock_at):
    """Signals of twenty bars."""
    clock_at(START + 20 * HOUR)
    services.run_due_bars(timeframe="1h")


def test_signals_newest_first(operator, generated):
    answer = operator.get("/api/v1/signals/").json()
    assert set(answer) == {"next", "previous", "results"}
    results = answer["results"]
    assert len(results) == Signal.objects.count() == 4
    assert set(results[0]) == FIELDS
    assert [item["signal_type"] for item in results] == ["FLAT", "FLAT", "LONG", "LONG"]
    assert results[-1]["asset"] == "bitcoin"
    assert results[-1]["timestamp"].endswith("Z")


def test_signals_are_narrowed(operator, generated):
    expected = {
        "strategy=consensus": 2,
        "asset=bitcoin&signal_type=LONG": 2,
        "asset=ethereum": 0,
        "timeframe=4h": 0,
        "since=2021-05-04T00:00:00Z": 0,
        "until=2021-05-04T00:00:00Z": 4,
    }
    counts = {
        query: len(operator.get(f"/api/v1/signals/?{query}").json()["results"])
        for query in expected
    }
    assert counts == expected


def test_a_wrong_filter_has_the_one_error_shape(operator):
    answer = operator.get("/api/v1/signals/?signal_type=UP")
    assert answer.status_code == 400
    assert set(answer.json()["error"]["fields"]) == {"signal_type"}


def test_current_signals(operator, generated):
    results = operator.get("/api/v1/signals/current/?strategy=consensus").json()["results"]
    assert [(item["asset"], item["signal_type"]) for item in results] == [("bitcoin", "FLAT")]


def test_generate_answers_for_now_and_stores_nothing(operator, generated, clock_at):
    entry = Signal.objects.get(strategy="mean_reversion", direction=1)
    clock_at(entry.at + timedelta(minutes=10))
    before = Signal.objects.count()
    for strategy in ("mean_reversion", "consensus"):
        answer = operator.post(
            "/api/v1/signals/generate/",
            {"strategy_name": strategy, "symbols": ["BTC", "ethereum"], "timeframe": "1h"},
            format="json",
        ).json()
        assert set(answer) == {"signals", "timestamp", "metadata"}
        bitcoin, ethereum = answer["signals"]
        assert set(bitcoin) == FIELDS - {"id", "outcome"}
        assert (bitcoin["asset"], bitcoin["signal_type"]) == ("bitcoin", "LONG")
        assert bitcoin["stop_loss"] == entry.stop_loss
        assert ethereum["signal_type"] == "FLAT"
        assert answer["metadata"]["timeframe"] == "1h"
    assert Signal.objects.count() == before


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"strategy_name": "crystal_ball"}, "strategy_name"),
        ({"symbols": ["bitcoin", "dogcoin"]}, "symbols"),
        ({"symbols": []}, "symbols"),
        ({"timeframe": "2h"}, "timeframe"),
        ({"timeframe": "1d"}, "timeframe"),
        ({"strategy_name": "consensus", "timeframe": "1d"}, "strategy_name"),
    ],
)
def test_generate_refuses_what_it_does_not_know(operator, seeded, clock_at, change, field):
    clock_at(START + 20 * HOUR)
    body = {"strategy_name": "mean_reversion", "symbols": ["bitcoin"], **change}
    answer = operator.post("/api/v1/signals/generate/", body, format="json")
    assert answer.status_code == 400
    assert set(answer.json()["error"]["fields"]) == {field}


def test_roles(api_client):
    assert api_client.get("/api/v1/signals/").status_code in {401, 403}
    login(api_client, "viewer")
    assert api_client.get("/api/v1/signals/").status_code == 200
    assert api_client.get("/api/v1/strategies/").status_code == 200
    assert api_client.post("/api/v1/signals/generate/", {}).status_code == 403
    assert api_client.patch("/api/v1/strategies/mean_reversion/", {}).status_code == 403


def test_strategies_are_listed_with_their_parameters(operator, all_shipped):
    services.seed_strategies()
    listed = operator.get("/api/v1/strategies/").json()
    first = next(item for item in listed if item["name"] == "mean_reversion")
    assert {item["name"] for item in listed} == set(STRATEGIES)
    assert first["is_certified"]
    assert first["macro_series"] == ["VIXCLS"]
    assert first["parameter_rules"]["vix_threshold"]["unit"] == "index points"


def test_a_strategy_is_changed(operator, all_shipped):
    services.seed_strategies()
    answer = operator.patch(
        "/api/v1/strategies/mean_reversion/",
        {"parameters": {"hold_bars": 12}, "weight": 2.0, "is_enabled": True},
        format="json",
    )
    assert answer.status_code == 200, answer.content
    stored = StrategyConfig.objects.get(name="mean_reversion")
    assert (stored.parameters, stored.weight, stored.is_enabled) == ({"hold_bars": 12}, 2.0, True)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"parameters": {"hold_bars": 1000}}, "hold_bars"),
        ({"parameters": {"spam": 1}}, "spam"),
        ({"weight": -1}, "weight"),
        ({"is_enabled": True}, "is_enabled"),
    ],
)
def test_a_wrong_change_changes_nothing(operator, body, field):
    failed = {"code_hash": code_hash(build_strategy("mean_reversion")), "failed_check": "raised"}
    StrategyConfig.objects.create(name="mean_reversion", certificate_detail=failed)
    answer = operator.patch("/api/v1/strategies/mean_reversion/", body, format="json")
    assert answer.status_code == 400
    assert set(answer.json()["error"]["fields"]) == {field}
    stored = StrategyConfig.objects.get(name="mean_reversion")
    assert (stored.parameters, stored.weight, stored.is_enabled) == ({}, 1.0, False)


@pytest.mark.parametrize("body", ['{"parameters": {"\\ud800": 1}}', "[" * 100_000])
def test_a_body_that_no_answer_could_say_again_is_refused(operator, body):
    answer = operator.patch("/api/v1/strategies/x/", body, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "parse_error")


def test_an_unknown_strategy_is_not_found(operator):
    answer = operator.patch("/api/v1/strategies/spam/", {"weight": 1}, format="json")
    assert answer.status_code == 404


def test_generate_signals_command(seeded, clock_at, capsys):
    clock_at(START + 10 * HOUR)
    call_command("generate_signals", "--json")
    runs = json.loads(capsys.readouterr().out)
    assert len(runs) == 11
    assert sum(len(run["signals"]) for run in runs) == Signal.objects.count() > 0
    call_command("generate_signals")
    assert capsys.readouterr().out == "no 1h bar is due\n"


def test_every_admin_page_opens(client, generated):
    client.force_login(User.objects.create_superuser("root"))
    pages = [
        reverse(f"admin:signals_{model}_changelist")
        for model in ("signal", "barrun", "strategyconfig", "initialstate")
    ]
    pages += [
        reverse(f"admin:signals_{model._meta.model_name}_change", args=[model.objects.first().pk])
        for model in (Signal, StrategyConfig)
    ]
    assert {page: client.get(page).status_code for page in pages} == dict.fromkeys(pages, 200)


def test_the_admin_enables_only_what_is_certified(client, all_shipped):
    failed = {"code_hash": code_hash(build_strategy("mean_reversion")), "failed_check": "raised"}
    StrategyConfig.objects.create(name="mean_reversion", certificate_detail=failed)
    client.force_login(User.objects.create_superuser("root"))
    page = reverse("admin:signals_strategyconfig_changelist")
    chosen = StrategyConfig.objects.get()

    def act(action: str) -> None:
        client.post(page, {"action": action, "_selected_action": [chosen.pk]})
        chosen.refresh_from_db()

    act("enable")
    assert not chosen.is_enabled
    act("certify")
    assert chosen.pending == {"parameters": {}, "by": "root"}
    StrategyConfig.objects.update(pending={}, certificate_detail={})
    services.certify_due_strategies()
    act("enable")
    assert chosen.is_enabled
    act("disable")
    assert not chosen.is_enabled


def test_the_admin_refuses_the_weights_that_the_service_refuses(client):
    config = StrategyConfig.objects.create(name="mean_reversion")
    client.force_login(User.objects.create_superuser("root"))
    page = reverse("admin:signals_strategyconfig_change", args=[config.pk])
    for weight in ("-5", "0", "1000", "nan", "heavy"):
        answer = client.post(page, {"weight": weight})
        assert answer.status_code == 200, weight
        assert set(answer.context["adminform"].form.errors) == {"weight"}, weight
    config.refresh_from_db()
    assert config.weight == 1.0
    assert client.post(page, {"weight": "2.5"}).status_code == 302
    config.refresh_from_db()
    assert config.weight == 2.5


def test_the_admin_says_that_a_strategy_is_gone(client):
    config = StrategyConfig.objects.create(name="of_last_year")
    client.force_login(User.objects.create_superuser("root"))
    page = reverse("admin:signals_strategyconfig_change", args=[config.pk])
    answer = client.post(page, {"weight": "2"})
    assert answer.status_code == 200
    assert "unknown strategy" in str(answer.context["adminform"].form.errors)
