"""Faults of calls beyond the plain ones: a ban, a geographic block, snapshots that are too old."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import websockets

from tests.sandbox.sockets import ask, collect, open_socket

FAPI, MARKET = "/binance/fapi/v1", "/bybit/v5/market"
Faults = Callable[[object], None]


def test_a_ban_says_when_it_ends_and_counts_who_calls_all_the_same(
    start: Callable[..., Any],
) -> None:
    world = start("--seed", "5")
    world.faults({"binance": {"ban": {"seconds": 2}}})
    before_ms = world.get("/control/world")["market_time_ms"]
    status, body, headers = world.call(f"{FAPI}/time")
    assert (status, body["code"], headers["Retry-After"]) == (418, -1003, "2")
    found = re.search(r"banned until (\d{13})", body["msg"])
    assert found and abs(int(found[1]) - before_ms - 2000) < 500
    assert world.get("/control/requests")["binance"]["limit_violations"] == 0
    assert world.call(f"{FAPI}/time")[0] == 418
    assert world.get("/control/requests")["binance"]["limit_violations"] == 1
    assert world.call("/binance/api/v3/time")[0] == 200
    time.sleep(2)
    assert world.call(f"{FAPI}/time")[0] == 200
    assert world.get("/control/requests")["binance"]["limit_violations"] == 1
    assert world.get("/control/faults") == {}


async def test_a_geographic_block_refuses_calls_and_sockets(
    calm_world: Any, faults: Faults
) -> None:
    faults({"binance": {"geo_block": True}, "bybit_spot": {"geo_block": True}})
    status, body, _ = calm_world.call(f"{FAPI}/time")
    assert status == 451 and "restricted location" in body["msg"]
    for path in ("/binance/ws", "/bybit/v5/public/spot"):
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            async with open_socket(calm_world, path):
                pass
        assert refused.value.response.status_code == 451
    async with open_socket(calm_world, "/bybit/v5/public/linear"):
        pass


@pytest.mark.parametrize(
    ("provider", "rest", "socket"),
    [
        ("binance", FAPI, "/binance/stream"),
        ("binance_spot", "/binance/api/v3", "/binance/spot/stream"),
    ],
)
async def test_a_stale_snapshot_lies_before_the_stream(
    calm_world: Any, faults: Faults, provider: str, rest: str, socket: str
) -> None:
    path = f"{rest}/depth?symbol=TAOUSDT&limit=100"
    async with open_socket(calm_world, f"{socket}?streams=taousdt@depth@100ms") as stream:
        first = (await collect(stream, 0.5))[0]["data"]
        faults({provider: {"stale_snapshot": {"next": 2}}})
        assert calm_world.call(f"{rest}/ticker/24hr?symbol=TAOUSDT")[0] == 200
        for _ in range(2):
            assert (await ask(calm_world, path))["lastUpdateId"] < first["U"] - 1
        assert (await ask(calm_world, path))["lastUpdateId"] >= first["U"]


def test_a_stale_snapshot_of_bybit(calm_world: Any, faults: Faults) -> None:
    path = f"{MARKET}/orderbook?category=linear&symbol=TAOUSDT"
    before = calm_world.get(path)["result"]["seq"]
    faults({"bybit": {"stale_snapshot": {"next": 1}}})
    assert calm_world.get(path)["result"]["seq"] < before < calm_world.get(path)["result"]["seq"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"fred": {"ban": True}},
        {"bybit": {"ban": True}},
        {"coingecko": {"ws_restart": True}},
        {"binance": {"delisted": True}},
        {"binance": {"ban": {"seconds": -1}}},
        {"binance": {"ws_late": {"seconds": "soon"}}},
    ],
)
def test_faults_that_mean_nothing_at_a_provider(
    calm_world: Any, faults: Faults, wanted: object
) -> None:
    status, body, _ = calm_world.call("/control/faults", "POST", wanted)
    assert status == 400 and body["error"]
    assert calm_world.get("/control/faults") == {}
