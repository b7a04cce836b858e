"""The durable streams as a client of another make meets them: a real server, real sockets."""

import json
import socket
from datetime import timedelta

import pytest
from django.conf import settings
from django.test import Client
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from realtime.services import forget_old_events, publish_due_events
from tests.factories import make_alert, make_signal, make_user

pytestmark = pytest.mark.django_db(transaction=True)
WAIT_S = 30


def bearer(user) -> dict[str, str]:
    return {"Authorization": f"Bearer {AccessToken.for_user(user)}"}


def receive(stream: ClientConnection) -> dict:
    return json.loads(stream.recv(timeout=WAIT_S))


def close_code(stream: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            stream.recv(timeout=WAIT_S)
    return closed.value.rcvd.code


def publish(*keys: str) -> None:
    for key in keys:
        make_alert(key)
    publish_due_events()


def test_hello_then_events_as_they_are_numbered(web_process):
    headers = bearer(make_user())
    publish("before")
    with connect(f"{web_process.websocket_url}/alerts/", additional_headers=headers) as stream:
        assert receive(stream) == {"type": "hello", "topic": "alerts", "seq": 1}
        publish("live")
        event = receive(stream)
    assert (event["type"], event["seq"], event["prev"]) == ("alert", 2, 1)
    assert event["at"] == "2021-05-13T00:00:00Z"
    assert event["data"]["title"] == "live"


def test_a_client_that_comes_back_gets_exactly_what_it_missed(web_process):
    headers = bearer(make_user())
    url = f"{web_process.websocket_url}/alerts/"
    with connect(url, additional_headers=headers) as stream:
        receive(stream)
        publish("one", "two")
        cursor = [receive(stream)["seq"], receive(stream)["seq"]][-1]
    missed = [f"missed {number}" for number in range(1200)]
    make_signal()
    publish(*missed)
    with connect(f"{url}?cursor={cursor}", additional_headers=headers) as stream:
        receive(stream)
        replayed = [receive(stream) for _ in missed]
        publish("live again")
        replayed.append(receive(stream))
    assert [event["data"]["title"] for event in replayed] == [*missed, "live again"]
    seqs = [cursor, *(event["seq"] for event in replayed)]
    assert [event["prev"] for event in replayed] == seqs[:-1]


def test_topics_do_not_mix(web_process):
    headers = bearer(make_user())
    url = f"{web_process.websocket_url}/signals/?cursor=0"
    publish("an alert")
    make_signal()
    publish_due_events()
    with connect(url, additional_headers=headers) as stream:
        assert receive(stream)["type"] == "hello"
        event = receive(stream)
    assert (event["type"], event["prev"], event["data"]["asset"]) == ("signal", 0, "bitcoin")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}, {"Authorization": "x"}])
def test_without_a_login_the_close_code_says_so(web_process, headers):
    with connect(f"{web_process.websocket_url}/fills/", additional_headers=headers) as stream:
        assert close_code(stream) == 4401


def test_a_login_without_a_role_is_refused(web_process):
    headers = bearer(make_user(role=None))
    with connect(f"{web_process.websocket_url}/fills/", additional_headers=headers) as stream:
        assert close_code(stream) == 4403


def test_the_session_cookie_is_a_login(web_process):
    browser = Client()
    browser.force_login(make_user())
    cookie = f"{settings.SESSION_COOKIE_NAME}={browser.cookies['sessionid'].value}"
    origin = f"http://127.0.0.1:{web_process.port}"
    url = f"{web_process.websocket_url}/signals/"
    with connect(url, origin=origin, additional_headers={"Cookie": cookie}) as stream:
        assert receive(stream)["type"] == "hello"


def test_a_ticket_opens_one_stream_and_stays_out_of_the_log(web_process, api_client: APIClient):
    api_client.force_login(make_user())
    answer = api_client.post("/api/v1/ws-ticket/")
    assert (answer.status_code, answer.json()["expires_in"]) == (201, 30)
    ticket = answer.json()["ticket"]
    url = f"{web_process.websocket_url}/signals/?ticket={ticket}"
    with connect(url) as stream:
        assert receive(stream)["type"] == "hello"
    with connect(url) as stream:
        assert close_code(stream) == 4401
    assert ticket not in web_process.log.read_text()


def test_a_stream_ends_when_its_token_does(web_process):
    token = AccessToken.for_user(make_user())
    token.set_exp(lifetime=timedelta(seconds=2))
    headers = {"Authorization": f"Bearer {token}"}
    with connect(f"{web_process.websocket_url}/signals/", additional_headers=headers) as stream:
        assert receive(stream)["type"] == "hello"
        assert close_code(stream) == 4401


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://[broken", "http://127.0.0.1:1"]
)
def test_foreign_pages_do_not_get_a_socket(web_process, origin):
    headers = bearer(make_user())
    url = f"{web_process.websocket_url}/signals/"
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(url, origin=origin, additional_headers=headers),
    ):
        pass
    assert refused.value.response.status_code == 403


def test_an_address_that_does_not_exist_is_refused(web_process):
    url = f"{web_process.websocket_url}/nothing/"
    with pytest.raises(InvalidStatus), connect(url, additional_headers=bearer(make_user())):
        pass


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "9" * 30, "%C2%B2"])
def test_a_malformed_cursor_is_named_and_the_stream_closed(web_process, cursor):
    url = f"{web_process.websocket_url}/signals/?cursor={cursor}"
    with connect(url, additional_headers=bearer(make_user())) as stream:
        receive(stream)
        assert receive(stream)["code"] == "cursor_malformed"
        assert close_code(stream) == 4400


def test_a_cursor_that_was_never_given_out_is_refused(web_process):
    publish("one")
    url = f"{web_process.websocket_url}/alerts/?cursor=2"
    with connect(url, additional_headers=bearer(make_user())) as stream:
        receive(stream)
        assert receive(stream)["code"] == "cursor_ahead"


def test_a_cursor_before_what_is_kept_is_expired(web_process):
    publish("one", "two")
    forget_old_events(kept_for=timedelta(0))
    publish("three")
    headers = bearer(make_user())
    url = f"{web_process.websocket_url}/alerts/?cursor="
    with connect(f"{url}1", additional_headers=headers) as stream:
        receive(stream)
        error = receive(stream)
        assert (error["type"], error["code"], error["oldest"]) == ("error", "cursor_expired", 3)
        assert close_code(stream) == 4400
    with connect(f"{url}2", additional_headers=headers) as stream:
        receive(stream)
        assert receive(stream)["seq"] == 3


def test_a_client_that_does_not_read_delays_nobody(web_process):
    headers = bearer(make_user())
    for number in range(150):
        make_alert(str(number), payload={"filler": "x" * 20_000})
    publish_due_events()
    url = f"{web_process.websocket_url}/alerts/?cursor=0"
    with (
        # Nor does it hear the answer to its goodbye, which this test need not wait for.
        connect(url, additional_headers=headers, max_queue=1, close_timeout=0.1),
        connect(url, additional_headers=headers) as reader,
    ):
        receive(reader)
        assert [receive(reader)["seq"] for _ in range(150)] == list(range(1, 151))


def test_a_client_that_says_much_is_cut_off(web_process):
    headers = bearer(make_user())
    url = f"{web_process.websocket_url}/alerts/"
    with connect(url, additional_headers=headers) as stream:
        receive(stream)
        for rubbish in ("[" * 4_000, "NaN", '{"a": 1, "a": 2}'):
            stream.send(rubbish)
        publish("still")
        assert receive(stream)["data"]["title"] == "still"
        stream.send("x" * 5_000)
        assert close_code(stream) == 1009


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 100000000",
        "Content-Length: 99999999999999999999999999",
        "Transfer-Encoding: chunked",
    ],
)
def test_what_is_too_long_is_refused_before_it_has_arrived(web_process, head):
    request = f"POST /api/v1/signals/ingest/ HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n"
    address = ("127.0.0.1", web_process.port)
    with socket.create_connection(address, timeout=WAIT_S) as connection:
        connection.sendall(request.encode())
        if "chunked" in head:
            chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
            for _ in range(17):
                connection.sendall(chunk)
        answer = b""
        # What is still underway when the server closes resets the connection.
        while b"too_large" not in answer and (part := connection.recv(65_536)):
            answer += part
    assert answer.startswith(b"HTTP/1.1 4")
    if "9999999999999" not in head:  # of which the server itself may think that it is no number
        assert b" 413 " in answer.splitlines()[0]
        assert b'"too_large"' in answer
