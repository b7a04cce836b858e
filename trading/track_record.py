"""What can be read of how an account did: its trades and marks of a period, beside buy-and-hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from django.conf import settings
from django.db.models import BigIntegerField, Count, ExpressionWrapper, F, FloatField, Sum
from django.db.models.functions import Cast
from numpy.typing import NDArray

from collectors import clock
from collectors.marketdata import duration, floor_time, to_ms
from collectors.selectors import candle_history
from trading.benchmark import buy_and_hold
from trading.models import Account, EquityPoint, Fill, FundingPayment, Position, Trade
from trading.orders import MONEY_UNITS
from trading.performance import RoundTrip, measure_performance
from trading.roundtrips import TradeColumns, trade_columns

MOST_HELD = 50  # instruments that the benchmark holds
MOMENT = timedelta(milliseconds=1)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What trading cost in a period, of all fills, exact and in quote units."""

    fees: Decimal
    slippage: Decimal
    funding: Decimal  # paid; negative where it was received
    fill_count: int
    traded_notional: float


class Exact(NamedTuple):
    """A trade as the books have it: the quantity as text, money in units, its two moments.

    A cost that is not known is None.
    """

    quantity: str
    pnl: int
    fees: int
    slippage: int | None
    funding: int | None
    entered_at: datetime
    exited_at: datetime


@dataclass(frozen=True, kw_only=True)
class Period:
    """A time and the N trades that were closed in it, oldest first."""

    start: datetime
    end: datetime
    trades: list[RoundTrip]

    @property
    def start_ms(self) -> int:
        """The start in epoch milliseconds."""
        return to_ms(self.start)

    @property
    def end_ms(self) -> int:
        """The end in epoch milliseconds."""
        return to_ms(self.end)

    @cached_property
    def columns(self) -> TradeColumns:
        """The trades as columns."""
        return trade_columns(self.trades)


@dataclass(frozen=True, kw_only=True)
class TrackRecord(Period):
    """An account from `start` to `end`: the N trades that were closed in between, oldest first, and
    M marks after `start`.

    `exact` is what the books have of each trade beside it. `initial_capital` is the last mark up to
    `start`, at first the capital of the account.
    """

    account: Account
    initial_capital: Decimal
    exact: list[Exact]
    times: list[int]  # (M,) epoch milliseconds
    equity: list[Decimal]  # (M,)
    exposure: NDArray[np.float64]  # (M,) gross
    costs: Costs

    @property
    def timeframe(self) -> str:
        """The bars on which the account trades."""
        return self.account.timeframe

    @cached_property
    def marks(self) -> NDArray[np.float64]:
        """The equity (M,) as doubles."""
        return np.array(self.equity, dtype=np.float64)

    @cached_property
    def instruments(self) -> list[str]:
        """The coin ids that were traded in the period, the most traded first."""
        counts: dict[str, int] = {}
        for trade in self.trades:
            counts[trade.instrument] = counts.get(trade.instrument, 0) + 1
        held = Position.objects.filter(account=self.account).exclude(quantity_steps=0)
        for coin_id in held.values_list("instrument__coin_id", flat=True):
            counts.setdefault(coin_id, 0)
        return sorted(counts, key=lambda coin_id: (-counts[coin_id], coin_id))

    @cached_property
    def benchmark(self) -> NDArray[np.float64] | None:
        """What the capital would be worth at the marks (M,) in equal parts of what was traded, the
        50 most traded at most; None where nothing was, or has a price."""
        held = self.instruments[:MOST_HELD]
        if not held or not self.times:
            return None
        closes = np.empty((len(self.times), len(held)))
        known = np.empty(closes.shape, dtype=np.bool_)
        # One after the other: all columns of all of them at once would fill the memory.
        for number, coin_id in enumerate(held):
            closes[:, number], known[:, number] = self._closes(coin_id)
        if not known.any():
            return None
        return buy_and_hold(closes=closes, known=known, capital=float(self.initial_capital))

    def _closes(self, coin_id: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The newest close (M,) at each mark, and whether there is one in the period."""
        timeframe = self.account.timeframe
        candles = candle_history(
            instruments=[coin_id],
            timeframe=timeframe,
            start=floor_time(self.start, timeframe),
            end=floor_time(self.end, timeframe),
        )
        if not len(candles.open_time):
            return np.ones(len(self.times)), np.zeros(len(self.times), dtype=np.bool_)
        closed_at = candles.open_time + duration(timeframe) // MOMENT
        rows = np.searchsorted(closed_at, np.array(self.times), side="right") - 1
        chosen = np.maximum(rows, 0)
        known = np.logical_or.accumulate(candles.valid[:, 0])[chosen]
        return candles.close[chosen, 0], known & (rows >= 0)

    @cached_property
    def metrics(self) -> dict[str, float | int | None]:
        """Every metric of `trading.performance`."""
        benchmark = self.benchmark
        return measure_performance(
            trades=self.trades,
            times=self.times,
            equity=self.marks.tolist(),
            initial_capital=float(self.initial_capital),
            fees_paid=float(self.costs.fees),
            slippage_paid=float(self.costs.slippage),
            funding_paid=float(self.costs.funding),
            traded_notional=self.costs.traded_notional,
            exposure=self.exposure.tolist(),
            benchmark=None if benchmark is None else benchmark.tolist(),
            risk_free_rate=settings.ENV.risk_free_rate,
            columns=self.columns,
        )


def read_record(
    *, account_id: int, start: datetime | None = None, end: datetime | None = None
) -> TrackRecord:
    """The account's record of (start, end], from its making until now where they are not given.

    Raises Account.DoesNotExist, ValueError when the start is not before the end.
    """
    account = Account.objects.select_related("profile").get(pk=account_id)
    until = clock.now() if end is None else min(end, clock.now())
    since = account.created_at if start is None else max(start, account.created_at)
    if since > until or (start is not None and start >= until):
        raise ValueError(f"the period ends at {until.isoformat()}, before it begins")
    before = EquityPoint.objects.filter(account=account, at__lte=since).order_by("-at")
    first = None if start is None else before.values_list("equity", flat=True).first()
    # What is of the moment in which the account was made belongs to its life.
    after = since - MOMENT if start is None else since
    marks = list(
        EquityPoint.objects.filter(account=account, at__gt=after, at__lte=until)
        .order_by("at")
        .values_list("at", "equity", "gross_exposure")
    )
    trades, exact = _trades(account, after, until)
    return TrackRecord(
        account=account,
        start=since,
        end=until,
        initial_capital=account.initial_capital if first is None else first,
        trades=trades,
        exact=exact,
        times=[to_ms(at) for at, _, _ in marks],
        equity=[equity for _, equity, _ in marks],
        exposure=np.array([exposure for _, _, exposure in marks], dtype=np.float64),
        costs=_costs(account, after, until),
    )


def account_performance(*, account_id: int) -> dict[str, float | int | None]:
    """Every metric of `trading.performance` over the account's life. Raises
    Account.DoesNotExist."""
    return read_record(account_id=account_id).metrics


def _trades(
    account: Account, since: datetime, until: datetime
) -> tuple[list[RoundTrip], list[Exact]]:
    """By columns and money in units, because a year may have tens of thousands."""
    amounts = [
        ExpressionWrapper(F(name), output_field=BigIntegerField())
        for name in ("pnl", "fees", "slippage", "funding")
    ]
    rows = (
        Trade.objects.filter(account=account, exited_at__gt=since, exited_at__lte=until)
        .order_by("exited_at", "id")
        .values_list(
            "instrument__coin_id", "strategy", "direction", "entry_price", "exit_price",
            "exit_reason", "quantity", *amounts, "entered_at", "exited_at",
        )
    )  # fmt: skip
    trades, exact = [], []
    for coin_id, strategy, direction, entry_price, exit_price, reason, *rest in rows:
        books = Exact(*rest)
        trades.append(
            RoundTrip(
                instrument=coin_id,
                strategy=strategy,
                direction=direction,
                quantity=float(books.quantity),
                entry_price=entry_price,
                exit_price=exit_price,
                pnl=books.pnl / MONEY_UNITS,
                fees=books.fees / MONEY_UNITS,
                slippage=(books.slippage or 0) / MONEY_UNITS,
                funding=(books.funding or 0) / MONEY_UNITS,
                entered_at=_ms(books.entered_at),
                exited_at=_ms(books.exited_at),
                exit_reason=reason,
            )
        )
        exact.append(books)
    return trades, exact


def _ms(moment: datetime) -> int:
    # As `to_ms`, in a third of the time; the second's part of a timestamp is exact.
    return int(moment.timestamp() // 1) * 1000 + moment.microsecond // 1000


def _costs(account: Account, since: datetime, until: datetime) -> Costs:
    fills = Fill.objects.filter(account=account, at__gt=since, at__lte=until)
    sums: dict[str, Any] = fills.aggregate(
        fees=Sum("fee"), slippage=Sum("slippage"), count=Count("pk")
    )
    settled = FundingPayment.objects.filter(account=account, at__gt=since, at__lte=until)
    received = settled.aggregate(total=Sum("amount"))["total"]
    worth = Sum(Cast(F("price_ticks") * F("quantity_steps"), FloatField()))
    grids = fills.values("order__tick_size", "order__quantity_step").annotate(worth=worth)
    return Costs(
        fees=sums["fees"] or Decimal(0),
        slippage=sums["slippage"] or Decimal(0),
        funding=-(received or Decimal(0)),
        fill_count=sums["count"],
        traded_notional=sum(
            row["worth"] * float(row["order__tick_size"]) * float(row["order__quantity_step"])
            for row in grids.order_by()
        ),
    )
