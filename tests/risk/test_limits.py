"""Limits as rows: seeded, read, changed within bounds, and every change kept."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import ValidationError
from django.urls import reverse
from rest_framework.test import APIClient

from risk.declarations import BY_NAME, DECLARATIONS, LIMIT_NAMES, limits_from, utilization
from risk.limits import Limits, Usage
from risk.models import RiskLimit, RiskLimitChange, RiskProfile
from risk.selectors import limits_of
from risk.services import change_limit, create_profile
from tests.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def profile(db: None) -> RiskProfile:
    return create_profile(name="paper", values={"max_position_size": 0.05})


def test_every_limit_is_declared_and_its_default_may_be_set() -> None:
    assert {*LIMIT_NAMES, "trading_state"} == set(Limits._fields)
    assert {each.usage for each in DECLARATIONS if each.usage} == set(Usage._fields)
    for declared in DECLARATIONS:
        assert declared.fault(declared.default) == "", declared.name
        assert declared.text, declared.name


def test_a_new_profile_has_a_row_for_every_limit(profile: RiskProfile) -> None:
    rows = dict(profile.limits.values_list("name", "value"))
    assert rows == {each.name: each.default for each in DECLARATIONS} | {"max_position_size": 0.05}
    assert limits_of(profile=profile) == limits_from({"max_position_size": 0.05})


@pytest.mark.parametrize("values", [{"max_position_size": 1.5}, {"nosuch": 1.0}])
def test_a_profile_is_not_made_with_a_wrong_limit(values: dict[str, float], db: None) -> None:
    with pytest.raises(ValidationError):
        create_profile(name="paper", values=values)
    assert (RiskProfile.objects.count(), RiskLimit.objects.count()) == (0, 0)


def test_what_has_no_row_is_at_its_default(profile: RiskProfile) -> None:
    RiskLimit.objects.all().delete()
    RiskLimit.objects.create(profile=profile, name="of_an_older_version", value=3.0)
    assert limits_of(profile=profile) == limits_from({})
    assert limits_of(profile=RiskProfile()) == limits_from({})


def test_a_change_holds_and_is_kept(profile: RiskProfile) -> None:
    change_limit(
        profile_id=profile.pk, name="max_open_positions", value=3, by="ada", reason=" calm down "
    )
    assert limits_of(profile=profile).max_open_positions == 3
    row = RiskLimit.objects.get(name="max_open_positions")
    assert (row.changed_by, row.changed_at is not None) == ("ada", True)
    change = RiskLimitChange.objects.get()
    assert (change.old_value, change.new_value) == (10.0, 3.0)
    assert (change.changed_by, change.reason, change.at) == ("ada", "calm down", row.changed_at)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_drawdown", 0.91),
        ("max_drawdown", 0.0),
        ("max_drawdown", float("nan")),
        ("max_drawdown", float("inf")),
        ("max_open_positions", 2.5),
        ("max_open_positions", 0),
        ("min_liquidity", -1.0),
        ("trading_state", 0),
        ("nosuch", 1.0),
    ],
)
def test_what_is_out_of_bounds_changes_nothing(
    profile: RiskProfile, name: str, value: float
) -> None:
    before = list(RiskLimit.objects.order_by("pk").values())
    with pytest.raises(ValidationError):
        change_limit(profile_id=profile.pk, name=name, value=value, by="ada", reason="why not")
    assert list(RiskLimit.objects.order_by("pk").values()) == before
    kept = RiskLimitChange.objects.get()
    assert (kept.name, kept.asked, kept.new_value) == (name, repr(value), None)
    assert kept.refusal
    assert (kept.changed_by, kept.reason) == ("ada", "why not")


def test_one_strategy_may_be_granted_its_own_stop(profile: RiskProfile) -> None:
    change_limit(profile_id=profile.pk, name="max_stop_distance", value=0.05)
    change_limit(profile_id=profile.pk, name="max_stop_distance", value=0.4, strategy="momentum")
    assert limits_of(profile=profile, strategy="momentum").max_stop_distance == 0.4
    assert limits_of(profile=profile, strategy="ether").max_stop_distance == 0.05
    assert limits_of(profile=profile).max_stop_distance == 0.05
    with pytest.raises(ValidationError, match="one of consensus, "):
        change_limit(profile_id=profile.pk, name="max_stop_distance", value=0.4, strategy="momentm")
    with pytest.raises(ValidationError, match="one for all"):
        change_limit(profile_id=profile.pk, name="max_drawdown", value=0.1, strategy="momentum")


@pytest.mark.parametrize(
    ("name", "value", "bound", "used"),
    [
        ("max_sector", 0.15, 0.30, 0.5),
        ("min_liquidity", 4e6, 1e6, 0.25),
        ("min_liquidity", 0.0, 1e6, None),
        ("min_liquidity", 0.0, 0.0, 0.0),
        ("max_correlation", float("nan"), 0.8, None),
    ],
)
def test_how_much_of_a_limit_is_used(
    name: str, value: float, bound: float, used: float | None
) -> None:
    assert utilization(name, value, bound) == used


def client_of(role: str) -> APIClient:
    client = APIClient()
    client.force_authenticate(make_user(role, role=role))
    return client


def test_limits_are_read_with_their_bounds_and_reasons(profile: RiskProfile) -> None:
    rows = client_of("viewer").get("/api/v1/risk/limits/").json()["results"]
    assert [row["name"] for row in rows] == list(LIMIT_NAMES)
    row = next(row for row in rows if row["name"] == "min_liquidity")
    assert (row["value"], row["low"], row["high"], row["side"]) == (1e6, 0.0, 1e12, "floor")
    assert row["profile"] == "paper"
    assert row["text"] == BY_NAME["min_liquidity"].text


def test_a_trader_changes_a_limit_and_says_why(profile: RiskProfile) -> None:
    address = "/api/v1/risk/limits/max_correlation/"
    body = {"value": 0.123456789012345, "reason": "all coins fall together"}
    assert client_of("operator").patch(address, body, format="json").status_code == 403
    answer = client_of("trader").patch(address, body, format="json")
    assert answer.json()["value"] == 0.123456789012345
    change = RiskLimitChange.objects.get()
    assert (change.changed_by, change.reason) == ("trader", "all coins fall together")
    assert limits_of(profile=profile).max_correlation == 0.123456789012345


@pytest.mark.parametrize("value", [1.01, -0.1, "NaN", "much", None, {}, 1e400])
def test_a_wrong_value_is_answered_by_field(profile: RiskProfile, value: Any) -> None:
    answer = client_of("trader").patch(
        "/api/v1/risk/limits/max_correlation/", {"value": str(value)}, format="json"
    )
    assert answer.status_code == 400
    assert "value" in answer.json()["error"]["fields"]
    assert all(change.refusal for change in RiskLimitChange.objects.all())
    assert limits_of(profile=profile).max_correlation == 0.80


def test_a_refused_change_is_kept_under_a_key_and_of_any_name(profile: RiskProfile) -> None:
    client = client_of("trader")
    address = "/api/v1/risk/limits/max_correlation/"
    key = {"Idempotency-Key": "k"}
    answers = [client.patch(address, {"value": 2.0}, format="json", headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert set(answers[1].json()["error"]["fields"]) == {"value"}
    assert RiskLimitChange.objects.get().refusal
    unknown = client.patch("/api/v1/risk/limits/a%00b/", {"value": 1.0}, format="json")
    assert unknown.status_code == 400
    assert RiskLimitChange.objects.first().name == "ab"  # type: ignore[union-attr]
    misspelt = client.patch(address, {"value": 0.5, "stratgy": "momentum"}, format="json")
    assert set(misspelt.json()["error"]["fields"]) == {"stratgy"}
    for kind, status in (("application/json", 400), ("text/plain", 415)):
        unread = client.patch(address, b'{"value": 1, "value": 0.5}', content_type=kind)
        assert unread.status_code == status
        assert RiskLimitChange.objects.first().refusal.startswith("body: ")  # type: ignore[union-attr]
    assert RiskLimitChange.objects.count() == 5
    assert limits_of(profile=profile).max_correlation == 0.80


def test_a_limit_of_a_strategy_that_is_gone_is_refused_on_its_page(
    client: Any, profile: RiskProfile
) -> None:
    client.force_login(make_user("root", role=None, is_staff=True, is_superuser=True))
    row = RiskLimit.objects.create(
        profile=profile, name="max_stop_distance", strategy="withdrawn", value=0.4
    )
    page = reverse("admin:risk_risklimit_change", args=[row.pk])
    assert (
        "one of consensus, "
        in client.post(page, {"value": "0.1", "reason": "less"}).content.decode()
    )
    row.refresh_from_db()
    assert row.value == 0.4


def test_the_admin_changes_a_limit_by_the_same_door(client: Any, profile: RiskProfile) -> None:
    client.force_login(make_user("root", role=None, is_staff=True, is_superuser=True))
    row = RiskLimit.objects.get(name="max_sector")
    page = reverse("admin:risk_risklimit_change", args=[row.pk])
    form = client.get(page).content.decode()
    assert BY_NAME["max_sector"].text in form
    # Without the site's own widget the field would have no edge to be seen by.
    assert re.search(r'<input[^>]*name="reason"[^>]*class="[^"]*border', form)
    wrong = client.post(page, {"value": "11", "reason": "more"})
    assert "from 0.0001 to 10" in wrong.content.decode()
    assert "This field is required" in client.post(page, {"value": "0.4"}).content.decode()
    refused = RiskLimitChange.objects.get()
    assert (refused.changed_by, refused.asked, refused.new_value) == ("root", "11.0", None)
    assert client.post(page, {"value": "0.4", "reason": "more"}).status_code == 302
    assert limits_of(profile=profile).max_sector == 0.4
    change = RiskLimitChange.objects.get(refusal="")
    assert (change.changed_by, change.old_value, change.reason) == ("root", 0.3, "more")
    for model in ("risklimit", "risklimitchange", "riskprofile"):
        assert client.get(reverse(f"admin:risk_{model}_changelist")).status_code == 200, model


def test_the_columns_of_a_profile_become_its_rows(db: None) -> None:
    """What the migration does, on values as they once stood in columns."""
    migration = import_module("risk.migrations.0002_limits_as_rows")

    class Old:
        class objects:
            @staticmethod
            def all() -> list[RiskProfile]:
                return [stored]

    stored = RiskProfile.objects.create(name="old")
    columns = {**migration.COLUMNS, "max_drawdown": 0.11, "max_open_positions": 4}
    for name, value in columns.items():
        setattr(stored, name, value)

    class Registry:
        def get_model(self, app: str, name: str) -> Any:
            return Old if name == "RiskProfile" else apps.get_model(app, name)

    migration.columns_to_rows(Registry(), None)
    assert limits_of(profile=stored) == limits_from({"max_drawdown": 0.11, "max_open_positions": 4})
    assert stored.limits.count() == len(DECLARATIONS)
