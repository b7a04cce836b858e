"""A total timeout that holds, and a cap on what an answer may weigh, over real sockets."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import requests

from collectors.transport import AnswerTooLarge, BoundedSession

TIMEOUT_S = 0.6
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
Script = Callable[[socket.socket], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Script], str]]:
    """Starts a server that plays a script on each connection, after the request came."""
    stopping = threading.Event()
    listeners: list[socket.socket] = []
    wires: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(script: Script) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def play(wire: socket.socket) -> None:
            wires.append(wire)
            with wire, contextlib.suppress(OSError):
                wire.settimeout(5)
                wire.recv(65536)
                script(wire)

        def accept() -> None:
            while not stopping.is_set():
                with contextlib.suppress(OSError):
                    play(listener.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        threads.append(thread)
        return f"http://127.0.0.1:{listener.getsockname()[1]}/x"

    yield start
    stopping.set()
    for each in (*listeners, *wires):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
    for listener in listeners:
        listener.close()
    for thread in threads:
        thread.join(timeout=8)


@pytest.fixture
def session() -> BoundedSession:
    return BoundedSession(
        headers={}, trust_env=False, connect_timeout_s=5, timeout_s=TIMEOUT_S, body_limit=100_000
    )


def silence(wire: socket.socket) -> None:
    """Waits until the client gives up."""
    wire.recv(1)


def trickle(before: bytes, piece: bytes) -> Script:
    """Sends `before` and then a piece every 50 ms, for far longer than the timeout."""

    def script(wire: socket.socket) -> None:
        wire.sendall(before)
        for _ in range(100):
            wire.sendall(piece)
            time.sleep(0.05)

    return script


@pytest.mark.parametrize(
    "script",
    [
        silence,
        trickle(b"HTTP/1.1 200 OK\r\nX: ", b"a"),
        trickle(HEAD, b"X-More: 1\r\n"),
        trickle(HEAD + b"Content-Length: 5000\r\n\r\n", b"1"),
        trickle(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n1\r\n"),
        trickle(HEAD + b"Connection: close\r\n\r\n", b"1"),
        trickle(HEAD + b"Connection: close\r\nContent-Length: 5000\r\n\r\n", b"1"),
    ],
    ids=["silence", "header", "headers", "length", "chunks", "no length", "closing"],
)
def test_the_total_timeout_holds(
    serve: Callable[[Script], str], session: BoundedSession, script: Script
) -> None:
    url = serve(script)
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(requests.Timeout):
            session.get(url, {})
        # Far less than the scripts take, and with room for a machine that is busy elsewhere.
        assert TIMEOUT_S * 0.9 <= time.monotonic() - started < TIMEOUT_S + 1.5


def test_a_connection_serves_again_after_its_answer(
    serve: Callable[[Script], str], session: BoundedSession
) -> None:
    body = b"[1]"

    def script(wire: socket.socket) -> None:
        for _ in range(3):
            wire.sendall(HEAD + b"Content-Length: 3\r\n\r\n" + body)
            wire.recv(65536)

    url = serve(script)
    for _ in range(3):
        answer = session.get(url, {"a": 1})
        assert (answer.status, answer.body) == (200, body)
        time.sleep(TIMEOUT_S / 2)


@pytest.mark.parametrize("said", [b"Content-Length: 200000\r\n", b"Connection: close\r\n"])
def test_a_body_over_the_cap_is_not_kept(
    serve: Callable[[Script], str], session: BoundedSession, said: bytes
) -> None:
    url = serve(lambda wire: wire.sendall(HEAD + said + b"\r\n" + b" " * 200_000))
    with pytest.raises(AnswerTooLarge):
        session.get(url, {})


def test_a_body_that_ends_early_is_no_answer(
    serve: Callable[[Script], str], session: BoundedSession
) -> None:
    url = serve(lambda wire: wire.sendall(HEAD + b"Content-Length: 10\r\n\r\n[1]"))
    with pytest.raises(requests.RequestException):
        session.get(url, {})


def test_what_is_no_http_is_no_answer(
    serve: Callable[[Script], str], session: BoundedSession
) -> None:
    url = serve(lambda wire: wire.sendall(b"\x00\xff hello\r\n\r\n"))
    with pytest.raises(requests.RequestException):
        session.get(url, {})
