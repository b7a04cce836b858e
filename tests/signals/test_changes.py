"""Changes of a strategy's settings: what is recorded of them, and where it is read."""

import pytest
from django.urls import reverse

from signals import services
from signals.codehash import code_hash
from signals.models import StrategyChange, StrategyConfig
from signals.parameters import ParameterError
from signals.registry import build_strategy
from signals.services.changes import changing
from tests.factories import make_instrument, make_user

pytestmark = pytest.mark.django_db

PAGE = "/api/v1/strategies/mean_reversion/"


@pytest.fixture
def certified(all_shipped):
    """The mean reversion with its certificate, not enabled, and no record of how it came to be."""
    StrategyConfig.objects.create(
        name="mean_reversion",
        assets=["bitcoin", "ethereum", "binancecoin"],
        certificate_hash=code_hash(build_strategy("mean_reversion")),
        certificate_detail={"is_passed": True},
    )


@pytest.fixture
def operator(api_client):
    """A client that the operator ada has logged in."""
    api_client.force_authenticate(make_user("ada", role="operator"))
    return api_client


def recorded() -> list[tuple[str, dict]]:
    return [(change.by, change.changes) for change in StrategyChange.objects.order_by("id")]


def test_a_change_over_http_is_recorded_with_who_made_it(operator, certified):
    make_instrument("bitcoin")
    body = {"weight": 2.0, "is_enabled": True, "assets": ["bitcoin"]}
    assert operator.patch(PAGE, body, format="json").status_code == 200
    assert recorded() == [
        (
            "ada",
            {
                "is_enabled": {"old": False, "new": True},
                "weight": {"old": 1.0, "new": 2.0},
                "assets": {"old": ["bitcoin", "ethereum", "binancecoin"], "new": ["bitcoin"]},
            },
        )
    ]
    listed = operator.get(f"{PAGE}changes/").json()["results"]
    assert [(change["by"], set(change["changes"])) for change in listed] == [
        ("ada", {"is_enabled", "weight", "assets"})
    ]


def test_parameters_are_recorded_as_they_were_and_are(operator, certified):
    # The preset's own value: its certificate is at hand.
    assert operator.patch(PAGE, {"parameters": {"hold_bars": 24}}, format="json").status_code == 200
    assert recorded() == [("ada", {"parameters": {"old": {}, "new": {"hold_bars": 24}}})]


def test_a_revoked_certificate_is_recorded_in_words(certified):
    with changing(name="mean_reversion", by="system") as config:
        before, config.certificate_hash = config.certificate_hash, ""
    ((_, changes),) = recorded()
    assert changes == {"certificate": {"old": f"passed {before[:12]}", "new": "revoked"}}


def test_what_changes_nothing_is_not_recorded(operator, certified):
    assert operator.patch(PAGE, {"weight": 1.0}, format="json").status_code == 200
    assert recorded() == []


def test_a_refused_change_is_not_recorded(certified):
    StrategyConfig.objects.update(
        certificate_hash="",
        certificate_detail={
            "code_hash": code_hash(build_strategy("mean_reversion")),
            "failed_check": "raised",
        },
    )
    with pytest.raises(services.StrategyNotCertified):
        services.configure_strategy(name="mean_reversion", weight=3.0, is_enabled=True)
    assert recorded() == []
    assert StrategyConfig.objects.get().weight == 1.0


def test_unknown_coins_are_named(operator, certified):
    make_instrument("bitcoin")
    answer = operator.patch(PAGE, {"assets": ["bitcoin", "dogcoin", "x"]}, format="json")
    assert answer.status_code == 400
    assert answer.json()["error"]["fields"] == {"assets": ["unknown: dogcoin, x"]}
    with pytest.raises(ParameterError):
        services.configure_strategy(name="mean_reversion", assets=["dogcoin"])


def test_a_certificate_is_asked_for_and_made_in_the_background(operator, certified):
    answer = operator.post(f"{PAGE}certify/")
    assert answer.status_code == 202
    assert answer["Location"] == PAGE
    assert answer.json()["is_certified"]
    assert answer.json()["pending"] == {"parameters": {}, "by": "ada"}
    assert operator.post("/api/v1/strategies/spam/certify/").status_code == 404


def test_who_may_only_read_changes_nothing(api_client, certified):
    api_client.force_authenticate(make_user("eve", role="viewer"))
    assert api_client.post(f"{PAGE}certify/").status_code == 403
    assert api_client.get(f"{PAGE}changes/").json()["results"] == []
    assert api_client.get(PAGE).json()["name"] == "mean_reversion"
    assert api_client.get("/api/v1/strategies/spam/").status_code == 404


def test_the_admin_shows_changes_and_lets_nobody_edit_them(client, certified):
    with changing(name="mean_reversion", by="ada") as config:
        config.parameters = {"hold_bars": 24}
    client.force_login(make_user("root", is_superuser=True, is_staff=True))
    page = client.get(reverse("admin:signals_strategychange_changelist"))
    assert b"hold_bars preset -&gt; 24" in page.content
    change = StrategyChange.objects.get()
    one = reverse("admin:signals_strategychange_change", args=[change.pk])
    assert client.get(one).status_code == 200
    assert client.post(one, {"by": "eve"}).status_code == 403
