"""Several workers on the same bar runs at once: every signal fills once, on both databases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from risk.models import RiskDecision, TradingState
from risk.selectors import read_desk, state_in_force
from trading.models import Account, EquityPoint, Fill, Order, Trade
from trading.services import (
    advance_account,
    create_account,
    locked_account,
    reconcile,
    set_desk_state,
    set_trading_state,
)

PROJECT = Path(__file__).resolve().parents[2]
START = datetime.fromisoformat("2021-05-13T00:00:00+00:00")
HOUR = timedelta(hours=1)
COINS = ("bitcoin", "ethereum", "solana", "cardano", "polkadot", "dogecoin")
WORKERS = 6


def prepare(world: Any, hours: int) -> None:
    """Each coin turns around at every bar, so each bar closes and opens all of them."""
    for hour in range(hours):
        for coin_id in COINS:
            world.candle(coin_id, START + hour * HOUR, (100.0, 100.5, 99.5, 100.0))
            world.signal(coin_id, 1 if hour % 2 else -1, START + hour * HOUR)
        world.run(START + hour * HOUR)
    world.at(START + hours * HOUR)
    for coin_id in COINS:
        world.quote(coin_id, 100.0, 100.1)


def advance_in_threads(account_id: int) -> list[BaseException]:
    failures: list[BaseException] = []
    barrier = threading.Barrier(WORKERS)

    def work() -> None:
        try:
            barrier.wait()
            advance_account(account_id=account_id)
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


@pytest.mark.django_db(transaction=True)
def test_threads_on_postgresql_fill_each_signal_once(world: Any, account: Account) -> None:
    prepare(world, 2)
    assert advance_in_threads(account.pk) == []
    assert reconcile(account_id=account.pk).mismatches == ()
    legs = list(Order.objects.exclude(signal=None).values_list("signal_id", "leg"))
    assert len(legs) == len(set(legs))
    assert EquityPoint.objects.count() == 2
    assert RiskDecision.objects.filter(is_approved=True).count() == 2 * len(COINS)
    assert Fill.objects.count() == 3 * len(COINS)
    assert Trade.objects.count() == len(COINS)
    assert Account.objects.get().processed_bar == START + HOUR


@pytest.mark.django_db(transaction=True)
def test_no_opening_commits_after_the_switch_answered(world: Any, account: Account) -> None:
    prepare(world, 1)
    worker = threading.Thread(target=advance_in_threads, args=[account.pk])
    worker.start()
    set_trading_state(account_id=account.pk, state=TradingState.HALTED, reason="test", by="ada")
    opened = Order.objects.filter(leg="open").count()
    worker.join()
    assert Order.objects.filter(leg="open").count() == opened
    assert RiskDecision.objects.count() == len(COINS)
    assert reconcile(account_id=account.pk).mismatches == ()


SET_UP = """
import django; django.setup()
from datetime import timedelta
from decimal import Decimal
import redis
from django.conf import settings
from tests.trading.conftest import START, World
from trading.services import create_account
world = World(redis=redis.Redis.from_url(settings.REDIS_URL))
world.at(START + timedelta(minutes=30))
create_account(name="paper", initial_capital=Decimal(10_000))
for coin_id in {coins!r}:
    world.signal(coin_id, 1, START)
    world.run(START)
    world.at(START + timedelta(hours=1))
    world.quote(coin_id, 100.0, 100.1)
"""
WORK = """
import django; django.setup()
from datetime import timedelta
from tests.trading.conftest import START, World
World(redis=None).at(START + timedelta(hours=1, seconds=3))
import sys
print("ready", flush=True); sys.stdin.readline()
from trading.services import advance_account
advance_account(account_id=1)
"""
COUNT = """
import django; django.setup()
import json
from trading.models import Fill, LedgerEntry, Order
from trading.services import reconcile
print(json.dumps([Fill.objects.count(), LedgerEntry.objects.count(),
                  list(reconcile(account_id=1).mismatches)]))
"""


@pytest.mark.long(12)
def test_processes_on_sqlite_fill_each_signal_once(sqlite_folder: Path, redis_client: Any) -> None:
    environment = {
        **os.environ,
        "DATABASE_URL": "",
        "MTS_DATA_DIR": str(sqlite_folder),
        "DJANGO_SETTINGS_MODULE": "mts_project.settings",
        "PYTHONPATH": str(PROJECT),
    }

    def start(code: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    _, errors = (made := start(SET_UP.format(coins=COINS))).communicate()
    assert made.returncode == 0, errors
    workers = [start(WORK) for _ in range(3)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        _, errors = worker.communicate()
        assert worker.returncode == 0, errors
    output, errors = start(COUNT).communicate()
    assert json.loads(output) == [len(COINS), 2 * len(COINS) + 2, []], errors


@pytest.mark.django_db(transaction=True)
def test_two_accounts_trade_the_same_signals_apart(world: Any, account: Account) -> None:
    world.at(START + timedelta(minutes=30))
    other = create_account(name="second", initial_capital=Decimal(500))
    prepare(world, 1)
    for pk in (account.pk, other.pk):
        assert advance_in_threads(pk) == []
        assert reconcile(account_id=pk).mismatches == ()
    assert Fill.objects.filter(account=account).count() == len(COINS)
    # 1.5% of 500 is below the smallest order.
    assert not Fill.objects.filter(account=other).exists()
    assert not Trade.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_desks_switch_holds_for_all_workers_once_it_answered(
    world: Any, account: Account
) -> None:
    world.at(START + timedelta(minutes=30))
    accounts = [account.pk] + [
        create_account(name=f"more {number}", initial_capital=Decimal(10_000)).pk
        for number in range(2)
    ]
    coins = [f"coin-{number}" for number in range(12)]
    for coin_id in coins:
        world.candle(coin_id, START, (100.0, 100.5, 99.5, 100.0))
        world.signal(coin_id, 1, START)
    world.run(START)
    world.at(START + HOUR)
    for coin_id in coins:
        world.quote(coin_id, 100.0, 100.1)
    workers = [threading.Thread(target=advance_in_threads, args=[pk]) for pk in accounts]
    for worker in workers:
        worker.start()
    while not Fill.objects.exists():
        time.sleep(0.01)
    asked = time.perf_counter()
    set_desk_state(state=TradingState.HALTED, reason="test", by="ada")
    seconds = time.perf_counter() - asked
    opened = Order.objects.filter(leg="open").count()
    for worker in workers:
        worker.join()
    assert Order.objects.filter(leg="open").count() == opened < 3 * len(coins)
    halted = RiskDecision.objects.filter(rejection_reason="trading_halted").count()
    assert halted == 3 * len(coins) - opened
    assert seconds < 1.0
    for pk in accounts:
        assert reconcile(account_id=pk).mismatches == ()


@pytest.mark.django_db(transaction=True)
def test_the_desks_switch_waits_for_who_looked_before(world: Any, account: Account) -> None:
    at_work, let_go, answered = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        with locked_account(account.pk) as current:
            assert state_in_force(profile=current.profile).may_enter
            at_work.set()
            let_go.wait(10)
        connection.close()

    def throw() -> None:
        set_desk_state(state=TradingState.HALTED, reason="test", by="ada")
        answered.set()
        connection.close()

    threads = [threading.Thread(target=work), threading.Thread(target=throw)]
    threads[0].start()
    assert at_work.wait(10)
    threads[1].start()
    assert not answered.wait(0.5)
    assert read_desk().trading_state == TradingState.HALTED  # for everybody who looks now
    let_go.set()
    for thread in threads:
        thread.join()
    assert answered.is_set()
