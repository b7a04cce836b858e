"""API keys: made once, no stronger than their scope and their owner, ended at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from collectors.keys import create_api_key
from collectors.models import ApiKey
from realtime.logins import Login, identify, role_of
from tests.factories import make_user

pytestmark = pytest.mark.django_db
KEYS = "/api/v1/api-keys/"


def with_key(text: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Api-Key {text}")
    return client


def test_a_key_is_told_once_and_works_until_it_is_revoked(api_client: APIClient) -> None:
    api_client.force_login(make_user("ada", role="operator"))
    made = api_client.post(KEYS, {"name": "laptop", "scope": "viewer"}, format="json")
    assert made.status_code == 201
    text, number = made.json()["key"], made.json()["id"]
    assert text not in str(ApiKey.objects.values().get())
    (listed,) = api_client.get(KEYS).json()["results"]
    assert (listed["prefix"], "key" in listed) == (text[:12], False)
    program = with_key(text)
    assert program.get("/api/v1/alerts/").status_code == 200
    assert ApiKey.objects.get().last_used_at is not None
    # It may no more than its scope, and no keys.
    assert program.post("/api/v1/deliveries/1/retry/").status_code == 403
    assert program.get(KEYS).status_code == 403
    again = api_client.post(KEYS, {"name": "laptop", "scope": "viewer"}, format="json")
    assert again.status_code == 400
    assert api_client.delete(f"{KEYS}{number}/").json()["revoked_at"] is not None
    answer = program.get("/api/v1/alerts/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "api_key_not_valid")


def test_a_key_is_no_stronger_than_its_owner(api_client: APIClient) -> None:
    owner = make_user("ada", role="trader")
    _, text = create_api_key(user=owner, name="bot", scope="operator")
    program = with_key(text)
    assert program.post("/api/v1/deliveries/1/retry/").status_code == 404
    owner.groups.clear()
    assert program.get("/api/v1/alerts/").status_code == 403
    owner.is_active = False
    owner.save()
    assert program.get("/api/v1/alerts/").status_code == 401
    api_client.force_login(make_user("eve", role="viewer"))
    for wish in ({"scope": "trader"}, {"scope": "ingest"}, {"scope": "root"}):
        assert api_client.post(KEYS, {"name": "x", **wish}, format="json").status_code == 400
    late = {"name": "x", "scope": "viewer", "expires_at": "2001-01-01T00:00:00Z"}
    assert api_client.post(KEYS, late, format="json").status_code == 400
    assert ApiKey.objects.count() == 1
    assert api_client.delete(f"{KEYS}{ApiKey.objects.get().pk}/").status_code == 404


def test_a_key_for_ingest_opens_that_door_alone() -> None:
    owner = make_user("ada", role="trader")
    _, text = create_api_key(user=owner, name="bot", scope="ingest")
    program = with_key(text)
    ingest = "/api/v1/signals/ingest/"
    refused = program.post(ingest, {"asset": "nosuch"}, format="json")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid")
    for address in (ingest, "/api/v1/accounts/", "/api/v1/signals/", "/api/v1/schema/"):
        assert program.get(address).status_code in {200, 403}
        if "schema" not in address:
            assert program.get(address).status_code == 403
    assert program.post("/api/v1/ws-ticket/").status_code == 403
    assert "components" not in program.get("/health/").json()
    _, reading = create_api_key(user=owner, name="reader", scope="operator")
    assert "components" in with_key(reading).get("/health/").json()
    assert with_key(reading).post(ingest, {"asset": "x"}, format="json").status_code == 403


def test_a_key_ends_with_its_time_and_listens_as_long() -> None:
    owner = make_user("ada", role="trader")
    soon = timezone.now() + timedelta(minutes=5)
    key, text = create_api_key(user=owner, name="bot", scope="viewer", expires_at=soon)
    scope = {"query_string": b"", "headers": [(b"authorization", f"Api-Key {text}".encode())]}
    login = identify(scope)
    assert login == Login(user_id=owner.pk, expires_at=soon.timestamp(), api_key_id=key.pk)
    assert role_of(login) == 1
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert role_of(login) < 0
    assert identify(scope) is None
    assert with_key(text).get("/api/v1/alerts/").status_code == 401


def test_the_admin_shows_a_key_once(client: Any) -> None:
    root = make_user("root", role=None, is_staff=True, is_superuser=True)
    client.force_login(root)
    page = reverse("admin:collectors_apikey_add")
    wish = {
        "user": root.pk,
        "name": "bot",
        "scope": "ingest",
        "expires_at_0": "",
        "expires_at_1": "",
    }
    told = client.post(page, wish, follow=True).content.decode()
    key = ApiKey.objects.get()
    assert key.prefix in told
    table = reverse("admin:collectors_apikey_changelist")
    assert "shown this once" not in client.get(table).content.decode()
    reader = make_user("reader", role="viewer")
    stronger = client.post(page, {**wish, "user": reader.pk, "name": "y"}).content.decode()
    assert "may not do what ingest may" in stronger
    over = {**wish, "name": "z", "expires_at_0": "2001-01-01", "expires_at_1": "00:00:00"}
    assert "is over" in client.post(page, over).content.decode()
    client.post(table, {"action": "revoke", "_selected_action": [key.pk]})
    assert ApiKey.objects.get().revoked_at is not None


def test_who_makes_a_key_for_another_makes_none_that_may_more_than_they(client: Any) -> None:
    owner = make_user("ada", role="trader")
    clerk = make_user("clerk", role="viewer", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="add_apikey"))
    client.force_login(clerk)
    page = reverse("admin:collectors_apikey_add")
    wish = {"user": owner.pk, "name": "bot", "expires_at_0": "", "expires_at_1": ""}
    for scope in ("trader", "operator", "ingest"):
        answer = client.post(page, {**wish, "scope": scope}).content.decode()
        assert f"clerk may not do what {scope} may" in answer
    assert not ApiKey.objects.exists()
    client.post(page, {**wish, "scope": "viewer"})
    assert ApiKey.objects.get().scope == "viewer"
