"""A client of the conflated streams: its login, what it is sent, and why it is cut off."""

import json
import time
from typing import Any

import pytest
from rest_framework_simplejwt.tokens import AccessToken
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.factories import make_user

WAIT_S = 10


def bearer(**user: Any) -> dict[str, str]:
    name = f"user{time.monotonic_ns()}"
    return {"Authorization": f"Bearer {AccessToken.for_user(make_user(name, **user))}"}


def receive(stream: ClientConnection) -> dict[str, Any]:
    return json.loads(stream.recv(timeout=WAIT_S))


def close_code(stream: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            stream.recv(timeout=WAIT_S)
    return closed.value.rcvd.code
