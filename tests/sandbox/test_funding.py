"""Funding: what the sockets announce is what REST has settled, at its own interval and speed."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest

from tests.sandbox.sockets import ask, collect, open_socket

HOUR_MS = 3_600_000
BINANCE, LINEAR = "/binance/market/stream?streams=", "/bybit/v5/public/linear"
HISTORY = "/binance/fapi/v1/fundingRate?symbol={0}&limit=100"
BYBIT_HISTORY = "/bybit/v5/market/funding/history?category=linear&symbol={0}&limit=100"


async def settled_by_binance(world: Any, symbol: str) -> dict[int, str]:
    """Rates by funding time."""
    rows = await ask(world, HISTORY.format(symbol))
    return {row["fundingTime"]: row["fundingRate"] for row in rows}


async def settled_by_bybit(world: Any, symbol: str) -> dict[int, str]:
    """Rates by funding time."""
    rows = (await ask(world, BYBIT_HISTORY.format(symbol)))["result"]["list"]
    return {int(row["fundingRateTimestamp"]): row["fundingRate"] for row in rows}


def merged(events: list[Any]) -> list[dict[str, str]]:
    """The whole ticker after each message, as a client that merges deltas has it."""
    state: dict[str, str] = {}
    states = []
    for event in events:
        if event.get("topic", "").startswith("tickers."):
            state = {**state, **event["data"], "ts": event["ts"]}
            states.append(state)
    return states


async def test_the_rate_rolls_over_before_the_funding_time(start: Any) -> None:
    world = start("--seed", "5", "--start", "2024-06-05T15:59:57")
    async with (
        open_socket(world, f"{BINANCE}btcusdt@markPrice@1s") as binance,
        open_socket(world, LINEAR) as bybit,
    ):
        await bybit.send('{"op":"subscribe","args":["tickers.BTCUSDT"]}')
        told, tickers = await asyncio.gather(collect(binance, 6), collect(bybit, 6))
    marks = [event["data"] for event in told]
    moment = min(mark["T"] for mark in marks)
    assert moment % (8 * HOUR_MS) == 0 and {mark["T"] for mark in marks} == {
        moment,
        moment + 8 * HOUR_MS,
    }
    settled = await settled_by_binance(world, "BTCUSDT")
    before = [mark for mark in marks if mark["E"] < moment]
    between = [mark for mark in marks if mark["E"] >= moment and mark["T"] == moment]
    after = [mark for mark in marks if mark["T"] > moment]
    assert before and between and after
    assert {mark["r"] for mark in before} == {settled[moment]}
    assert {mark["r"] for mark in between} == {mark["r"] for mark in after} != {settled[moment]}
    assert all(mark["E"] < moment + 1000 for mark in between)
    states = merged(tickers)
    changed = [event for event in tickers[1:] if "nextFundingTime" in event.get("data", {})]
    deltas = [event for event in changed if event["type"] == "delta"]
    assert len(deltas) == 1 and "fundingRate" in deltas[0]["data"]
    assert "fundingIntervalHour" not in deltas[0]["data"]
    assert states[0]["fundingIntervalHour"] == "8"
    rates = await settled_by_bybit(world, "BTCUSDT")
    early = {state["fundingRate"] for state in states if int(state["ts"]) < moment}
    assert early == {rates[moment]}
    assert all(int(state["nextFundingTime"]) > int(state["ts"]) for state in states)


async def test_every_rate_is_seen_before_its_settlement_at_speed(start: Any) -> None:
    world = start("--seed", "5", "--start", "2024-06-05T12:30:00", "--speed", "7200")
    async with (
        open_socket(world, f"{BINANCE}ethusdt@markPrice@1s") as binance,
        open_socket(world, LINEAR) as bybit,
    ):
        await bybit.send('{"op":"subscribe","args":["tickers.ETHUSDT"]}')
        told, tickers = await asyncio.gather(collect(binance, 14), collect(bybit, 14))
    settled = await settled_by_binance(world, "ETHUSDT")
    rates = await settled_by_bybit(world, "ETHUSDT")
    marks = [event["data"] for event in told]
    announced = {mark["T"]: mark["r"] for mark in marks if mark["E"] < mark["T"]}
    tickered = {
        int(state["nextFundingTime"]): state["fundingRate"]
        for state in merged(tickers)
        if int(state["ts"]) < int(state["nextFundingTime"])
    }
    for seen, known in ((announced, settled), (tickered, rates)):
        done = [moment for moment in seen if moment in known]
        assert len(done) >= 3
        assert all(later - earlier == 8 * HOUR_MS for earlier, later in pairwise(done))
        assert {moment: seen[moment] for moment in done} == {
            moment: known[moment] for moment in done
        }


async def test_an_interval_changes_from_the_next_settlement_on(start: Any) -> None:
    world = start("--seed", "5", "--start", "2024-06-05T14:00:00", "--speed", "7200")
    change = {"symbol": "SOLUSDT", "hours": 1}
    for exchange in ("binance", "bybit"):
        status, body, _ = world.call("/control/funding", "POST", {**change, "exchange": exchange})
        assert status == 200 and body["hours"] == 1
    after_ms = body["after_ms"]
    assert after_ms % (8 * HOUR_MS) == 0
    async with (
        open_socket(world, f"{BINANCE}solusdt@markPrice@1s") as binance,
        open_socket(world, LINEAR) as bybit,
    ):
        await bybit.send('{"op":"subscribe","args":["tickers.SOLUSDT"]}')
        told, tickers = await asyncio.gather(collect(binance, 4), collect(bybit, 4))
    for settled in (
        await settled_by_binance(world, "SOLUSDT"),
        await settled_by_bybit(world, "SOLUSDT"),
    ):
        times = sorted(settled)
        steps = {later: later - earlier for earlier, later in pairwise(times)}
        assert steps[after_ms] == 8 * HOUR_MS and times[-1] > after_ms
        assert {step for moment, step in steps.items() if moment > after_ms} == {HOUR_MS}
        assert {step for moment, step in steps.items() if moment <= after_ms} == {8 * HOUR_MS}
    late = [event["data"] for event in told if event["data"]["E"] > after_ms + 1000]
    assert late and all(0 < mark["T"] - mark["E"] <= HOUR_MS for mark in late)
    states = merged(tickers)
    assert states[-1]["fundingIntervalHour"] == "1"
    assert int(states[-1]["nextFundingTime"]) - int(states[-1]["ts"]) <= HOUR_MS
    rows = (await ask(world, "/bybit/v5/market/instruments-info?category=linear"))["result"]["list"]
    intervals = {row["symbol"]: row["fundingInterval"] for row in rows}
    assert intervals["SOLUSDT"] == 60 and intervals["BTCUSDT"] == 480
    info = await ask(world, "/binance/fapi/v1/fundingInfo")
    hours = {row["symbol"]: row["fundingIntervalHours"] for row in info}
    assert hours["SOLUSDT"] == 1 and hours["BTCUSDT"] == 8


@pytest.mark.parametrize(
    "wanted",
    [
        {"exchange": "binance", "symbol": "SOLUSDT", "hours": 5},
        {"exchange": "binance_spot", "symbol": "SOLUSDT", "hours": 1},
        {"exchange": "binance", "symbol": "NOPE", "hours": 1},
        {"exchange": "binance", "symbol": "SOLUSDT"},
        [],
    ],
)
def test_intervals_not_understood(calm_world: Any, wanted: object) -> None:
    status, body, _ = calm_world.call("/control/funding", "POST", wanted)
    assert status == 400 and body["error"]
    assert "hours" not in json.dumps(calm_world.get("/control/world"))
