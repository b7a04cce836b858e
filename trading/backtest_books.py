"""The books that a backtest keeps: what is held, what was paid, and the trades that are over. Pure.

A funding settlement counts for what was held at its moment, with the fills of that moment's bar but
not those of the signals at its close, which come a little later; and it is booked after the mark of
that close. So it is in the paper account, which learns of a settlement when it has happened.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from risk.portfolio import Record
from trading.accounting import PRICE_PARTS, RATE_PARTS, count_of, funding_cash
from trading.holdings import Holding
from trading.orders import MONEY_UNITS, Execution, OrderRequest, execute
from trading.performance import RoundTrip
from trading.tape import Settlement, Tape


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How an open position came about; money in units."""

    time: int
    price: float
    fee: int


@dataclass(kw_only=True)
class Books:
    """The state of the run between bars. Money in units."""

    cash: int
    high_water_mark: int
    day_start_equity: int
    day: int
    holdings: dict[str, Holding] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    stopped: dict[str, int] = field(default_factory=dict)
    pending_closes: dict[str, str] = field(default_factory=dict)  # the reason, by coin id
    trades: list[RoundTrip] = field(default_factory=list)
    equity: list[int] = field(default_factory=list)
    exposure: list[int] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    fees: int = 0
    funding: int = 0  # received; negative: paid
    fill_count: int = 0
    wins: int = 0
    won: int = 0
    lost: int = 0
    round_funding: dict[str, int] = field(default_factory=dict)  # of what is held, by coin id
    nets: list[int] = field(default_factory=list)  # of the trades
    trade_funding: list[int] = field(default_factory=list)
    last_trades: dict[str, int] = field(default_factory=dict)  # places, by coin id

    def record(self) -> Record:
        """How the closed trades ended, after fees and funding."""
        return Record(
            trades=len(self.trades),
            wins=self.wins,
            won=self.won / MONEY_UNITS,
            lost=self.lost / MONEY_UNITS,
        )

    def count(self, net: int, times: int = 1) -> None:
        """Take a trade that brought `net` into the record, or (-1) out of it."""
        if net > 0:
            self.wins += times
            self.won += times * net
        else:
            self.lost -= times * net


class Owed(NamedTuple):
    """What a settlement brings (negative: costs), and the round trip that it is of."""

    coin_id: str
    entry: Entry
    amount: int


def book(books: Books, execution: Execution) -> None:
    """The money of a fill."""
    books.cash += execution.realised - execution.fee
    books.fees += execution.fee
    books.fill_count += 1


def close_holding(
    books: Books,
    holding: Holding,
    *,
    strategy: str,
    ticks: int,
    fee_ppm: int,
    time: int,
    reason: str,
) -> None:
    """Close all that is held at a price of `ticks`, which ends a trade. Raises AmountError."""
    coin_id = holding.coin_id
    execution = execute(
        OrderRequest(side=-holding.direction, steps=abs(holding.quantity)),
        quantity=holding.quantity,
        total_cost=holding.total_cost,
        ticks=ticks,
        grid=holding.grid,
        fee_ppm=fee_ppm,
    )
    book(books, execution)
    del books.holdings[coin_id]
    entry = books.entries.pop(coin_id)
    funding = books.round_funding.pop(coin_id, 0)
    net = execution.realised - entry.fee - execution.fee + funding
    books.count(net)
    books.nets.append(net)
    books.trade_funding.append(funding)
    books.last_trades[coin_id] = len(books.trades)
    books.trades.append(
        RoundTrip(
            instrument=coin_id,
            strategy=strategy,
            direction=holding.direction,
            quantity=holding.grid.quantity(abs(holding.quantity)),
            entry_price=entry.price,
            exit_price=holding.grid.price(ticks),
            pnl=execution.realised / MONEY_UNITS,
            fees=(entry.fee + execution.fee) / MONEY_UNITS,
            funding=funding / MONEY_UNITS,
            entered_at=entry.time,
            exited_at=time,
            exit_reason=reason,
        )
    )


def settlements_by_bar(tape: Tape) -> Mapping[int, Sequence[tuple[int, Settlement]]]:
    """The settlements after the first open as (column, settlement), by the bar within which, or at
    whose close, they happened; oldest first."""
    found: dict[int, list[tuple[int, Settlement]]] = {}
    if not len(tape.open_time):
        return found
    for column, coin_id in enumerate(tape.instruments):
        for settlement in tape.funding.get(coin_id, ()):
            bar = int(np.searchsorted(tape.close_time, settlement.time))
            if settlement.time > tape.open_time[0] and bar < len(tape.close_time):
                found.setdefault(bar, []).append((column, settlement))
    for rows in found.values():
        rows.sort(key=lambda row: (row[1].time, row[0]))
    return found


def owed_for(
    tape: Tape, books: Books, settlements: Iterable[tuple[int, Settlement]], bar: int
) -> list[Owed]:
    """What settlements bring to what is held now; those without a price of their own go by the
    close of `bar`, the last one by then."""
    owed = []
    for column, settlement in settlements:
        coin_id = tape.instruments[column]
        holding = books.holdings.get(coin_id)
        if holding is None:
            continue
        price = settlement.mark_price
        if math.isnan(price) or price <= 0.0:
            price = float(tape.close[bar, column])
        amount = funding_cash(
            holding.quantity,
            count_of(price, PRICE_PARTS),
            count_of(settlement.rate, RATE_PARTS),
            holding.grid.step_num,
            holding.grid.step_den,
        )
        owed.append(Owed(coin_id, books.entries[coin_id], amount))
    return owed


def settle(books: Books, owed: Iterable[Owed]) -> None:
    """Book what settlements bring, to the round trips that they are of: open ones, or over by
    now."""
    for coin_id, entry, amount in owed:
        books.cash += amount
        books.funding += amount
        if books.entries.get(coin_id) is entry:
            books.round_funding[coin_id] = books.round_funding.get(coin_id, 0) + amount
            continue
        place = books.last_trades[coin_id]
        books.count(books.nets[place], -1)
        books.nets[place] += amount
        books.trade_funding[place] += amount
        books.count(books.nets[place])
        funding = books.trade_funding[place] / MONEY_UNITS
        books.trades[place] = replace(books.trades[place], funding=funding)
