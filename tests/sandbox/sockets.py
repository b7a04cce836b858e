"""Reads the world's sockets and REST side as a client would."""

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

from websockets.asyncio.client import ClientConnection, connect


def open_socket(world: Any, path: str) -> connect:
    """A connection that takes whatever comes."""
    return connect(f"ws://127.0.0.1:{world.port}{path}", max_size=None, compression=None)


async def texts(socket: ClientConnection, seconds: float) -> list[str]:
    """All messages of the next seconds as they came."""
    found: list[str] = []
    try:
        async with asyncio.timeout(seconds):
            async for text in socket:
                found.append(str(text))
    except TimeoutError:
        pass
    return found


async def collect(socket: ClientConnection, seconds: float) -> list[Any]:
    """All messages of the next seconds."""
    return [json.loads(text) for text in await texts(socket, seconds)]


async def ask(world: Any, path: str) -> Any:
    """The JSON of a REST call beside the streams."""
    address = f"http://127.0.0.1:{world.port}{path}"
    return json.loads(await asyncio.to_thread(lambda: urllib.request.urlopen(address).read()))


def apply(side: dict[str, str], levels: list[list[str]]) -> int:
    """Apply a diff to one side; how many unknown levels it removed."""
    unknown = 0
    for price, size in levels:
        if float(size) == 0:
            unknown += side.pop(price, None) is None
        else:
            side[price] = size
    return unknown
