"""The web process's addresses: logins, roles, one shape of error, documentation, static files."""

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client, override_settings
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from mts_project.login import LoginThrottle, ensure_login, seed_roles
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def assert_error(answer, status: int, code: str) -> None:
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "fields"}
    assert error["code"] == code


def test_a_password_buys_tokens_that_open_the_api(api_client: APIClient):
    make_user("ada", password="secret")
    pair = api_client.post("/api/v1/token/", {"username": "ada", "password": "secret"}, "json")
    assert pair.status_code == 200
    renewed = api_client.post("/api/v1/token/refresh/", {"refresh": pair.json()["refresh"]}, "json")
    api_client.credentials(HTTP_AUTHORIZATION=f"Bearer {renewed.json()['access']}")
    assert api_client.get("/api/v1/alerts/").status_code == 200
    assert api_client.post("/api/v1/ws-ticket/").status_code == 201


def test_every_error_has_one_shape(api_client: APIClient):
    assert_error(api_client.get("/api/v1/alerts/"), 401, "not_authenticated")
    wrong = {"username": "ada", "password": "guess"}
    assert_error(api_client.post("/api/v1/token/", wrong, "json"), 401, "no_active_account")
    missing = api_client.post("/api/v1/token/", {"username": "ada"}, "json")
    assert_error(missing, 400, "invalid")
    assert "password" in missing.json()["error"]["fields"]
    stale = api_client.get("/api/v1/alerts/", headers={"Authorization": "Bearer nonsense"})
    assert_error(stale, 401, "token_not_valid")
    message = stale.json()["error"]["message"]
    assert message == "Given token not valid for any token type"
    broken = api_client.post("/api/v1/token/", "{", content_type="application/json")
    assert_error(broken, 400, "parse_error")
    assert_error(api_client.get("/api/v1/nothing/"), 404, "not_found")
    api_client.force_login(make_user())
    assert_error(api_client.put("/api/v1/alerts/"), 403, "permission_denied")
    api_client.force_login(make_user("op", role="operator"))
    assert_error(api_client.put("/api/v1/alerts/"), 405, "method_not_allowed")


def test_a_login_without_a_role_reads_nothing(api_client: APIClient):
    api_client.force_login(make_user(role=None))
    assert_error(api_client.get("/api/v1/alerts/"), 403, "permission_denied")


def test_a_fault_is_told_in_the_same_shape(monkeypatch):
    def fail(**_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("alerts.services.retry_delivery", fail)
    client = APIClient(raise_request_exception=False)
    client.force_login(make_user(role="operator"))
    assert_error(client.post("/api/v1/deliveries/1/retry/"), 500, "server_error")


def test_a_missing_page_outside_the_api_stays_a_page(client: Client):
    answer = client.get("/nothing/")
    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")


def test_the_root_leads_to_the_admin(client: Client):
    assert client.get("/").headers["Location"] == "/admin/"


def test_a_login_that_came_from_nowhere_leads_to_the_admin(client: Client):
    make_user("ada", password="secret", is_staff=True)
    answer = client.post("/admin/login/", {"username": "ada", "password": "secret"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")


def test_the_documentation_opens_with_a_login(client: Client):
    assert client.get("/api/v1/docs/").status_code in {401, 403}
    client.force_login(make_user())
    page = client.get("/api/v1/docs/")
    assert page.status_code == 200
    assert b"/static/drf_spectacular_sidecar/" in page.content
    schema = client.get("/api/v1/schema/")
    assert b"/api/v1/deliveries/{id}/retry/" in schema.content
    assert b"/api/v1/accounts/{account_id}/fills/" in schema.content


def test_the_schema_is_valid_and_describes_every_address(tmp_path):
    """A view that the schema cannot describe is a warning, and a warning fails."""
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "schema.yml"))


@override_settings(ALLOWED_HOSTS=["testserver"])
def test_static_files_are_served_without_a_collect_step(client: Client):
    answer = client.get("/static/unfold/css/styles.css")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/css")
    assert b"".join(answer.streaming_content)
    answer.close()


def test_ensured_logins_can_be_ensured_again(client: Client):
    seed_roles()
    ensure_login(username="demo", password="first", is_superuser=True)
    ensure_login(username="demo", password="second", role="trader", is_superuser=True)
    assert not client.login(username="demo", password="first")
    assert client.login(username="demo", password="second")
    assert client.get("/admin/").status_code == 200
    with pytest.raises(ValueError, match="king"):
        ensure_login(username="demo", password="x", role="king")


@pytest.mark.parametrize("path", ["/api/v1/token/", "/admin/login/"])
def test_guessing_passwords_is_slowed_down_whoever_one_claims_to_be(
    client: Client, monkeypatch, path: str
):
    monkeypatch.setattr(LoginThrottle, "rate", "2/min")
    cache.clear()
    guess = {"username": "ada", "password": "guess"}
    codes = [
        client.post(path, guess, headers={"X-Forwarded-For": f"192.0.2.{number}"}).status_code
        for number in range(4)
    ]
    cache.clear()
    assert codes[2:] == [429, 429]
    assert 429 not in codes[:2]


# Nothing is changed by these: tokens are made anew, and what a strategy says now is not stored.
CHANGE_NOTHING = {
    "/api/v1/token/", "/api/v1/token/refresh/", "/api/v1/ws-ticket/", "/api/v1/signals/generate/",
    "/api/v1/api-keys/",  # a secret is not kept to be told again
}  # fmt: skip


def test_every_write_takes_an_idempotency_key():
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    writes = {
        f"{method} {path}": {each["name"] for each in operation.get("parameters", ())}
        for path, methods in paths.items()
        for method, operation in methods.items()
        if method in {"post", "put", "patch", "delete"} and path not in CHANGE_NOTHING
    }
    assert len(writes) > 15
    assert [write for write, names in writes.items() if "Idempotency-Key" not in names] == []
