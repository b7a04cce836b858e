"""Staleness of the desk: above half, after a while, and over by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from risk.models import TradingStateChange
from risk.selectors import read_desk, state_in_force
from trading.models import Account
from trading.services import watch_staleness
from trading.staleness import HOLD, Standing, next_standing

WALL = datetime(2026, 1, 1, tzinfo=UTC)
COINS = ("bitcoin", "ethereum", "solana", "cardano")


def looks(*shares: tuple[int, int], every: timedelta = HOLD) -> list[bool]:
    """What the desk counts as after each look at (stale, total)."""
    standing, answers = Standing(False, None), []
    for number, (stale, total) in enumerate(shares):
        standing = next_standing(standing, stale=stale, total=total, wall=WALL + number * every)
        answers.append(standing.is_stale)
    return answers


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([(3, 4), (3, 4)], [False, True]),
        ([(2, 4)] * 4, [False] * 4),  # half is not more than half
        ([(0, 0)] * 3, [False] * 3),
        ([(3, 4), (2, 4), (3, 4)], [False, False, False]),  # not long enough at a time
        ([(3, 4), (3, 4), (2, 4), (2, 4)], [False, True, True, True]),  # half is not clearly less
        ([(3, 4), (3, 4), (1, 4), (3, 4), (1, 4), (1, 4)], [False, True, True, True, True, False]),
        ([(1, 1), (1, 1), (0, 1), (0, 1)], [False, True, True, False]),
    ],
)
def test_it_turns_only_when_it_lasts(shares: Any, expected: list[bool]) -> None:
    assert looks(*shares) == expected


def test_it_takes_its_time() -> None:
    assert looks(*[(4, 4)] * 4, every=timedelta(seconds=5)) == [False, False, False, True]


@pytest.mark.django_db
def test_old_prices_let_entries_wait_until_they_are_fresh(world: Any, account: Account) -> None:
    now = datetime.fromisoformat("2021-05-13T02:00:00+00:00")
    world.at(now)
    for coin_id in COINS:
        world.listed(coin_id)
        world.quote(coin_id, 100.0, 100.1)
    assert not watch_staleness(wall=WALL)
    assert read_desk().turning_since is None
    for coin_id in COINS[:3]:
        world.quote(coin_id, 100.0, 100.1, at=now - timedelta(minutes=1))
    assert not watch_staleness(wall=WALL)
    assert watch_staleness(wall=WALL + HOLD)
    in_force = state_in_force(profile=account.profile)
    assert (in_force.state, in_force.is_waiting) == ("reducing", True)
    desk = read_desk()
    assert desk.trading_state == "active"
    assert desk.staleness.startswith("3 of 4 instruments have no fresh price: bitcoin at binance")
    for coin_id in COINS:
        world.quote(coin_id, 100.0, 100.1)
    assert watch_staleness(wall=WALL + 2 * HOLD)
    assert not watch_staleness(wall=WALL + 3 * HOLD)
    assert state_in_force(profile=account.profile).may_enter
    rows = TradingStateChange.objects.order_by("id")
    assert list(rows.values_list("from_state", "to_state", "cause", "profile")) == [
        ("active", "reducing", "staleness", None),
        ("reducing", "active", "staleness", None),
    ]
    assert len(rows[0].details["stale"]) == 3


@pytest.mark.django_db
def test_only_what_is_traded_counts(world: Any, account: Account) -> None:
    fresh = world.listed("bitcoin")
    world.quote("bitcoin", 100.0, 100.1)
    for coin_id in COINS[1:]:
        instrument = world.listed(coin_id)
        instrument.is_strategy_enabled = False
        instrument.save()
    assert fresh.is_enabled
    assert not watch_staleness(wall=WALL)
    assert not watch_staleness(wall=WALL + HOLD)
