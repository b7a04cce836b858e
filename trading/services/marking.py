"""Mark to market: what every account is worth now, and what follows from it.

Between two bars an account is marked at the middle of fresh quotes, else at the newest closes, for
what must not wait for a bar: limits that trip, liquidation, and the day that begins without any
event. The high-water mark, the day's start and the equity curve are those of closes alone, as in a
backtest: one quote's spike is no wealth that a drawdown could be counted from, and risk meets the
same figures in both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple

import structlog
from django.db.models import BigIntegerField, F, OuterRef, Subquery
from django.db.models.functions import Cast

from collectors import clock
from collectors.marketdata import duration
from collectors.models import Instrument, Ohlcv
from collectors.selectors import latest_quotes, symbols_at
from risk.declarations import BY_NAME
from risk.models import TradingState
from risk.portfolio import loss_fraction
from risk.selectors import limits_of
from trading.accounting import is_liquidated, maintenance_margin, notional, roll_marks
from trading.fields import from_units, to_units
from trading.holdings import marked_equity
from trading.models import Account, EquityPoint, Position
from trading.orders import MAINTENANCE_PPM, Grid
from trading.selectors import account_worth, holding_of, open_positions
from trading.services.accounts import locked_account
from trading.services.liquidation import liquidate_if_due
from trading.services.quotes import is_usable
from trading.services.trading_state import check_trips
from trading.ticks import level_ticks

log = structlog.get_logger(__name__)

# How long after midnight the bars that closed there have to roll the day. To be widened by the
# clock.
WAIT_FOR_BAR = timedelta(minutes=2)
# Smaller losses trip no limit, whatever it is set to.
LEAST_LOSS = min(BY_NAME[name].low for name in ("max_drawdown", "max_daily_loss"))

_grid = lru_cache(maxsize=4096)(Grid.of)


@dataclass(frozen=True, kw_only=True)
class Worth:
    """An account marked now, in money units. `maintenance` is what its equity must keep, `marks`
    are ticks by coin id, and those of `at_closes` had no fresh quote."""

    account_id: int
    equity: int
    gross_exposure: int
    maintenance: int
    marks: Mapping[str, int]
    at_closes: tuple[str, ...]


class _Held(NamedTuple):
    account_id: int
    cash: int
    exchange: str
    timeframe: str
    instrument_id: int
    coin_id: str
    quantity: int
    total_cost: int
    tick_size: str
    quantity_step: str


def mark_accounts() -> int:
    """Mark all accounts that hold something, and do what their worth asks for; begin the day of
    those where no bar did. Gives how many were marked. Reads Redis, so never in a transaction."""
    accounts = {row.pk: row for row in Account.objects.select_related("profile")}
    worths = live_worths()
    for account in accounts.values():
        try:
            _roll_day(account)
            if account.pk in worths:
                _act_on(account, worths[account.pk])
        except Exception:
            log.exception("mark_failed", account=account.pk)
    return len(worths)


def live_worths() -> dict[int, Worth]:
    """Every account with open positions as it is worth now, by its id; three or four queries and
    one look at Redis, however many there are."""
    held = _held()
    quoted = _middles(held)
    unquoted = {
        (row.timeframe, row.instrument_id)
        for row in held
        if (row.exchange, row.instrument_id) not in quoted
    }
    closes = _newest_closes(unquoted)
    by_account: defaultdict[int, list[_Held]] = defaultdict(list)
    for row in held:
        by_account[row.account_id].append(row)
    return {pk: _worth(rows, quoted, closes) for pk, rows in by_account.items()}


def record_mark(*, account: Account, at: datetime) -> int:
    """Mark an account at the closes of the bars that end at `at`: an equity point, the high-water
    mark, and the day; the equity in money units. Runs inside the account's lock.

    The first mark of a day is that day's start.
    """
    equity, exposure = account_worth(account=account, bar=at - duration(account.timeframe))
    EquityPoint.objects.update_or_create(
        account=account,
        at=at,
        defaults={
            "equity": from_units(equity),
            "cash": account.cash,
            "gross_exposure": from_units(exposure),
        },
    )
    high_water_mark, day_start, day = roll_marks(
        equity,
        at.astimezone(UTC).toordinal(),
        to_units(account.high_water_mark),
        to_units(account.day_start_equity),
        account.day.toordinal(),
    )
    account.high_water_mark = from_units(high_water_mark)
    account.day_start_equity = from_units(day_start)
    account.day = date.fromordinal(day)
    account.save(update_fields=["high_water_mark", "day_start_equity", "day"])
    return equity


# -- Reading -----------------------------------------------------------------------------------


def _held() -> list[_Held]:
    """Cash and open positions, from one statement: a fill changes both at once."""
    rows = Position.objects.exclude(quantity_steps=0).order_by("account", "pk")
    columns = rows.annotate(
        cash=Cast(F("account__cash"), BigIntegerField()),
        cost=Cast(F("total_cost"), BigIntegerField()),
    ).values_list(
        "account", "cash", "account__exchange", "account__timeframe", "instrument",
        "instrument__coin_id", "quantity_steps", "cost", "tick_size", "quantity_step",
    )  # fmt: skip
    return [_Held(*row) for row in columns]


def _middles(held: Iterable[_Held]) -> dict[tuple[str, int], float]:
    """The mid prices by (exchange, instrument) of those that have a fresh quote."""
    now = clock.now()
    wanted = {(row.exchange, row.instrument_id) for row in held}
    symbols = symbols_at(instrument_ids=[pk for _, pk in wanted], at=now)
    listed = [key for key in wanted if key in symbols]
    quotes = latest_quotes([(exchange, symbols[exchange, pk]) for exchange, pk in listed])
    return {
        key: (quote.best_bid + quote.best_ask) / 2.0
        for key, quote in zip(listed, quotes, strict=True)
        if quote is not None and is_usable(quote, since=None, now=now)
    }


def _newest_closes(wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], float]:
    """The newest closes by (timeframe, instrument), of those that have one."""
    by_timeframe: defaultdict[str, list[int]] = defaultdict(list)
    for timeframe, instrument_id in wanted:
        by_timeframe[timeframe].append(instrument_id)
    closes: dict[tuple[str, int], float] = {}
    for timeframe, ids in by_timeframe.items():
        candles = Ohlcv.objects.filter(instrument=OuterRef("pk"), timeframe=timeframe)
        newest = Subquery(candles.order_by("-open_time").values("close")[:1])
        rows = Instrument.objects.filter(pk__in=ids).order_by().values_list("pk", newest)
        closes |= {(timeframe, pk): close for pk, close in rows if close is not None}
    return closes


def _worth(
    rows: list[_Held],
    quoted: Mapping[tuple[str, int], float],
    closes: Mapping[tuple[str, int], float],
) -> Worth:
    equity, gross, maintenance = rows[0].cash, 0, 0
    rate = MAINTENANCE_PPM[rows[0].exchange]
    marks: dict[str, int] = {}
    at_closes: list[str] = []
    for row in rows:
        grid = _grid(row.tick_size, row.quantity_step)
        price = quoted.get((row.exchange, row.instrument_id))
        if price is None:
            at_closes.append(row.coin_id)
            price = closes.get((row.timeframe, row.instrument_id))
        if price is None:  # no candle at all: what it cost, as `Holding.cost_ticks`
            ticks = row.total_cost * grid.unit_den // (row.quantity * grid.unit_num)
        else:
            ticks = level_ticks(price, grid.tick_num, grid.tick_den)
        exposure = notional(row.quantity, ticks, grid.unit_num, grid.unit_den)
        equity += exposure - row.total_cost
        gross += abs(exposure)
        maintenance += maintenance_margin(exposure, rate)
        marks[row.coin_id] = ticks
    return Worth(
        account_id=rows[0].account_id,
        equity=equity,
        gross_exposure=gross,
        maintenance=maintenance,
        marks=marks,
        at_closes=tuple(at_closes),
    )


# -- What follows ------------------------------------------------------------------------------


def _act_on(account: Account, worth: Worth) -> None:
    if is_liquidated(worth.equity, worth.maintenance):
        liquidate_if_due(account_id=account.pk, marks=worth.marks)
    if account.profile.trading_state != TradingState.HALTED and _loses_too_much(account, worth):
        with locked_account(account.pk) as current:
            equity = _equity_at(current, worth.marks)
            if equity is not None:
                check_trips(account=current, equity=equity)


def _loses_too_much(account: Account, worth: Worth) -> bool:
    """A look without the lock; whoever trips looks again under it."""
    equity = float(worth.equity)
    drawdown = loss_fraction(equity, float(to_units(account.high_water_mark)))
    loss = loss_fraction(equity, float(to_units(account.day_start_equity)))
    if max(drawdown, loss) < LEAST_LOSS:
        return False
    limits = limits_of(profile=account.profile)
    return drawdown >= limits.max_drawdown or loss >= limits.max_daily_loss


def _equity_at(account: Account, marks: Mapping[str, int]) -> int | None:
    """What the account is worth at these marks now; None where something new has none."""
    holdings = [holding_of(position=row) for row in open_positions(account_id=account.pk)]
    if any(holding.coin_id not in marks for holding in holdings):
        return None
    return marked_equity(cash=to_units(account.cash), holdings=holdings, marks=marks)


def _roll_day(account: Account) -> None:
    """Begin the market day, where the bars that closed at its midnight did not."""
    now = clock.now()
    midnight = datetime.combine(now.astimezone(UTC).date(), time(), tzinfo=UTC)
    if account.day >= midnight.date() or now - midnight < clock.current().widen(WAIT_FOR_BAR):
        return
    with locked_account(account.pk) as current:
        if current.day < midnight.date():
            check_trips(account=current, equity=record_mark(account=current, at=midnight))
