"""Books over REST, asked for beside the event loop."""

import asyncio
import socket
import threading
from typing import Any

import pytest

from collectors.services.snapshots import Snapshots
from tests.collectors.toy_venue import until


def askers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("snapshots-")]


@pytest.mark.django_db(transaction=True)
async def test_a_call_that_takes_long_holds_up_no_end(settings: Any) -> None:
    """Neither the loop nor the interpreter waits for the thread, and what nobody waits for any
    more is not asked."""
    settings.REQUEST_TIMEOUT, settings.RETRY_PAUSE_S = 0.5, 0.01
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        settings.PROVIDER_URLS = settings.PROVIDER_URLS | {"BINANCE_REST_URL": url}
        snapshots = Snapshots()
        asked = [asyncio.create_task(snapshots.fetch("binance", name)) for name in ("A", "B")]
        accepted, _ = await asyncio.to_thread(deaf.accept)
        with accepted:
            (asker,) = askers()
            for task in asked:
                task.cancel()
            async with asyncio.timeout(0.2):
                await asyncio.gather(*asked, return_exceptions=True)
                snapshots.close()
            assert asker.is_alive() and asker.daemon
            await until(lambda: not asker.is_alive(), timeout_s=8)
