"""Alerts and deliveries over HTTP."""

import pytest
from rest_framework.test import APIClient

from alerts.models import Delivery, DeliveryState
from tests.factories import make_alert, make_user

pytestmark = pytest.mark.django_db


def test_alerts_are_listed_newest_first_with_their_body(api_client: APIClient):
    api_client.force_login(make_user())
    make_alert("old")
    newest = make_alert("new", kind="risk")
    answer = api_client.get("/api/v1/alerts/").json()
    assert [alert["title"] for alert in answer["results"]] == ["new", "old"]
    assert answer["results"][0]["payload"] == {"id": newest.pk, "asset": "bitcoin"}
    only = api_client.get("/api/v1/alerts/?kind=risk").json()
    assert [alert["id"] for alert in only["results"]] == [newest.pk]


def test_an_operator_retries_a_failed_delivery(api_client: APIClient):
    delivery = Delivery.objects.create(
        alert=make_alert("one"), transport="file", state=DeliveryState.FAILED
    )
    url = f"/api/v1/deliveries/{delivery.pk}/retry/"
    api_client.force_login(make_user("viewer"))
    assert api_client.post(url).status_code == 403
    api_client.force_login(make_user("operator", role="operator"))
    answer = api_client.post(url)
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    again = api_client.post(url)
    assert (again.status_code, again.json()["error"]["code"]) == (400, "invalid")
    assert api_client.post("/api/v1/deliveries/0/retry/").json()["error"]["code"] == "not_found"
    assert len(api_client.get("/api/v1/deliveries/?state=pending").json()["results"]) == 1


def test_with_a_key_a_delivery_is_retried_once(api_client: APIClient):
    delivery = Delivery.objects.create(
        alert=make_alert("one"), transport="file", state=DeliveryState.FAILED
    )
    api_client.force_login(make_user("operator", role="operator"))
    url, key = f"/api/v1/deliveries/{delivery.pk}/retry/", {"Idempotency-Key": "k"}
    first, again = (api_client.post(url, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replay"] == "true"
    other = api_client.post("/api/v1/deliveries/0/retry/", headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
