"""An account of 100,000 fills in a year, and what it takes to report it."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

import numpy as np
from django.db.models import Model

from benchmarks.measures import Measure, in_turns
from collectors import clock
from collectors.marketdata import Candle
from collectors.models import Instrument
from collectors.services import store_market
from trading.models import (
    Account,
    EquityPoint,
    Fill,
    Order,
    OrderLeg,
    OrderStatus,
    Side,
    Trade,
)
from trading.reports.content import content_text, make_report
from trading.reports.page import render_page
from trading.services import create_account, write_report

START = datetime.fromisoformat("2024-01-01T00:00:00+00:00")
HOUR = timedelta(hours=1)
BARS, TRADES, INSTRUMENTS, CHUNK = 366 * 24, 50_000, 10, 5_000
RUNS = 3
MOST_S = 5.0
STRATEGIES = ("consensus", "momentum", "mean_reversion")
REASONS = ("signal", "stop_loss", "take_profit", "flip")


def measure_reports() -> list[Measure]:
    """The whole from the rows to both files, beside what is claimed."""
    account = fill_account()
    began = time.process_time()
    (whole,) = in_turns(RUNS, lambda: write_report(account_id=account.pk))
    computing = (time.process_time() - began) / RUNS
    written = write_report(account_id=account.pk)
    sizes = [path.stat().st_size / 1e6 for path in (written.json, written.html)]
    spent = {}
    began = time.perf_counter()
    report = make_report(account_id=account.pk)
    spent["rows, metrics"], began = time.perf_counter() - began, time.perf_counter()
    content_text(report.content())
    spent["JSON"], began = time.perf_counter() - began, time.perf_counter()
    render_page(report)
    spent["page"] = time.perf_counter() - began
    told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in spent.items())
    return [
        Measure(
            f"report of {2 * TRADES:,} fills",
            whole,
            MOST_S,
            "s",
            1.0,
            f"{computing:.1f} s of it on a core, the rest waits; {told};"
            f" {sizes[0]:.1f} MB of JSON, {sizes[1]:.1f} MB of HTML",
        )
    ]


def fill_account() -> Account:
    """An account with candles, orders, fills, trades and equity of a year, all random."""
    clock.configure(clock.MarketClock(start=START, anchor=clock.wall_now()))
    account = create_account(name="year", initial_capital=Decimal(100_000))
    clock.configure(clock.MarketClock(start=START + BARS * HOUR, anchor=clock.wall_now()))
    random = np.random.default_rng(7)
    instruments = [
        Instrument.objects.create(coin_id=f"coin-{number}", symbol=f"C{number}",
                                  name=f"Coin {number}", sector=f"sector {number % 4}")
        for number in range(INSTRUMENTS)
    ]  # fmt: skip
    prices = 100.0 * np.exp(np.cumsum(random.standard_normal((BARS, INSTRUMENTS)) * 0.006, axis=0))
    for number, instrument in enumerate(instruments):
        store_market(timeframe="1h", candles={instrument: candles_of(prices[:, number])})
    entered = np.sort(random.integers(0, BARS - 49, TRADES))
    held = random.integers(1, 48, TRADES)
    coins = random.integers(0, INSTRUMENTS, TRADES)
    sides = random.choice([-1, 1], TRADES)
    store_trades(account, instruments, prices, entered, held, coins, sides)
    equity = 100_000.0 * np.exp(np.cumsum(random.standard_normal(BARS) * 0.003))
    store(
        EquityPoint(
            account=account, at=START + (bar + 1) * HOUR, equity=money(worth), cash=money(worth),
            gross_exposure=money(worth * share),
        )
        for bar, (worth, share) in enumerate(
            zip(equity.tolist(), random.random(BARS).tolist(), strict=True)
        )
    )  # fmt: skip
    return account


def store_trades(
    account: Account, instruments: list[Instrument], prices: Any, entered: Any, held: Any,
    coins: Any, sides: Any,
) -> None:  # fmt: skip
    """Each with its two orders and fills, at the closes of its bars."""
    rows = [
        (instruments[coin], side, first, first + length, prices[first, coin],
         prices[first + length, coin])
        for coin, side, first, length in zip(
            coins.tolist(), sides.tolist(), entered.tolist(), held.tolist(), strict=True
        )
    ]  # fmt: skip
    fills = []
    for leg, end in ((OrderLeg.OPEN, 2), (OrderLeg.CLOSE, 3)):
        orders = store(
            Order(
                account=account, instrument=row[0], exchange="binance", symbol=row[0].symbol,
                leg=leg, side=Side.BUY if (row[1] > 0) is (leg == OrderLeg.OPEN) else Side.SELL,
                quantity_steps=1000, filled_steps=1000, tick_size="0.01", quantity_step="0.001",
                status=OrderStatus.FILLED, at=START + row[end] * HOUR,
            )
            for row in rows
        )  # fmt: skip
        fills = store(
            Fill(
                order=order, account=account, trigger="quote",
                price_ticks=round(row[end + 2] * 100), quantity_steps=1000, fee=money(0.04),
                realised_pnl=Decimal(0), slippage=money(0.01), slippage_bps=1.0, quote={},
                bar_open_time=order.at, at=order.at, recorded_at=order.at,
            )
            for order, row in zip(orders, rows, strict=True)
        )  # fmt: skip
    store(
        Trade(
            account=account, instrument=row[0], strategy=STRATEGIES[number % 3], direction=row[1],
            quantity="1.000", entry_price=row[4], exit_price=row[5],
            pnl=money(row[1] * (row[5] - row[4])), fees=money(0.08), slippage=money(0.02),
            funding=money(-0.001), entered_at=START + row[2] * HOUR, exited_at=fill.at,
            exit_reason=REASONS[number % 4], exit_fill=fill,
        )
        for number, (row, fill) in enumerate(zip(rows, fills, strict=True))
    )  # fmt: skip


def candles_of(closes: Any) -> list[Candle]:
    """Hourly candles that end at the closes."""
    return [
        Candle(open_time=START + bar * HOUR, open=close * 0.999, high=close * 1.004,
               low=close * 0.996, close=close, volume=10.0, source="binance")
        for bar, close in enumerate(closes.tolist())
    ]  # fmt: skip


def store(rows: Any) -> list[Any]:
    """The rows, written in chunks."""
    found, pending = [], iter(rows)
    while chunk := list(islice(pending, CHUNK)):
        kind: type[Model] = type(chunk[0])
        found += kind._default_manager.bulk_create(chunk)
    return found


def money(amount: float) -> Decimal:
    """An amount as the books have it."""
    return Decimal(f"{amount:.8f}")
