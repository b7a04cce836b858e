"""One bounded HTTP GET: a total timeout that holds however slowly a server trickles, a cap on the
body, no redirects followed.

The timeouts of a socket are per read: a server that sends a byte now and then is never late. So a
watchdog cuts the socket when the whole time is over, be it while headers or body come.

    AnswerTooLarge    the body is over the cap; what was read of it is thrown away
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import requests
import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

CHUNK = 64 * 1024
CUT_AGAIN_S = 0.05


class AnswerTooLarge(Exception):
    """A body of over `limit` bytes (counted unpacked)."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"an answer of over {limit} bytes")


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BoundedSession:
    """A session with one server. Connections stay open; not to be shared by threads."""

    def __init__(
        self,
        *,
        headers: Mapping[str, str],
        trust_env: bool,
        connect_timeout_s: float,
        timeout_s: float,
        body_limit: int,
    ) -> None:
        self._wires = _Wires()
        self._timeouts = (min(connect_timeout_s, timeout_s), timeout_s)
        self._body_limit = body_limit
        self._session = requests.Session()
        self._session.headers.update(headers)
        self._session.trust_env = trust_env
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(self._wires))

    def get(self, url: str, params: Mapping[str, str | int]) -> Answer:
        """The answer to GET `url`. Raises requests.Timeout when it is not whole within the total
        timeout, other requests.RequestException or OSError when there is no connection or it
        breaks, AnswerTooLarge."""
        with self._watched() as is_over:
            try:
                answer = self._get(url, params)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError):
                if is_over():
                    raise self._late() from None
                raise
            if is_over():
                raise self._late()  # a body without a length ends where it is cut
        return answer

    def _get(self, url: str, params: Mapping[str, str | int]) -> Answer:
        with self._session.get(
            url, params=params, timeout=self._timeouts, allow_redirects=False, stream=True
        ) as response:
            chunks: list[bytes] = []
            size = 0
            for chunk in response.iter_content(CHUNK):
                size += len(chunk)
                if size > self._body_limit:
                    raise AnswerTooLarge(self._body_limit)
                chunks.append(chunk)
            return Answer(response.status_code, response.headers, b"".join(chunks))

    def _late(self) -> requests.Timeout:
        return requests.Timeout(f"no whole answer in {self._timeouts[1]} s")

    @contextlib.contextmanager
    def _watched(self) -> Iterator[Callable[[], bool]]:
        """Cut the connection once the total timeout is over; gives whether it is."""
        done, over = threading.Event(), threading.Event()

        def watch() -> None:
            if done.wait(self._timeouts[1]):
                return
            over.set()
            while True:  # a connection that is only being made has no socket yet
                self._wires.cut()
                if done.wait(CUT_AGAIN_S):
                    return

        watchdog = threading.Thread(target=watch, name="http-deadline", daemon=True)
        watchdog.start()
        try:
            yield over.is_set
        finally:
            done.set()
            watchdog.join()


class _Wires:
    """The newest connection and its socket, which outlives it when the server will close."""

    def __init__(self) -> None:
        self._connection: HTTPConnection | None = None
        self._socket: socket.socket | None = None

    def opening(self, connection: HTTPConnection) -> None:
        self._connection, self._socket = connection, None

    def opened(self, connection: HTTPConnection) -> None:
        self._socket = connection.sock

    def cut(self) -> None:
        wire = self._socket or (self._connection.sock if self._connection else None)
        if isinstance(wire, socket.socket):
            with contextlib.suppress(OSError):
                # Not the TLS socket's own method, which takes the cipher from under the reader.
                socket.socket.shutdown(wire, socket.SHUT_RDWR)


class _Watched:
    """A connection that tells where its socket is."""

    wires: ClassVar[_Wires]

    def connect(self: Any) -> None:
        self.wires.opening(self)
        super().connect()  # type: ignore[misc]
        self.wires.opened(self)


class _Adapter(requests.adapters.HTTPAdapter):
    """Makes its connections watched ones, through a proxy too."""

    def __init__(self, wires: _Wires) -> None:
        self._pools = _pools(wires)
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _pools(seen: _Wires) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    class Plain(_Watched, HTTPConnection):
        wires = seen

    class Secure(_Watched, HTTPSConnection):
        wires = seen

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
