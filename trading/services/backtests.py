"""Backtests as rows: run under a lease, finished by whoever still holds it.

LeaseLostError          another worker took over, or somebody cancelled; write nothing
"""

from __future__ import annotations

import itertools
import math
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import numpy as np
import structlog
from django.conf import settings
from django.db.models import DateTimeField, ExpressionWrapper, F, Q, Value
from django.db.models.functions import Now

from collectors import clock
from collectors.marketdata import duration, floor_time, from_ms, to_ms
from collectors.models import FundingRate, Instrument
from collectors.renewal import renewing
from risk.facts import LEAD_HOURS
from risk.limits import STATE_ACTIVE
from risk.models import RiskProfile
from risk.selectors import limits_of, read_hours
from signals.selectors import HistoryRun, analyse_history
from signals.strategy import StrategyError
from trading.backtest import Outcome, run_backtest
from trading.backtest_record import record_of
from trading.benchmark import buy_and_hold
from trading.fields import from_units, to_units
from trading.models import Account, Backtest, BacktestState
from trading.orders import MAINTENANCE_PPM, MAKER_FEE_PPM, MONEY_UNITS, TAKER_FEE_PPM, OrderError
from trading.performance import DAY_MS, by_group, measure_performance
from trading.services.accounts import PAPER
from trading.services.backtest_requests import NoDataError
from trading.services.venues import venue_of
from trading.tape import Listed, Settlement, Tape, Terms, changed_rows

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=30)
RENEW_SECONDS = 10.0
EXCHANGE = "binance"
UNFINISHED = (BacktestState.QUEUED, BacktestState.RUNNING)


class LeaseLostError(Exception):
    """The run is not ours any more; its result must not be written."""


def expired_backtests() -> list[int]:
    """The backtests that nobody works on.

    A queued one is given a lease, so it is offered again only when no worker has taken it for
    30 s. One whose worker is gone is offered at every call until another takes it; the claim lets
    only one of them run it.
    """
    free = Q(leased_until__isnull=True) | Q(leased_until__lt=Now())
    offered = []
    for backtest_id in Backtest.objects.filter(free, state__in=UNFINISHED).values_list(
        "pk", flat=True
    ):
        queued = Backtest.objects.filter(free, pk=backtest_id, state=BacktestState.QUEUED)
        is_abandoned = Backtest.objects.filter(
            free, pk=backtest_id, state=BacktestState.RUNNING
        ).exists()
        if is_abandoned or queued.update(leased_until=_lease_end()):
            offered.append(backtest_id)
    return offered


def cancel_backtest(*, backtest_id: int) -> bool:
    """Cancel what is not finished; whoever runs it stops at its next renewal."""
    cancelled = Backtest.objects.filter(pk=backtest_id, state__in=UNFINISHED).update(
        state=BacktestState.CANCELLED, finished_at=clock.wall_now()
    )
    return cancelled == 1


def run_inline(*, backtest_id: int) -> Backtest:
    """Run a queued backtest here and now. Raises what makes it fail, after storing it."""
    _execute(backtest_id)
    return Backtest.objects.get(pk=backtest_id)


def execute_backtest(*, backtest_id: int) -> None:
    """Run a backtest if nobody else does; what makes it fail is stored in its row."""
    try:
        _execute(backtest_id)
    except (ValueError, StrategyError, OrderError) as error:
        log.warning("backtest_failed", backtest=backtest_id, error=str(error))


def _execute(backtest_id: int) -> None:
    attempt = _claim(backtest_id)
    if attempt is None:
        return
    backtest = Backtest.objects.get(pk=backtest_id)
    try:
        with _lease_kept(backtest_id, attempt):
            fields = _compute(backtest, attempt)
        _finish(
            backtest_id, attempt, state=BacktestState.DONE, progress_pct=100.0, error="", **fields
        )
    except LeaseLostError:
        log.info("backtest_lease_lost", backtest=backtest_id, attempt=attempt)
        return
    except Exception as error:
        _finish(
            backtest_id,
            attempt,
            state=BacktestState.FAILED,
            error=f"{type(error).__name__}: {error}"[:300],
        )
        raise


def _compute(backtest: Backtest, attempt: int) -> dict[str, Any]:
    step = duration(backtest.timeframe)
    # One bar more than asked for: whether the first row is a signal depends on the row before.
    run = analyse_history(
        strategy_name=backtest.strategy_name,
        coin_ids=list(backtest.instruments),
        timeframe=backtest.timeframe,
        start=backtest.start_date - step,
        end=backtest.end_date,
        parameters=backtest.parameters or None,
    )
    tape = _tape(run, step, backtest)
    if not tape.valid.any():
        raise NoDataError(
            f"no candles of {', '.join(backtest.instruments)} from "
            f"{backtest.start_date:%Y-%m-%d} to {backtest.end_date:%Y-%m-%d}",
            field="instruments",
        )
    terms = _terms(backtest)

    def report(share: float) -> None:
        renewed = _held(backtest.pk, attempt).update(
            leased_until=_lease_end(), progress_pct=round(100.0 * share, 1)
        )
        if not renewed:
            raise LeaseLostError

    outcome = run_backtest(tape, terms, on_progress=report)
    return _result_fields(backtest, run, tape, terms, outcome)


def _tape(run: HistoryRun, step: timedelta, backtest: Backtest) -> Tape:
    market, analysis = run.market, run.analysis
    step_ms = step // timedelta(milliseconds=1)
    changed = changed_rows(analysis.direction, analysis.stop_loss)
    return Tape(
        instruments=market.instruments,
        open_time=market.open_time[1:],
        close_time=market.open_time[1:] + np.int64(step_ms),
        open=market.open[1:],
        high=market.high[1:],
        low=market.low[1:],
        close=market.close[1:],
        valid=market.valid[1:],
        has_range=market.valid[1:] & ~run.sampled[1:],
        changed=changed[1:],
        direction=analysis.direction[1:],
        confidence=analysis.confidence[1:],
        stop_loss=analysis.stop_loss[1:],
        take_profit=analysis.take_profit[1:],
        position_size=analysis.position_size[1:],
        hours=read_hours(
            coin_ids=market.instruments,
            start=floor_time(backtest.start_date, "1h") - LEAD_HOURS * timedelta(hours=1),
            end=backtest.end_date,
        ),
        funding=_settlements(market.instruments, _exchange(_paper()), backtest),
    )


def _settlements(
    coin_ids: Sequence[str], exchange: str, backtest: Backtest
) -> dict[str, list[Settlement]]:
    """The exchange's funding settlements within the run, by coin id, oldest first."""
    rows = FundingRate.objects.filter(
        instrument__coin_id__in=coin_ids,
        exchange=exchange,
        funding_time__gt=backtest.start_date,
        funding_time__lte=backtest.end_date,
    ).order_by("funding_time")
    found: dict[str, list[Settlement]] = {}
    for coin_id, moment, rate, mark_price in rows.values_list(
        "instrument__coin_id", "funding_time", "rate", "mark_price"
    ):
        price = math.nan if mark_price is None else mark_price
        found.setdefault(coin_id, []).append(Settlement(to_ms(moment), rate, price))
    return found


def _paper() -> Account | None:
    return Account.objects.filter(name=PAPER).select_related("profile").first()


def _exchange(account: Account | None) -> str:
    return account.exchange if account else EXCHANGE


def _terms(backtest: Backtest) -> Terms:
    """The paper account's limits (the defaults before it exists) and the venue's listings."""
    account = _paper()
    profile = account.profile if account else RiskProfile()
    exchange = _exchange(account)
    instruments = Instrument.objects.filter(coin_id__in=backtest.instruments)
    return Terms(
        strategy=backtest.strategy_name,
        initial_capital=to_units(backtest.initial_capital),
        limits=limits_of(profile=profile, strategy=backtest.strategy_name)._replace(
            trading_state=STATE_ACTIVE
        ),
        listings={
            instrument.coin_id: _listings(instrument, exchange, backtest)
            for instrument in instruments.prefetch_related("listings")
        },
        fee_ppm=TAKER_FEE_PPM[exchange],
        maker_fee_ppm=MAKER_FEE_PPM[exchange],
        maintenance_ppm=MAINTENANCE_PPM[exchange],
        sectors={instrument.coin_id: instrument.sector for instrument in instruments},
    )


def _listings(instrument: Instrument, exchange: str, backtest: Backtest) -> list[Listed]:
    """The instrument's grids through the run: asked for wherever a listing begins or ends."""
    start, end = backtest.start_date, backtest.end_date
    bounds = {
        moment
        for listing in instrument.listings.all()
        for moment in (listing.valid_from, listing.valid_to)
        if moment is not None and start < moment < end
    }
    listings = []
    for since, until in itertools.pairwise([start, *sorted(bounds), end]):
        venue = venue_of(instrument=instrument, exchange=exchange, at=since)
        if venue is not None:
            listings.append(
                Listed(
                    since=to_ms(since),
                    until=to_ms(until),
                    grid=venue.grid,
                    min_notional=venue.min_notional,
                )
            )
    return listings


def _result_fields(
    backtest: Backtest, run: HistoryRun, tape: Tape, terms: Terms, outcome: Outcome
) -> dict[str, Any]:
    times = tape.close_time.tolist()
    equity = [value / MONEY_UNITS for value in outcome.equity]
    held = buy_and_hold(
        closes=tape.close, known=tape.valid, capital=float(backtest.initial_capital)
    )
    metrics: dict[str, Any] = measure_performance(
        trades=outcome.trades,
        times=times,
        equity=equity,
        initial_capital=float(backtest.initial_capital),
        fees_paid=outcome.fees / MONEY_UNITS,
        funding_paid=-outcome.funding / MONEY_UNITS,
        exposure=[value / MONEY_UNITS for value in outcome.exposure],
        benchmark=held.tolist(),
        risk_free_rate=settings.ENV.risk_free_rate,
    )
    result = {
        "final_value": from_units(outcome.equity[-1]),
        "total_return": metrics["total_return"],
        "sharpe_ratio": metrics["sharpe_ratio"],
        "max_drawdown": metrics["max_drawdown"],
        "trade_count": metrics["trade_count"],
        "revisions": dict(run.revisions),
    }
    daily = {(time - 1) // DAY_MS: (time, value) for time, value in zip(times, equity, strict=True)}
    metrics |= {
        # A run knows slippage as part of its prices only.
        "slippage_paid": None,
        "bars": len(times),
        "fill_count": outcome.fill_count,
        "refusals": outcome.refusals,
        "open_positions": len(outcome.open_holdings),
        "by_instrument": by_group(outcome.trades, "instrument"),
        "by_exit_reason": by_group(outcome.trades, "exit_reason"),
        "fee_ppm": terms.fee_ppm,
        "maker_fee_ppm": terms.maker_fee_ppm,
        "half_spread_bps": terms.half_spread_bps,
        "slippage_bps": terms.slippage_bps,
        "limits": terms.limits._asdict(),
        "daily_equity": [
            [from_ms(time).isoformat(), round(value, 8)] for time, value in daily.values()
        ],
    }
    record = record_of(
        outcome, times=times, equity=equity, benchmark=held, strategy=backtest.strategy_name
    )
    return {**result, "metrics": metrics, "record": record}


# -- The lease ---------------------------------------------------------------------------------


def _lease_end() -> Any:
    """Half a minute from now by the database's clock, the only one that all workers share."""
    return ExpressionWrapper(Now() + Value(LEASE), output_field=DateTimeField())


def _claim(backtest_id: int) -> int | None:
    """Take the backtest if it is free; the number of our attempt, or None."""
    free = Q(state=BacktestState.QUEUED) | Q(state=BacktestState.RUNNING, leased_until__lt=Now())
    owner = f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"[-64:]
    taken = Backtest.objects.filter(free, pk=backtest_id).update(
        state=BacktestState.RUNNING,
        owner=owner,
        attempt=F("attempt") + 1,
        leased_until=_lease_end(),
    )
    if not taken:
        return None
    row = Backtest.objects.filter(pk=backtest_id, owner=owner, state=BacktestState.RUNNING)
    return row.values_list("attempt", flat=True).first()


def _held(backtest_id: int, attempt: int) -> Any:
    return Backtest.objects.filter(pk=backtest_id, attempt=attempt, state=BacktestState.RUNNING)


def _finish(backtest_id: int, attempt: int, **fields: Any) -> None:
    written = _held(backtest_id, attempt).update(
        finished_at=clock.wall_now(), leased_until=None, **fields
    )
    if not written:
        log.info("backtest_lease_lost", backtest=backtest_id, attempt=attempt)


def _lease_kept(backtest_id: int, attempt: int) -> AbstractContextManager[None]:
    """Renew the lease from a thread: the analysis of long history reports no progress itself."""
    return renewing(
        lambda: _held(backtest_id, attempt).update(leased_until=_lease_end()),
        every_s=RENEW_SECONDS,
        name=f"lease-{backtest_id}",
    )
