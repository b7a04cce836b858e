"""A backtest: the analysis rows traded bar by bar through the functions of paper trading. Pure.

For every bar, in the order in which paper trading works off a bar run: exits on the bar, then the
signals of its close, filled at the next open, then the mark at its close. A signal exists where a
row differs from the row before (`changed_rows`). An opening that meets no valid next bar
is refused; a close waits for one. The last bar's signals have no next open and are not traded.

Funding is booked at the exchange's own settlements (`backtest_books`). An account whose equity does
not carry what it holds is liquidated at the open after a bar, where paper trading, which is marked
every two seconds, would have been at that price or before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from risk.assessment import Request, decide
from risk.facts import (
    HOUR_MS,
    InstrumentFacts,
    Surroundings,
    facts_at,
)
from trading import protection, simulator
from trading.accounting import is_liquidated, maintenance_margin, roll_marks
from trading.backtest_books import (
    Books,
    Entry,
    book,
    close_holding,
    owed_for,
    settle,
    settlements_by_bar,
)
from trading.holdings import Holding, marked_equity, marked_portfolio
from trading.orders import (
    Grid,
    OrderError,
    OrderRequest,
    execute,
    transition,
)
from trading.performance import DAY_MS, RoundTrip
from trading.simulator import MAKER
from trading.slippage import BPS
from trading.tape import Tape, Terms, largest_jumps, slippage_at
from trading.ticks import level_ticks

NO_QUOTE = "no_quote"
NO_LISTING = "no_listing"
STOPPED_OUT = "stopped_out"
NOT_COUNTABLE = "not_countable"
LIQUIDATION = "liquidation"
# A share of the exposure: what equity must keep of it, and a tick that is a fifth of a price.
SLACK = 0.25
PROGRESS_BARS = 500


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the run came to. Money in units; `equity[t]` is the mark at the close of bar t."""

    trades: list[RoundTrip]
    equity: list[int]
    exposure: list[int]  # gross, at the same marks
    cash: int
    fees: int
    funding: int  # received; negative: paid
    fill_count: int
    refusals: dict[str, int]
    open_holdings: tuple[Holding, ...]
    open_since: dict[str, int]  # epoch milliseconds, by coin id
    marks: dict[str, int]  # of what is open, ticks at the last close


def run_backtest(
    tape: Tape, terms: Terms, *, on_progress: Callable[[float], None] | None = None
) -> Outcome:
    """Trade the tape. `on_progress` hears the share done (0 to 1) and may raise to stop the run."""
    books = Books(
        cash=terms.initial_capital,
        high_water_mark=terms.initial_capital,
        day_start_equity=terms.initial_capital,
        day=int(tape.open_time[0]) // DAY_MS if len(tape.open_time) else 0,
    )
    bars = len(tape.open_time)
    due = settlements_by_bar(tape)
    jumps = largest_jumps(tape)
    for bar in range(bars):
        if on_progress is not None and bar % PROGRESS_BARS == 0:
            on_progress(bar / bars)
        settled = due.get(bar, ())
        if settled:
            close = int(tape.close_time[bar])
            inside = [row for row in settled if row[1].time < close]
            settle(books, owed_for(tape, books, inside, max(bar - 1, 0)))
            settled = settled[len(inside) :]
        _exit_on_bar(tape, terms, books, bar)
        owed = owed_for(tape, books, settled, bar) if settled else []
        if bar + 1 < bars:
            _follow_signals(tape, terms, books, bar, tape.changed[bar])
        _mark(tape, books, bar)
        settle(books, owed)
        if books.holdings and bar + 1 < bars:
            equity = books.equity[-1] + sum(each.amount for each in owed)
            # More than enough for whatever the next open brings: nothing to add up.
            if equity <= (SLACK + 1.5 * jumps[bar]) * books.exposure[-1]:
                _liquidate_if_due(tape, terms, books, bar)
    return Outcome(
        trades=books.trades,
        equity=books.equity,
        exposure=books.exposure,
        cash=books.cash,
        fees=books.fees,
        funding=books.funding,
        fill_count=books.fill_count,
        refusals=dict(books.refusals),
        open_holdings=tuple(books.holdings.values()),
        open_since={coin_id: entry.time for coin_id, entry in books.entries.items()},
        marks=_marks(tape, books, bars - 1) if bars else {},
    )


def _exit_on_bar(tape: Tape, terms: Terms, books: Books, bar: int) -> None:
    for column, coin_id in enumerate(tape.instruments):
        holding = books.holdings.get(coin_id)
        if holding is None or not tape.has_range[bar, column]:
            continue
        leg, match = _protective_exit(tape, terms, holding, bar, column)
        if leg == protection.NO_EXIT:
            continue
        if leg == protection.STOP_HIT:
            books.stopped[coin_id] = holding.direction
        reason = "stop_loss" if leg == protection.STOP_HIT else "take_profit"
        fee_ppm = terms.maker_fee_ppm if match.liquidity == MAKER else terms.fee_ppm
        close_holding(
            books,
            holding,
            strategy=terms.strategy,
            ticks=match.ticks,
            fee_ppm=fee_ppm,
            time=int(tape.close_time[bar]),
            reason=reason,
        )
        books.pending_closes.pop(coin_id, None)


def _protective_exit(
    tape: Tape, terms: Terms, holding: Holding, bar: int, column: int
) -> tuple[int, simulator.Match]:
    steps, opened = abs(holding.quantity), float(tape.open[bar, column])
    high, low = float(tape.high[bar, column]), float(tape.low[bar, column])
    leg, match = protection.protective_exit(
        holding.direction, steps, holding.stop_loss, holding.take_profit,
        opened, high, low, terms.slippage_bps, holding.grid,
    )  # fmt: skip
    if leg != protection.STOP_HIT:
        return leg, match
    # Only a stop takes; what it pays goes by the market as it was known at the open.
    time = int(tape.open_time[bar])
    bps = slippage_at(tape, terms, column, time, holding.grid, steps, opened)
    return protection.protective_exit(
        holding.direction, steps, holding.stop_loss, holding.take_profit,
        opened, high, low, bps, holding.grid,
    )  # fmt: skip


def _follow_signals(
    tape: Tape, terms: Terms, books: Books, bar: int, changed: NDArray[np.bool_]
) -> None:
    # Closes first: they free what the openings of the same close may use.
    due = [column for column in range(len(tape.instruments)) if changed[column]]
    due.sort(key=lambda column: (tape.direction[bar, column] != 0, tape.instruments[column]))
    for column, coin_id in enumerate(tape.instruments):
        if coin_id in books.pending_closes and not changed[column]:
            pending = books.pending_closes[coin_id]
            _close_at_next_open(tape, terms, books, bar, column, pending)
    for column in due:
        coin_id = tape.instruments[column]
        wanted = int(tape.direction[bar, column])
        if books.stopped.get(coin_id, wanted) != wanted:
            del books.stopped[coin_id]
        holding = books.holdings.get(coin_id)
        closes, opens = transition(holding.direction if holding else 0, wanted)
        books.pending_closes.pop(coin_id, None)
        if closes:
            reason = "flip" if opens else "signal"
            _close_at_next_open(tape, terms, books, bar, column, reason)
        if opens:
            _open_at_next_open(tape, terms, books, bar, column)


def _next_quote(tape: Tape, terms: Terms, bar: int, column: int) -> tuple[float, float] | None:
    if not tape.valid[bar + 1, column]:
        return None
    price = float(tape.open[bar + 1, column])
    half = price * terms.half_spread_bps / BPS
    return price - half, price + half


def _close_at_next_open(
    tape: Tape, terms: Terms, books: Books, bar: int, column: int, reason: str
) -> None:
    coin_id = tape.instruments[column]
    quote = _next_quote(tape, terms, bar, column)
    if quote is None or terms.listed(coin_id, int(tape.close_time[bar])) is None:
        books.pending_closes[coin_id] = LIQUIDATION if reason == LIQUIDATION else "signal"
        return
    books.pending_closes.pop(coin_id, None)
    holding = books.holdings[coin_id]
    steps = abs(holding.quantity)
    bps = slippage_at(
        tape,
        terms,
        column,
        int(tape.close_time[bar]),
        holding.grid,
        steps,
        _far(-holding.direction, quote),
    )
    ticks = _market_ticks(holding.grid, -holding.direction, quote, bps)
    close_holding(
        books,
        holding,
        strategy=terms.strategy,
        ticks=ticks,
        fee_ppm=terms.fee_ppm,
        time=int(tape.close_time[bar]),
        reason=reason,
    )


def _open_at_next_open(tape: Tape, terms: Terms, books: Books, bar: int, column: int) -> None:
    coin_id = tape.instruments[column]
    direction = int(tape.direction[bar, column])
    listed = terms.listed(coin_id, int(tape.close_time[bar]))
    if listed is None:
        books.refusals[NO_LISTING] += 1
        return
    grid = listed.grid
    if books.stopped.get(coin_id) == direction:
        books.refusals[STOPPED_OUT] += 1
        return
    quote = _next_quote(tape, terms, bar, column)
    if quote is None or coin_id in books.holdings:
        books.refusals[NO_QUOTE] += 1
        return
    ticks = _market_ticks(grid, direction, quote, terms.slippage_bps)
    request = Request(
        direction=direction,
        confidence=float(tape.confidence[bar, column]),
        price=grid.price(ticks),
        stop_loss=float(tape.stop_loss[bar, column]),
        take_profit=float(tape.take_profit[bar, column]),
        proposed_size=float(tape.position_size[bar, column]),
        step_notional=grid.step_notional(ticks),
        min_notional=listed.min_notional,
    )
    portfolio = marked_portfolio(
        cash=books.cash,
        holdings=books.holdings.values(),
        marks=_marks(tape, books, bar),
        high_water_mark=books.high_water_mark,
        day_start_equity=books.day_start_equity,
        record=books.record(),
    )
    surroundings = _surroundings(tape, terms, bar, {coin_id, *books.holdings})
    standing = portfolio.standing(coin_id, direction, surroundings)
    verdict = decide(request, standing, terms.limits)
    if not verdict.is_approved:
        books.refusals[verdict.reason] += 1
        return
    # What was asked about is the price of a small order; what is paid goes by the size.
    bps = slippage_at(
        tape, terms, column, int(tape.close_time[bar]), grid, verdict.steps, _far(direction, quote)
    )
    ticks = _market_ticks(grid, direction, quote, bps)
    try:
        order = OrderRequest(side=direction, steps=verdict.steps)
        execution = execute(
            order, quantity=0, total_cost=0, ticks=ticks, grid=grid, fee_ppm=terms.fee_ppm
        )
    except OrderError:
        books.refusals[NOT_COUNTABLE] += 1
        return
    book(books, execution)
    books.holdings[coin_id] = Holding(
        coin_id=coin_id,
        grid=grid,
        quantity=execution.quantity_after,
        total_cost=execution.cost_after,
        stop_loss=grid.nearest_price(verdict.stop_loss),
        take_profit=grid.nearest_price(verdict.take_profit),
    )
    books.entries[coin_id] = Entry(
        time=int(tape.close_time[bar]), price=grid.price(ticks), fee=execution.fee
    )


def _liquidate_if_due(tape: Tape, terms: Terms, books: Books, bar: int) -> None:
    """Close everything at the next open when the account's equity, marked there, does not carry it
    any more. Inside a bar nobody knows what all instruments stood at together."""
    equity, keep, held = books.cash, 0, []
    for column, coin_id in enumerate(tape.instruments):
        holding = books.holdings.get(coin_id)
        if holding is None:
            continue
        is_known = tape.valid[bar + 1, column]
        price = float(tape.open[bar + 1, column] if is_known else tape.close[bar, column])
        ticks = level_ticks(price, holding.grid.tick_num, holding.grid.tick_den)
        equity += holding.unrealised(ticks)
        keep += maintenance_margin(holding.exposure(ticks), terms.maintenance_ppm)
        held.append(column)
    if is_liquidated(equity, keep):
        for column in held:
            _close_at_next_open(tape, terms, books, bar, column, LIQUIDATION)


def _surroundings(tape: Tape, terms: Terms, bar: int, coin_ids: set[str]) -> Surroundings:
    """What risk knows of the market at the close of a bar."""
    moment = int(tape.close_time[bar]) // HOUR_MS * HOUR_MS
    facts: dict[str, InstrumentFacts] = {
        coin_id: facts_at(tape.hours, column, moment)
        for column, coin_id in enumerate(tape.hours.coin_ids)
        if coin_id in coin_ids
    }
    return Surroundings(facts=facts, sectors=terms.sectors)


def _far(side: int, quote: tuple[float, float]) -> float:
    return quote[1] if side > 0 else quote[0]


def _market_ticks(grid: Grid, side: int, quote: tuple[float, float], bps: float) -> int:
    return simulator.market_fill_ticks(side, quote[0], quote[1], bps, grid.tick_num, grid.tick_den)


def _marks(tape: Tape, books: Books, bar: int) -> dict[str, int]:
    marks = {}
    for column, coin_id in enumerate(tape.instruments):
        holding = books.holdings.get(coin_id)
        if holding is not None:
            marks[coin_id] = level_ticks(
                float(tape.close[bar, column]), holding.grid.tick_num, holding.grid.tick_den
            )
    return marks


def _mark(tape: Tape, books: Books, bar: int) -> None:
    marks = _marks(tape, books, bar)
    equity = marked_equity(cash=books.cash, holdings=books.holdings.values(), marks=marks)
    books.equity.append(equity)
    books.exposure.append(
        sum(abs(each.exposure(marks[each.coin_id])) for each in books.holdings.values())
    )
    books.high_water_mark, books.day_start_equity, books.day = roll_marks(
        equity,
        int(tape.close_time[bar]) // DAY_MS,
        books.high_water_mark,
        books.day_start_equity,
        books.day,
    )
