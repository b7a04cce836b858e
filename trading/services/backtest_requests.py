"""Backtests as they are asked for: what cannot be run is refused here, before it has a row.

BacktestError           the request cannot be run as it is; the message is for its author
└── NoDataError         no candles in the period (backfill, then ask again)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Min

from collectors import clock
from collectors.marketdata import duration, floor_time, last_closed
from collectors.models import Instrument, Ohlcv
from signals.parameters import ParameterError
from signals.registry import CONSENSUS, UnknownStrategy
from signals.selectors import NothingEnabled, WrongTimeframe, members_of
from trading.fields import to_units
from trading.models import Backtest

# Bars times instruments of one run. Reading and analysing takes at most about 700 bytes for each
# (measured with hourly bars on PostgreSQL), so a run stays near one gigabyte, which a worker on a
# small machine has: thirty instruments through five and a half years of hours.
MAX_CANDLES = 1_500_000

# Money is a 64-bit count of 1e-8 units, 92 billion at most: this leaves room for ninetyfold gains.
MAX_CAPITAL = Decimal(1_000_000_000)


class BacktestError(ValueError):
    """The request cannot be run as it is; `field` names the part of it that is wrong."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class NoDataError(BacktestError):
    """There are no candles in the period. Backfill them first."""


def create_backtest(
    *,
    strategy_name: str,
    instruments: Sequence[str],
    start: datetime,
    end: datetime,
    timeframe: str = "1h",
    initial_capital: Decimal | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Backtest:
    """Queue a backtest over the bars that open in [start, end).

    The period is cut to closed bars, and begins no earlier than the first stored candle of any of
    the instruments. Raises BacktestError.
    """
    chosen = _known(instruments)
    wanted = dict(parameters or {})
    _require_runnable(strategy_name, timeframe, wanted)
    if initial_capital is None:
        initial_capital = Decimal(str(settings.ENV.initial_capital))
    _require_countable(initial_capital)
    first, last = _stored_span(chosen, timeframe, start, end)
    return Backtest.objects.create(
        strategy_name=strategy_name,
        instruments=chosen,
        timeframe=timeframe,
        start_date=first,
        end_date=last,
        parameters=wanted,
        initial_capital=initial_capital,
        created_at=clock.wall_now(),
    )


def _known(instruments: Sequence[str]) -> list[str]:
    chosen = sorted(set(instruments))
    if not chosen:
        raise BacktestError("name at least one instrument", field="instruments")
    known = set(Instrument.objects.filter(coin_id__in=chosen).values_list("coin_id", flat=True))
    unknown = [coin_id for coin_id in chosen if coin_id not in known]
    if unknown:
        raise BacktestError(f"unknown instrument {', '.join(unknown)}", field="instruments")
    return chosen


def _require_runnable(strategy_name: str, timeframe: str, parameters: Mapping[str, Any]) -> None:
    """Find the strategies as the run will."""
    is_consensus = strategy_name == CONSENSUS
    for name, values in parameters.items() if is_consensus else ():
        if not isinstance(values, Mapping):
            raise BacktestError(f"{name}: not a table of parameters", field="parameters")
    try:
        duration(timeframe)
    except ValueError as error:
        raise BacktestError(str(error), field="timeframe") from None
    try:
        members_of(strategy_name=strategy_name, timeframe=timeframe, parameters=parameters or None)
    except WrongTimeframe as error:
        raise BacktestError(str(error), field="timeframe") from None
    except NothingEnabled as error:
        raise BacktestError(str(error), field="strategy_name") from None
    except ParameterError as error:
        raise BacktestError(str(error), field="parameters") from None
    except UnknownStrategy as error:
        # The consensus itself is known: what is not is a name among its parameters.
        field = "parameters" if is_consensus else "strategy_name"
        raise BacktestError(str(error), field=field) from None


def _require_countable(capital: Decimal) -> None:
    try:
        to_units(capital)
    except ValidationError as error:
        raise BacktestError(" ".join(error.messages), field="initial_capital") from None
    if not 0 < capital <= MAX_CAPITAL:
        raise BacktestError(
            f"{capital:f} is not above 0 and up to {MAX_CAPITAL:,}", field="initial_capital"
        )


def _stored_span(
    coin_ids: Sequence[str], timeframe: str, start: datetime, end: datetime
) -> tuple[datetime, datetime]:
    """The bars [first, last) of the period, from the first that is stored to the last closed."""
    step = duration(timeframe)
    period = f"from {start:%Y-%m-%d} to {end:%Y-%m-%d}"
    last = min(floor_time(end, timeframe), last_closed(clock.now(), timeframe) + step)
    if last - start < 2 * step:
        raise BacktestError(f"no two closed {timeframe} bars {period}", field="start_date")
    stored = Ohlcv.objects.filter(
        instrument__coin_id__in=coin_ids,
        timeframe=timeframe,
        open_time__gte=start,
        open_time__lt=last,
    )
    first = stored.aggregate(first=Min("open_time"))["first"]
    if first is None:
        raise NoDataError(
            f"no {timeframe} candles of {', '.join(coin_ids)} {period}", field="start_date"
        )
    bars = (last - first) // step
    if bars < 2:
        raise BacktestError(f"no two stored {timeframe} bars {period}", field="start_date")
    if bars * len(coin_ids) > MAX_CANDLES:
        raise BacktestError(
            f"{bars:,} bars of {len(coin_ids)} instruments are more than the "
            f"{MAX_CANDLES:,} candles of one run: shorten the period or name fewer",
            field="start_date",
        )
    return first, last
